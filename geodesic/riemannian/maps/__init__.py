"""The exponential and logarithm maps."""
