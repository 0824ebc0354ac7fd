"""``mmm4rec search``: items by words or a picture, as a readable list."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from recbole_mmm4rec.base.command_line import Parser, command, typed_text
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder.manifest import look_at
from recbole_mmm4rec.recommend.command import add_choice, choice_of, times_in, told

_EXAMPLES = """\
examples:
  %(prog)s saved/MMM4Rec-shop --text "red tent"
  %(prog)s saved/MMM4Rec-shop --image tent.jpg --k 5
  %(prog)s saved/MMM4Rec-shop --text "red tent" --history "p0000012 p0000044" --where category=Tents --json

A score is the cosine between the query and an item in the space of the encoder that made the features. Words and a
picture together, or either with a history, are sums of standardised scores.
"""


def main(argv: Sequence[str] | None = None, prog: str = "mmm4rec search") -> int:
    """Run the command; arguments and status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(prog), _run, argv, kill_safe=True)


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Find items of a model folder by words or a picture.", epilog=_EXAMPLES)
    add = parser.add_argument
    add("folder", metavar="DIR", help="a model folder; a training writes one")
    add("--text", metavar="WORDS", type=typed_text, help="words, compared with the items' texts")
    add("--image", metavar="FILE", type=Path, help="a picture, compared with the items' pictures")
    add(
        "--history",
        metavar="IDS",
        type=typed_text,
        help="item ids, oldest first, separated by blanks: items that fit them as well",
    )
    add("--timestamps", metavar="TIMES", help="times of the history in seconds, separated by blanks")
    add("--text-encoder", metavar="NAME", help="where the text encoder is, if not under the name that the shop knows")
    add("--image-encoder", metavar="NAME", help="where the picture encoder is, if not under that name")
    add_choice(parser)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if arguments.text is None and arguments.image is None:
        raise UserError('--text or --image is missing: give words, as in --text "red tent", or a picture\'s file')
    history = None if arguments.history is None else arguments.history.split()
    times = None if arguments.timestamps is None else times_in(arguments.timestamps.split())
    asked = choice_of(arguments)
    look_at(arguments.folder)

    from recbole_mmm4rec.recommend.recommender import Recommender

    recommender = Recommender.load(arguments.folder, arguments.device)
    for modality, name in (("text", arguments.text_encoder), ("image", arguments.image_encoder)):
        if name is not None and getattr(arguments, modality) is not None and modality in recommender.modalities:
            recommender.encoders.get(modality, name)
    found = recommender.search(
        arguments.text, image=arguments.image, k=arguments.k, history=history, timestamps=times, **asked
    )
    if arguments.json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return 0
    newest = [(item, recommender.items.text(item)) for item in history or [] if recommender.items.number(item)]
    print(told(newest[-5:], found))
    return 0
