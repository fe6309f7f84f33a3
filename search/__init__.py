"""Which network next."""
