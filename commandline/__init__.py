"""How the command line is read, explained and completed; ``cli`` puts it together."""
