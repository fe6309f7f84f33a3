"""What runs a network: devices, fast settings and their cost in time and memory."""
