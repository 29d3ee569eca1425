"""What is measured: output geometries, manifolds, paths and their energy. No networks, no loops."""
