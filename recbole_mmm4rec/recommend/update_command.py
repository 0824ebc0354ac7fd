"""``mmm4rec update``: yesterday's model goes on with new users, items and interactions."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_mmm4rec.base.command_line import Parser, command, whole
from recbole_mmm4rec.model_folder.manifest import look_at
from recbole_mmm4rec.recommend.add_command import pairs

_EXAMPLES = """\
Interactions need user_id, item_id and timestamp (seconds); users may be new, and so may items that --items describes.

examples:
  %(prog)s saved/MMM4Rec-shop --interactions today.csv
  %(prog)s saved/MMM4Rec-shop --interactions today.csv --items new.csv --images photos/ --output saved/tuesday
"""


def main(argv: Sequence[str] | None = None, prog: str = "mmm4rec update") -> int:
    """Run the command; arguments and status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(prog), _run, argv)


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Train a model on with what came since; it stays.", epilog=_EXAMPLES)
    add = parser.add_argument
    add("folder", metavar="DIR", help="a model folder; a training writes one")
    add("--interactions", type=Path, required=True, metavar="FILE", help="the new ones: .csv, .tsv, .jsonl, .parquet")
    add("--items", type=Path, metavar="FILE", help="the new items, as for `mmm4rec add`")
    add("--images", type=Path, metavar="FOLDER", help="of the new items' pictures")
    add("--vectors", metavar="MODALITY=FILE", action="append", default=[], help="as for `mmm4rec add`")
    add("--encoder", metavar="MODALITY=NAME", action="append", default=[], help="as for `mmm4rec add`")
    add("--output", type=Path, metavar="DIR", help="the new model folder (default: DIR-updated)")
    add("--epochs", type=whole, default=4, metavar="N", help="at most, over what is new (default: 4)")
    add("--device", default="cpu", help="cpu (the default), cuda or cuda:N")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    vectors, encoders = pairs("--vectors", arguments.vectors), pairs("--encoder", arguments.encoder)
    look_at(arguments.folder)

    import recbole_mmm4rec  # noqa: F401  (repairs RecBole)
    from recbole_mmm4rec.recommend.update import update

    done = update(
        arguments.folder,
        arguments.interactions,
        arguments.items,
        arguments.output,
        images=arguments.images,
        vectors=vectors,
        encoders=encoders,
        epochs=arguments.epochs,
        device=arguments.device,
    )
    new = f"{done.interactions:,} interactions, {done.users:,} users and {done.items:,} items are new"
    if done.known:
        new += f", {done.known:,} interactions were known or stand there twice"
    print(f"{new}; {done.samples:,} samples an epoch, best epoch {done.best_epoch}")
    print("test: " + ", ".join(f"{name} {value:.4f}" for name, value in done.test.items()))
    print(f"{done.folder}: the new model; {arguments.folder} is as it was")
    return 0
