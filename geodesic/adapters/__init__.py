"""Models that were made elsewhere: wrapped, filled with their weights, imported by name."""
