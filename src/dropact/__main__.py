"""`python -m dropact` is the command `dropact`."""

import sys

from dropact.cli import main

if __name__ == "__main__":
    sys.exit(main())
