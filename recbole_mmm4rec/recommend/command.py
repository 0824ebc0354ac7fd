"""``mmm4rec recommend``: a readable list for one history, or lists for all users of a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.command_line import Parser, command, typed_text
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.texts import short
from recbole_mmm4rec.model_folder.manifest import look_at
from recbole_mmm4rec.recommend.results import Recommendations
from recbole_mmm4rec.recommend.user_files import is_seconds

_EXAMPLES = """\
examples:
  %(prog)s saved/MMM4Rec-shop --history "p0000012 p0000044"
  %(prog)s saved/MMM4Rec-shop --history "p0000012 p0000044" --timestamps "1700000000 1700086400" --k 5
  %(prog)s saved/MMM4Rec-shop --history p0000012 --where category=Tents --modalities text --json
  %(prog)s saved/MMM4Rec-shop --input users.csv --output lists.csv --k 20

A file has the columns user_id and history (item ids, in CSV separated by blanks) and, where there are times, timestamps
(as many seconds): .csv, .jsonl or .parquet. Killed and started again, the command goes on where it was.
"""


def main(argv: Sequence[str] | None = None, prog: str = "mmm4rec recommend") -> int:
    """Run the command; arguments and status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(prog), _run, argv, kill_safe=True)


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Recommend items from a model folder.", epilog=_EXAMPLES)
    add = parser.add_argument
    add("folder", metavar="DIR", help="a model folder; a training writes one")
    add("--history", metavar="IDS", type=typed_text, help="item ids, oldest first, separated by blanks")
    add("--timestamps", metavar="TIMES", help="as many times in seconds, separated by blanks (default: all gaps 0)")
    add("--input", metavar="FILE", type=Path, help="histories of many users: .csv, .jsonl or .parquet")
    add("--output", metavar="FILE", type=Path, help="their lists: .csv, .parquet: a row an item; .jsonl: a line a user")
    add("--include-seen", action="store_true", help="keep the history's items, as an evaluation does")
    add_choice(parser)
    add("--modalities", metavar="NAMES", help="text, image or text,image: items count as if they had no other")
    return parser


def add_choice(parser: Parser) -> None:
    """The options of a list: how long it is, which items it may have, how it is made and printed."""
    add = parser.add_argument
    add("--k", metavar="N", type=int, default=10, help="items of a list (default: 10)")
    add(
        "--only",
        metavar="IDS",
        type=typed_text,
        help="choose from these items: ids separated by blanks, or @FILE with one a line",
    )
    add(
        "--exclude",
        metavar="IDS",
        type=typed_text,
        help="leave these items out: ids separated by blanks, or @FILE with one a line",
    )
    add("--where", metavar="COLUMN=VALUE", type=typed_text, action="append", default=[], help=(
        "choose from items with this value in a column of the item table; given twice for one column: either value"
    ))  # fmt: skip
    add("--device", default="cpu", help="cpu (the default), cuda or cuda:N")
    add("--json", action="store_true", help="print JSON")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.input is not None or arguments.output is not None:
        return _run_file(arguments)
    if arguments.history is None:
        raise UserError('--history is missing: give item ids, as in --history "ID ID ID", or --input and --output')
    history = arguments.history.split()
    if not history:
        raise UserError("--history is empty: give item ids, oldest first, separated by blanks")
    times = None if arguments.timestamps is None else times_in(arguments.timestamps.split())
    asked = request_of(arguments)
    look_at(arguments.folder)

    from recbole_mmm4rec.recommend.recommender import Recommender

    recommender = Recommender.load(arguments.folder, arguments.device)
    found = recommender.recommend(history, arguments.k, timestamps=times, **asked)
    if arguments.json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return 0
    newest = [(item, recommender.items.text(item)) for item in history if recommender.items.number(item) is not None]
    print(told(newest[-5:], found))
    return 0


def _run_file(arguments: argparse.Namespace) -> int:
    if arguments.input is None or arguments.output is None:
        raise UserError("--input and --output go together: the users, and where their lists go")
    for name in ("history", "timestamps"):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} does not go with --input: the file holds it")
    asked = request_of(arguments)
    look_at(arguments.folder)

    from recbole_mmm4rec.recommend.batch import recommend_file
    from recbole_mmm4rec.recommend.recommender import Recommender

    recommender = Recommender.load(arguments.folder, arguments.device)
    done = recommend_file(recommender, arguments.input, arguments.output, arguments.k, not arguments.json, **asked)
    for note in done.notes:
        print(f"warning: {note}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(asdict(done)))
        return 0
    lines = [f"{arguments.output}: lists for {done.users:,} users"]
    lines += [f"  {done.kept:,} of them were there from before"] if done.kept else []
    lines += [f"  {done.popular:,} have the shop's popular items: it knows none of theirs"] if done.popular else []
    lines += [f"  {done.unknown:,} ids in histories are not in the shop and were left out"] if done.unknown else []
    print("\n".join(lines))
    return 0


def request_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the options ask of :meth:`~.recommender.Recommender.recommend`.

    Raises:
        UserError: one that cannot be read.
    """
    chosen = choice_of(arguments)
    return {"exclude_seen": not arguments.include_seen, "modalities": modalities_in(arguments.modalities), **chosen}


def modalities_in(names: str | None) -> list[str] | None:
    """Names of modalities as they are typed; None for none."""
    return None if names is None else names.replace(",", " ").split()


def choice_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Which items the options of :func:`add_choice` allow.

    Raises:
        UserError: one that cannot be read.
    """
    where: dict[str, list[str]] = {}
    for given in arguments.where:
        column, equals, value = given.partition("=")
        if not equals or not column:
            raise UserError(f"--where {given}: write COLUMN=VALUE")
        where.setdefault(column, []).append(value)
    only, exclude = _ids("--only", arguments.only), _ids("--exclude", arguments.exclude)
    return {"only": only, "exclude": exclude, "where": where or None}


def _ids(option: str, given: str | None) -> list[str] | None:
    if given is None:
        return None
    if not given.startswith("@"):
        return given.split()
    try:
        lines = Path(given[1:]).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise UserError(f"{option} {given}: cannot be read ({getattr(error, 'strerror', 'no UTF-8')})") from None
    return [line.strip() for line in lines if line.strip()]


def times_in(words: Sequence[str]) -> list[int]:
    """Time stamps as they are typed.

    Raises:
        UserError: a word is no whole number.
    """
    for word in words:
        if not is_seconds(word):
            raise UserError(f"--timestamps: {word[:60]!r} is no whole number of seconds")
    return [int(word) for word in words]


def told(history: Sequence[tuple[str, str]], found: Recommendations) -> str:
    """A list as a table for the screen.

    Args:
        history: ids and texts of the newest items.
        found: what was recommended.
    """
    lines = [f"{'after' if at == 0 else '':<7}{item}  {short(text)}" for at, (item, text) in enumerate(history)]
    width = max((len(entry.item) for entry in found.items), default=4)
    lines += ["", f"{'':>3}  {'item':<{width}}  {'score':>8}  text"] if found.items else [""]
    for place, entry in enumerate(found.items, 1):
        lines.append(f"{place:>3}  {entry.item:<{width}}  {entry.score:>8.3f}  {short(entry.text)}")
    if found.unknown:
        lines += ["", f"not in the shop, left out: {' '.join(found.unknown)}"]
    lines += ["", *found.notes] if found.notes else []
    return "\n".join(lines).lstrip("\n")
