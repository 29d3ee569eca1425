"""What solvers.py is made of: problems, methods, measures, and a module for each section."""
