"""Pictures of answers: what they hold, as arrays, for `geodesic.pictures` to draw."""
