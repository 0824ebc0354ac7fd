"""Train and test any RecBole model, MMM4Rec among them: ``python run_recbole.py --help``."""

from __future__ import annotations

import sys

import recbole_mmm4rec  # noqa: F401  spawned processes import this file, and with it the plug-in
from recbole_mmm4rec.run.cli import main

if __name__ == "__main__":
    sys.exit(main())
