"""Arguments that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_mmm4rec.base.errors import UserError, did_you_mean

TABLE_FILES = (
    ".csv, .tsv or .txt (TAB separated, nothing quoted), .jsonl or .json (an object a line), each also .gz; .parquet"
)


def add_set(parser: argparse.ArgumentParser) -> None:
    """Adds the data set that a command works on."""
    parser.add_argument("name", help="name of the data set")
    _add_out(parser)
    parser.set_defaults(makes=False)


def add_output(
    parser: argparse.ArgumentParser,
    name_help: str = "name of the data set",
    default: str | None = None,
    required: bool = True,
) -> None:
    """Adds the data set that a command makes.

    Args:
        parser: of the command.
        name_help: what the help says of its name.
        default: the name that it gets where none is given.
        required: whether a name must be given, without a default.
    """
    parser.add_argument("--name", required=required and default is None, default=default, help=name_help)
    _add_out(parser)
    parser.add_argument("--force", action="store_true", help="replace another data set of this name")
    parser.set_defaults(makes=True)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("dataset"), help="folder of data sets (default: dataset)")


def add_images(parser: argparse.ArgumentParser) -> None:
    """Adds the folder of pictures."""
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of pictures, each named by its item's id")


def add_columns(parser: argparse.ArgumentParser, known: Sequence[str]) -> None:
    """Adds what columns are called, for :func:`parse_columns`."""
    parser.add_argument("--columns", default="", metavar="NAME=COLUMN,...", help=f"{', '.join(known)} are known")


def parse_columns(text: str, known: Sequence[str], optional: Sequence[str] = ()) -> dict[str, str]:
    """Column names in the files by our names, from ``user_id=customer,text=title``; what is not named keeps its name.

    Those of ``known`` that are ``optional`` are there only if named.

    Raises:
        UserError: a part without "=", an unknown name, or one given twice.
    """
    given: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        ours, equals, theirs = part.partition("=")
        if not equals or not theirs:
            raise UserError(f"--columns '{part}': write NAME=COLUMN, for example {known[0]}=customer")
        if ours not in known:
            raise UserError(f"--columns '{part}': choose from {', '.join(known)}{did_you_mean(ours, known)}")
        if ours in given:
            raise UserError(f"--columns '{part}': {ours} is given twice")
        given[ours] = theirs
    return {name: given.get(name, name) for name in known if name in given or name not in optional}
