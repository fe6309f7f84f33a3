"""How the command line is read, explained and completed, and the program's process; ``cli`` puts it together."""
