"""What processes that share a study know of each other, and how they write it."""
