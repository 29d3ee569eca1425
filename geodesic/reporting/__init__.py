"""One page that says whether geodesics matter."""
