"""Numerical methods that know tensors only, no manifold."""
