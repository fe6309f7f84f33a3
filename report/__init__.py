"""What runs have found, on one page: reads the files of finished folders, and knows no room but ``space``."""
