"""What the commands `curvature`, `mean` and `transport` compute, write and draw: from settings to a run folder."""
