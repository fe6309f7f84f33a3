"""Networks that are no ``Architecture``: each a builder of (depth, width, resolution)."""
