"""Entry point of ``python -m dataset_prep``."""

import sys

from dataset_prep.cli import main

if __name__ == "__main__":
    sys.exit(main())
