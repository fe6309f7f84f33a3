"""Where candidates are evaluated: in this process, in others of this machine, on a cluster."""
