"""One measurement in a process of its own: `python -m benchmarks.cell SUITE CELL OPTIONS RESULT`, for the harness.

OPTIONS is JSON; the result goes to the file RESULT as JSON. Exit 2 with one line for a user's mistake.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import suite
from recbole_mmm4rec.base.errors import UserError


def main(name: str, cell: str, options: str, result: str) -> int:
    """Measure and write."""
    try:
        found = suite.load(name).measure(suite.Options(**json.loads(options)), cell)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Path(result).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
