"""What functions of the user can do and may not do, found out before anything relies on them."""
