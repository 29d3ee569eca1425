"""Means, clusters, principal geodesics, regression and distributions."""
