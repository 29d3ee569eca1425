"""Distances on disk: a folder that is filled chunk by chunk, by one process or many, and survives all of them."""
