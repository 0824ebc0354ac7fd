"""``mmm4rec add``: new items in a model folder, without training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from recbole_mmm4rec.base.command_line import Parser, command
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder.manifest import look_at

_EXAMPLES = """\
The table needs the column item_id; text, image (a file's name in --images) and the shop's other columns may be there.

examples:
  %(prog)s saved/MMM4Rec-shop new.csv
  %(prog)s saved/MMM4Rec-shop new.jsonl --images photos/          # a column image, or files ITEM.jpg
  %(prog)s saved/MMM4Rec-shop new.parquet --vectors text=new.npy  # made elsewhere by the same encoder
"""


def main(argv: Sequence[str] | None = None, prog: str = "mmm4rec add") -> int:
    """Run the command; arguments and status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(prog), _run, argv, interrupted=lambda: "nothing was added", kill_safe=True)


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Add items to a model folder; nothing is trained.", epilog=_EXAMPLES)
    add = parser.add_argument
    add("folder", metavar="DIR", help="a model folder; a training writes one")
    add("table", type=Path, metavar="FILE", help="the items: .csv, .tsv, .jsonl (each also .gz) or .parquet")
    add("--images", type=Path, metavar="FOLDER", help="of their pictures")
    add("--vectors", metavar="MODALITY=FILE", action="append", default=[], help=(
        "ready vectors, a .npy file with a row for each row of the table; text=FILE or image=FILE"
    ))  # fmt: skip
    add("--encoder", metavar="MODALITY=NAME", action="append", default=[], help=(
        "where the shop's encoder is, if it is not found under its name: a folder, timm:…@FILE, open_clip:…@FILE"
    ))  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="write another model folder, and leave this one as it is")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    vectors, encoders = pairs("--vectors", arguments.vectors), pairs("--encoder", arguments.encoder)
    look_at(arguments.folder)

    from recbole_mmm4rec.recommend.recommender import Recommender

    recommender = Recommender.load(arguments.folder)
    before = len(recommender.items)
    added = recommender.add_items(
        arguments.table,
        images=arguments.images,
        vectors=vectors,
        encoders=encoders,
        output=arguments.output,
        show_progress=True,
    )
    for note in added.notes:
        print(f"note: {note}")
    loading = f", after {added.loading_seconds:.1f} s for loading the encoders" if added.loading_seconds > 0.05 else ""
    print(f"{added.folder}: {len(added.items):,} items added to {before:,} in {added.seconds:.2f} s{loading}")
    return 0


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """What ``MODALITY=VALUE`` options say.

    Raises:
        UserError: one that is not of that form.
    """
    made = {}
    for one in given:
        modality, equals, value = one.partition("=")
        if not equals or modality not in ("text", "image") or not value:
            raise UserError(f"{option} {one}: write text=… or image=…")
        made[modality] = value
    return made
