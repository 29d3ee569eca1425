"""Pictures, made from arrays only."""
