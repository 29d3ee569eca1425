"""Solvers side by side: problems, methods, measures, and a module for each section."""
