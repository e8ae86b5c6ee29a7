"""The command line: ``python -m skhash``."""

import sys

from .search._command import main

if __name__ == "__main__":  # processes that read photos import this module, too
    sys.exit(main())
