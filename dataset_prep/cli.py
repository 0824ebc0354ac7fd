"""The command line: arguments in, functions called, one line of error out."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from recbole_mmm4rec.base.command_line import Parser, ended
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import no_room
from recbole_mmm4rec.base.locks import alone
from recbole_mmm4rec.base.texts import check_set_name

EXAMPLES = """examples:
  %(prog)s recbole ml-100k
  %(prog)s table --interactions ratings.csv --items movies.csv --name movies \\
      --columns user_id=userId,item_id=movieId,text=title
  %(prog)s sequences --sequences sequences.tsv.gz --items items.tsv.gz --name scientific
  %(prog)s amazon --reviews Office_Products.json.gz --meta meta_Office_Products.json.gz --name office
  %(prog)s embed ml-100k
  %(prog)s images shop && %(prog)s embed shop --image-encoder
"""
COMMANDS = {
    "recbole": ("dataset_prep.sources.recbole_sets", "copy a data set that comes with recbole, with item texts"),
    "table": ("dataset_prep.sources.table", "interactions and items from CSV, TSV, JSON lines or Parquet"),
    "sequences": ("dataset_prep.sources.sequences", "item sequences, a line a user"),
    "amazon": ("dataset_prep.sources.amazon.command", "Amazon's review data sets of 2014, 2018 and 2023"),
    "demo": ("dataset_prep.sources.demo.command", "a small synthetic shop with pictures"),
    "merge": ("dataset_prep.sources.merge.command", "several data sets as one, for pre-training"),
    "images": ("dataset_prep.images.command", "fetch the pictures that column 'image' of a data set's items names"),
    "embed": ("dataset_prep.embed.command", "cache embeddings of a data set's item texts and pictures"),
    "vectors": ("dataset_prep.vectors.command", "vectors of texts and pictures that you have"),
    "inspect": ("dataset_prep.inspect.command", "counts, gaps and duplicates of a data set, and a page to look at"),
}
"""Command → the module that has its ``add_arguments``, and a line of help; only the one asked for is imported."""


def build_parser(asked: str | None, prog: str = "python -m dataset_prep") -> argparse.ArgumentParser:
    """The parser with all subcommands.

    Args:
        asked: the subcommand whose arguments are needed; it sets ``run``, a function of the parsed arguments.
        prog: what the user has typed before them.
    """
    parser = Parser(
        prog=prog,
        description="Make data sets for RecBole and cache embeddings of their items.",
        epilog=EXAMPLES,
    )
    subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name, (module, help_line) in COMMANDS.items():
        subparser = subcommands.add_parser(name, help=help_line, description=help_line[0].upper() + help_line[1:] + ".")
        if name == asked:
            import_module(module).add_arguments(subparser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "python -m dataset_prep") -> int:
    """Runs a subcommand.

    Args:
        argv: arguments; None for the process's own.
        prog: what the user has typed before them.

    Returns:
        Exit status: 0, 2 for a mistake of the user's, 130 when interrupted, 143 when ended by SIGTERM.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    return ended(
        lambda: _run(given, prog), lambda: "the same command goes on", prog=prog, terminable=True, kill_safe=True
    )


def _run(given: Sequence[str], prog: str) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    asked = next((argument for argument in given if not argument.startswith("-")), None)
    arguments = build_parser(asked, prog).parse_args(given)
    name = arguments.name if arguments.name is not None else arguments.set
    if name is None:
        raise UserError("--name is missing: what the data set is called")
    if arguments.makes:
        check_set_name(name)
    folder = arguments.out / name
    # One command at a time on a data set. What works on one that is not there says so itself.
    claim = alone(folder, "dataset_prep", str(folder)) if arguments.makes or folder.is_dir() else nullcontext()
    try:
        with claim:
            said = arguments.run(arguments)
    except OSError as error:  # full disk, no permission: the files in place are as they were
        reason = no_room(error)
        message = f"{error.filename or folder}: {reason or error.strerror or error}"
        raise UserError(message + ("; make room, then the same command again" if reason else "")) from None
    try:
        print(said, flush=True)
    except BrokenPipeError:  # nobody reads it any more; the work is done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python's own flush at the end would tell it
    return 0
