"""How a geodesic is found: the driver, its answer, and the methods that improve a path."""
