"""One file a format: what writes it, and what runs it."""
