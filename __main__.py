"""``python -m effnas``: the command line, for ``torchrun -m effnas`` too."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
