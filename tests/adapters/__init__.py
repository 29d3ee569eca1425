"""Adapters on the real libraries: `make adapters`."""
