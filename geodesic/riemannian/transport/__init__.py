"""Vectors carried along curves."""
