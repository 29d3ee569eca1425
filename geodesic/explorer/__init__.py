"""The explorer: a page on which a geodesic follows the ends that are dragged, in a browser or a notebook."""
