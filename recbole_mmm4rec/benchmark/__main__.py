"""``python -m recbole_mmm4rec.benchmark``: the former name of ``python -m recbole_mmm4rec.compare``."""

from __future__ import annotations

import sys

from recbole_mmm4rec.compare.__main__ import main

if __name__ == "__main__":
    print("hint: this command is called python -m recbole_mmm4rec.compare now", file=sys.stderr)
    sys.exit(main())
