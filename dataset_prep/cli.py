"""The command line: arguments in, functions called, one line of error out."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from dataset_prep import sequences, table
from dataset_prep.encoders import DEFAULT_TEXT_ENCODER
from dataset_prep.times import PER_SECOND
from recbole_mmm4rec.errors import UserError, did_you_mean

EXAMPLES = """examples:
  python -m dataset_prep recbole ml-100k
  python -m dataset_prep table --interactions ratings.csv --items movies.csv --name movies \\
      --columns user_id=userId,item_id=movieId,text=title
  python -m dataset_prep sequences --sequences sequences.tsv.gz --items items.tsv.gz --name scientific
  python -m dataset_prep embed ml-100k
"""
TABLE_FILES = (
    ".csv, .tsv or .txt (TAB separated, nothing quoted), .jsonl or .json (an object a line), each also .gz; .parquet"
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands; each sets ``run``, a function of the parsed arguments."""
    parser = _Parser(
        prog="python -m dataset_prep",
        description="Makes data sets for RecBole and caches embeddings of their items.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name, help_line, add in (
        ("recbole", "copy a data set that comes with recbole, with item texts", _add_recbole),
        ("table", "interactions and items from CSV, TSV, JSON lines or Parquet", _add_table),
        ("sequences", "item sequences, a line a user", _add_sequences),
        ("embed", "cache text embeddings of a data set's items", _add_embed),
    ):
        subparser = subcommands.add_parser(
            name,
            help=help_line,
            description=help_line[0].upper() + help_line[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        Exit status: 0, 2 for a mistake of the user's, 130 when interrupted.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    arguments = build_parser().parse_args(argv)
    try:
        print(arguments.run(arguments))
    except UserError as error:
        return _fail(str(error))
    except OSError as error:  # full disk, no permission: the files in place are as they were
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _fail(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2


def parse_columns(text: str, known: Sequence[str]) -> dict[str, str]:
    """Column names in the files by our names, from ``user_id=customer,text=title``; what is not named keeps its name.

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
    return {name: given.get(name, name) for name in known}


def _add_output(parser: argparse.ArgumentParser, name_help: str, name_required: bool) -> None:
    parser.add_argument("--name", required=name_required, help=name_help)
    parser.add_argument("--out", type=Path, default=Path("dataset"), help="folder of data sets (default: dataset)")
    parser.add_argument("--force", action="store_true", help="replace another data set of this name")


def _add_recbole(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example:\n  python -m dataset_prep recbole ml-100k\n"
    parser.add_argument("set", help="name in the recbole package, for example ml-100k")
    _add_output(parser, "name of the copy (default: the same)", name_required=False)
    parser.set_defaults(run=_run_recbole)


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        f"files: {TABLE_FILES}\n\nexample:\n  python -m dataset_prep table --interactions sales.parquet "
        "--items products.csv.gz --name shop \\\n      --columns user_id=customer,item_id=sku,timestamp=ts,text=title\n"
    )
    parser.add_argument("--interactions", type=Path, required=True, metavar="FILE", help="user_id, item_id, timestamp")
    parser.add_argument("--items", type=Path, required=True, metavar="FILE", help="item_id, text")
    parser.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help=", ".join(table.COLUMNS) + " are known"
    )
    parser.add_argument("--time-unit", choices=PER_SECOND, default="s", help="what a timestamp counts (default: s)")
    parser.add_argument("--time-from-order", action="store_true", help="take each user's line order for the time")
    _add_output(parser, "name of the data set", name_required=True)
    parser.set_defaults(run=_run_table)


def _add_sequences(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        f"files: {TABLE_FILES}\n\nexample:\n  python -m dataset_prep sequences --sequences sequences.tsv.gz "
        "--items items.tsv.gz --name scientific\n"
    )
    parser.add_argument("--sequences", type=Path, required=True, metavar="FILE", help="user_id, item_ids, oldest first")
    parser.add_argument("--items", type=Path, required=True, metavar="FILE", help="item_id, text")
    parser.add_argument(
        "--columns", default="", metavar="NAME=COLUMN,...", help=", ".join(sequences.COLUMNS) + " are known"
    )
    _add_output(parser, "name of the data set", name_required=True)
    parser.set_defaults(run=_run_sequences)


def _add_embed(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example:\n  python -m dataset_prep embed ml-100k --text-encoder intfloat/e5-small-v2 --dtype float16\n"
    )
    parser.add_argument("name", help="name of the data set")
    parser.add_argument("--out", type=Path, default=Path("dataset"), help="folder of data sets (default: dataset)")
    parser.add_argument(
        "--text-encoder",
        default=DEFAULT_TEXT_ENCODER,
        metavar="MODEL",
        help=f"a sentence-transformers folder or hub name (default: {DEFAULT_TEXT_ENCODER}, packaged)",
    )
    parser.add_argument("--column", default="text", help="column of the .item file (default: text)")
    parser.add_argument("--batch-size", type=int, default=64, help="texts at a time (default: 64)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the stored numbers")
    parser.add_argument(
        "--max-seq-length", type=int, metavar="N", help="cut texts after N tokens (default: the model's)"
    )
    parser.add_argument("--no-normalize", action="store_true", help="keep the vectors' lengths")
    parser.add_argument("--force", action="store_true", help="encode again even if nothing changed")
    parser.set_defaults(run=_run_embed)


def _run_recbole(arguments: argparse.Namespace) -> str:
    from dataset_prep.recbole_source import prepare_recbole

    name = arguments.name or arguments.set
    return prepare_recbole(arguments.set, name, arguments.out, arguments.force).summary()


def _run_table(arguments: argparse.Namespace) -> str:
    columns = parse_columns(arguments.columns, table.COLUMNS)
    options = table.TableOptions(columns, arguments.time_unit, arguments.time_from_order)
    return table.prepare_table(
        arguments.interactions, arguments.items, arguments.name, arguments.out, options, arguments.force
    ).summary()


def _run_sequences(arguments: argparse.Namespace) -> str:
    columns = parse_columns(arguments.columns, sequences.COLUMNS)
    return sequences.prepare_sequences(
        arguments.sequences, arguments.items, arguments.name, arguments.out, columns, arguments.force
    ).summary()


def _run_embed(arguments: argparse.Namespace) -> str:
    from dataset_prep.embed import EmbedOptions, embed_texts

    options = EmbedOptions(
        encoder=arguments.text_encoder,
        column=arguments.column,
        batch_size=arguments.batch_size,
        device=arguments.device,
        dtype=arguments.dtype,
        max_seq_length=arguments.max_seq_length,
        normalize=not arguments.no_normalize,
        force=arguments.force,
    )
    return embed_texts(arguments.name, arguments.out, options)
