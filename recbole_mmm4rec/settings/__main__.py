"""``python -m recbole_mmm4rec.settings``: are the files made of the rows up to date? ``--write`` makes them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recbole_mmm4rec.settings.table import files


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; ``sys.argv``'s by default.

    Returns:
        0; 1 where a file is out of date and ``--write`` is not given; 2 for another argument.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments not in ([], ["--write"]):
        print(f"error: {' '.join(arguments)}: the only argument is --write", file=sys.stderr)
        return 2
    old = [path for path, text in files().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in old:
        if arguments:
            path.write_text(files()[path], encoding="utf-8")
        print(f"{path}: {'written' if arguments else 'out of date; --write makes it anew'}")
    return 1 if old and not arguments else 0


if __name__ == "__main__":
    raise SystemExit(main())
