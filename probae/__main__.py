"""`python -m probae`: the command line."""

import sys

from probae.cli import main

if __name__ == "__main__":
    sys.exit(main())
