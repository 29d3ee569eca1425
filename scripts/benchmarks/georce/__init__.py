"""GEORCE against the solvers of this library: the method, metrics, measurements, and the command."""
