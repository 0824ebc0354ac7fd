"""The command line: arguments in, functions called, one line of error out."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from dataset_prep.embed import command as embed_command
from dataset_prep.files.times import PER_SECOND
from dataset_prep.filters.arguments import add_filters, filters_of
from dataset_prep.images import command as images_command
from dataset_prep.inspect import command as inspect_set
from dataset_prep.sources import sequences, table
from dataset_prep.sources.amazon import command as amazon
from dataset_prep.sources.demo import command as demo
from dataset_prep.sources.merge import command as merge
from recbole_mmm4rec.base.command_line import Parser, ended
from recbole_mmm4rec.base.errors import UserError, did_you_mean

EXAMPLES = """examples:
  python -m dataset_prep recbole ml-100k
  python -m dataset_prep table --interactions ratings.csv --items movies.csv --name movies \\
      --columns user_id=userId,item_id=movieId,text=title
  python -m dataset_prep sequences --sequences sequences.tsv.gz --items items.tsv.gz --name scientific
  python -m dataset_prep amazon --reviews Office_Products.json.gz --meta meta_Office_Products.json.gz --name office
  python -m dataset_prep embed ml-100k
  python -m dataset_prep images shop && python -m dataset_prep embed shop --image-encoder
"""
TABLE_FILES = (
    ".csv, .tsv or .txt (TAB separated, nothing quoted), .jsonl or .json (an object a line), each also .gz; .parquet"
)


def build_parser(prog: str = "python -m dataset_prep") -> argparse.ArgumentParser:
    """The parser with all subcommands; each sets ``run``, a function of the parsed arguments."""
    parser = Parser(
        prog=prog,
        description="Make data sets for RecBole and cache embeddings of their items.",
        epilog=EXAMPLES,
    )
    subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name, help_line, add in (
        ("recbole", "copy a data set that comes with recbole, with item texts", _add_recbole),
        ("table", "interactions and items from CSV, TSV, JSON lines or Parquet", _add_table),
        ("sequences", "item sequences, a line a user", _add_sequences),
    ):
        subparser = subcommands.add_parser(
            name,
            help=help_line,
            description=help_line[0].upper() + help_line[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add(subparser)
    for module in (amazon, demo, merge, images_command, embed_command, inspect_set):
        module.add_parser(subcommands)
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "python -m dataset_prep") -> int:
    """Runs a subcommand.

    Args:
        argv: arguments; None for the process's own.
        prog: what the user has typed before them.

    Returns:
        Exit status: 0, 2 for a mistake of the user's, 130 when interrupted.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    arguments = build_parser(prog).parse_args(argv)
    return ended(lambda: _told(arguments), lambda: "the same command goes on")


def _told(arguments: argparse.Namespace) -> int:
    try:
        print(arguments.run(arguments))
    except OSError as error:  # full disk, no permission: the files in place are as they were
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise UserError(" ".join(message.split())) from None
    return 0


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


def _add_output(parser: argparse.ArgumentParser, name_help: str, name_required: bool) -> None:
    parser.add_argument("--name", required=name_required, help=name_help)
    parser.add_argument("--out", type=Path, default=Path("dataset"), help="folder of data sets (default: dataset)")
    parser.add_argument("--force", action="store_true", help="replace another data set of this name")


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of pictures, each named by its item's id")


def _add_recbole(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example:\n  python -m dataset_prep recbole ml-100k\n"
    parser.add_argument("set", help="name in the recbole package, for example ml-100k")
    _add_images(parser)
    _add_output(parser, "name of the copy (default: the same)", name_required=False)
    add_filters(parser)
    parser.set_defaults(run=_run_recbole)


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        f"files: {TABLE_FILES}\n\nexample:\n  python -m dataset_prep table --interactions sales.parquet "
        "--items products.csv.gz --name shop \\\n      --columns user_id=customer,item_id=sku,timestamp=ts,text=title\n"
    )
    parser.add_argument("--interactions", type=Path, required=True, metavar="FILE", help="user_id, item_id, timestamp")
    parser.add_argument("--items", type=Path, required=True, metavar="FILE", help="item_id, text (and image)")
    parser.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help=", ".join(table.COLUMNS) + " are known"
    )
    parser.add_argument("--time-unit", choices=PER_SECOND, default="s", help="what a timestamp counts (default: s)")
    parser.add_argument("--time-from-order", action="store_true", help="take each user's line order for the time")
    _add_images(parser)
    _add_output(parser, "name of the data set", name_required=True)
    add_filters(parser)
    parser.set_defaults(run=_run_table)


def _add_sequences(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        f"files: {TABLE_FILES}\n\nexample:\n  python -m dataset_prep sequences --sequences sequences.tsv.gz "
        "--items items.tsv.gz --name scientific\n"
    )
    parser.add_argument("--sequences", type=Path, required=True, metavar="FILE", help="user_id, item_ids, oldest first")
    parser.add_argument("--items", type=Path, required=True, metavar="FILE", help="item_id, text (and image)")
    parser.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help=", ".join(sequences.COLUMNS) + " are known"
    )
    _add_images(parser)
    _add_output(parser, "name of the data set", name_required=True)
    add_filters(parser, times=False, ratings=False)
    parser.set_defaults(run=_run_sequences)


def _run_recbole(arguments: argparse.Namespace) -> str:
    from dataset_prep.sources.recbole_sets import prepare_recbole

    name = arguments.name or arguments.set
    filters = filters_of(arguments)
    return prepare_recbole(arguments.set, name, arguments.out, arguments.force, filters, arguments.images).summary()


def _run_table(arguments: argparse.Namespace) -> str:
    options = table.TableOptions(
        columns=parse_columns(arguments.columns, table.COLUMNS, table.OPTIONAL_COLUMNS),
        time_unit=arguments.time_unit,
        time_from_order=arguments.time_from_order,
        filters=filters_of(arguments),
        images=arguments.images,
    )
    return table.prepare_table(
        arguments.interactions, arguments.items, arguments.name, arguments.out, options, arguments.force
    ).summary()


def _run_sequences(arguments: argparse.Namespace) -> str:
    return sequences.prepare_sequences(
        arguments.sequences,
        arguments.items,
        arguments.name,
        arguments.out,
        parse_columns(arguments.columns, sequences.COLUMNS, sequences.OPTIONAL_COLUMNS),
        arguments.force,
        filters_of(arguments),
        arguments.images,
    ).summary()
