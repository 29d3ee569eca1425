"""`python -m geodesic` is the command line."""

from geodesic.cli import main

if __name__ == "__main__":
    main()
