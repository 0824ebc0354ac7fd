"""``mmm4rec explain``: what carried an item's score, as sentences and tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from recbole_mmm4rec.base.command_line import Parser, command, typed_text
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.texts import short
from recbole_mmm4rec.model_folder.manifest import look_at
from recbole_mmm4rec.recommend.command import modalities_in, times_in
from recbole_mmm4rec.recommend.explanation import NEIGHBOURS, Explanation, lasting

_EXAMPLES = """\
examples:
  %(prog)s saved/MMM4Rec-shop --history "p0000012 p0000044" --item p0000017
  %(prog)s saved/MMM4Rec-shop --history "p0000012 p0000044" --timestamps "1700000000 1700086400" --item p0000017
  %(prog)s saved/MMM4Rec-shop --history "p0000012 p0000044" --item p0000017 --modalities text --json

The parts of texts, pictures and neighbours sum to the score. "falls by" is what the score loses when a past item is
left out; "changes by", what it changes when a time is 0.
"""


def main(argv: Sequence[str] | None = None, prog: str = "mmm4rec explain") -> int:
    """Run the command; arguments and status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(prog), _run, argv, kill_safe=True)


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Say what carried the score of an item.", epilog=_EXAMPLES)
    add = parser.add_argument
    add("folder", metavar="DIR", help="a model folder; a training writes one")
    add("--history", metavar="IDS", type=typed_text, help="item ids, oldest first, separated by blanks")
    add("--item", metavar="ID", type=typed_text, help="the item whose score is explained")
    add("--timestamps", metavar="TIMES", help="as many times in seconds, separated by blanks (default: all gaps 0)")
    add("--modalities", metavar="NAMES", help="text, image or text,image: items count as if they had no other")
    add("--no-neighbours", action="store_true", help="leave out what was taken together in training")
    add("--device", default="cpu", help="cpu (the default), cuda or cuda:N")
    add("--json", action="store_true", help="print JSON")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    for option in ("history", "item"):
        if getattr(arguments, option) is None:
            raise UserError(f"--{option} is missing: what is to be explained is an item's score for a history")
    history = arguments.history.split()
    if not history:
        raise UserError("--history is empty: give item ids, oldest first, separated by blanks")
    times = None if arguments.timestamps is None else times_in(arguments.timestamps.split())
    modalities = modalities_in(arguments.modalities)
    look_at(arguments.folder)

    from recbole_mmm4rec.recommend.recommender import Recommender

    found = Recommender.load(arguments.folder, arguments.device).explain(
        history,
        arguments.item,
        timestamps=times,
        modalities=modalities,
        neighbours=False if arguments.no_neighbours else None,
    )
    print(json.dumps(found.to_dict(), ensure_ascii=False) if arguments.json else told(found))
    return 0


def told(found: Explanation) -> str:
    """An explanation for the screen: the sentences, then the parts, past items and gaps as tables."""
    lines = [found.text(), "", f"{'part':<12}{'score':>8}{'average item':>14}"]
    for name, mean in found.averages.items():
        part = found.neighbours if name == NEIGHBOURS else found.modalities[name]
        lines.append(f"{name:<12}{part:>8.3f}{mean:>14.3f}")
    lines.append(f"{'sum':<12}{found.score:>8.3f}{sum(found.averages.values()):>14.3f}")
    width = max(len(one.item) for one in found.past)
    lines += ["", f"{'without':<{width}}  {'falls by':>8}  {'neighbours':>10}  text"]
    lines += [
        f"{one.item:<{width}}  {one.drop:>8.3f}  {one.neighbours:>10.3f}  {short(one.text, 60)}" for one in found.past
    ]
    if found.gaps:
        lines += ["", f"{'from':<{width}}  {'to':<{width}}  {'time':>12}  {'changes by':>10}"]
        lines += [
            f"{gap.before:<{width}}  {gap.after:<{width}}  {lasting(gap.seconds):>12}  {gap.change:>10.3f}"
            for gap in found.gaps
        ]
    if found.unknown:
        lines += ["", f"not in the shop, left out: {' '.join(found.unknown)}"]
    lines += ["", *found.notes] if found.notes else []
    return "\n".join(lines)
