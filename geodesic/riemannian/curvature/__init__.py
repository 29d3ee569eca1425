"""Curvature of a latent space, what its metric says at a point, and Jacobi fields."""
