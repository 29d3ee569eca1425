"""Experiments: settings, run folders, tables and studies on top of the library."""
