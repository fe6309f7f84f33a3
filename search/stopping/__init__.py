"""When to stop a candidate and whom to let go on: rungs, learning curves, checkpoints; and when to give a search up."""
