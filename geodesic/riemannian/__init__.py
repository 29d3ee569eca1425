"""What geodesics are for: maps, distances, transport, statistics, curvature."""
