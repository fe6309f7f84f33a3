"""The parts of the page, one file each: what a run's files say, as text, tables and figures."""
