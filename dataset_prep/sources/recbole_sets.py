"""``recbole``: a data set that lies inside the installed recbole package."""

from __future__ import annotations

import argparse
import importlib.util
import re
from collections.abc import Container
from pathlib import Path

import numpy as np

from dataset_prep.files.arguments import add_images, add_output
from dataset_prep.files.item_table import find_images
from dataset_prep.files.times import MICROSECONDS, parse_time
from dataset_prep.filters.arguments import add_filters, filters_of
from dataset_prep.filters.filters import KEEP_ALL, Filters, Step, apply_filters
from dataset_prep.filters.interactions import InteractionLog
from dataset_prep.sources.prepared import IMAGE_COLUMN, WITH_IMAGE, Origin, Prepared, write_set
from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.base.texts import check_set_name, clean_text
from recbole_mmm4rec.base.tied_times import MANY, tied_share, told

# Title, year and genres by data set: the columns that become the text.
TEXT_COLUMNS = {"ml-100k": ("movie_title", "release_year", "class")}
# The last is how ml-100k spells it for item 267.
UNKNOWN = ("", "unknown", "unkonwn")  # codespell:ignore unkonwn
_YEAR = re.compile(r"[12][0-9]{3}")


def prepare_recbole(
    source: str,
    name: str,
    out: Path,
    force: bool = False,
    filters: Filters = KEEP_ALL,
    images: Path | None = None,
) -> Prepared:
    """Copies a data set from the recbole package, whatever atomic files it has, and adds a text column to its items.

    Args:
        source: the set's name in the package.
        name: the name it gets.
        out: folder of data sets.
        force: replace another set of this name.
        filters: which interactions stay; all are copied as they are where nothing is asked. Users and items that are
            left without any go.
        images: folder of pictures named by item id, or None.

    Raises:
        UserError: recbole or the set is not there, nothing is left, or another set of this name is in the way.
    """
    check_set_name(name)
    folder = _find(source)
    files = {file.suffix[1:]: file for file in sorted(folder.glob(f"{source}.*"))}
    lines = {suffix: _lines(file) for suffix, file in files.items()}
    texts = _texts(files["item"], lines["item"], TEXT_COLUMNS[source])
    lines["item"] = _with_column(lines["item"], "text:token_seq", texts)
    steps: list[Step] = []
    if filters:
        lines["inter"], steps = _filtered(lines["inter"], filters, texts)
        for column in ("item_id:token", "user_id:token"):
            left = set(_column(lines["inter"], column))
            lines.update({suffix: _with_ids(part, column, left) for suffix, part in lines.items()})
    items = _column(lines["item"], "item_id:token")
    counts = {
        "users": len(set(_column(lines["inter"], "user_id:token"))),
        "items": len(items),
        "interactions": len(lines["inter"]) - 1,
        "items_with_text": sum(bool(texts[item]) for item in items),
        "items_never_interacted_with": len(items) - len(set(_column(lines["inter"], "item_id:token"))),
    }
    if images is not None:
        places = find_images(images, items)
        lines["item"] = _with_column(lines["item"], IMAGE_COLUMN, places)
        counts[WITH_IMAGE] = len(places)
    hashes = {suffix: hash_file(file) for suffix, file in files.items()}
    origin = Origin("recbole", {"set": source, **filters.record()}, hashes)
    users = np.unique(_column(lines["inter"], "user_id:token"), return_inverse=True)[1]
    tied = tied_share(users, np.array(_column(lines["inter"], "timestamp:float"), dtype=np.float64))
    notes = [told(tied)] if tied >= MANY else []
    return write_set(out, name, origin, lines, counts, force, steps, notes, round(tied * counts["interactions"]))


def title_sentence(title: str, year: str, genres: str) -> str:
    """A readable text such as ``Toy Story (1995). Animation Children's Comedy.``; empty for an unknown title.

    Args:
        title: as it stands in the data; sometimes it carries the year already.
        year: of release; left out when it is no year.
        genres: blank-separated; left out when unknown.
    """
    if title in UNKNOWN:
        return ""
    sentence = f"{title} ({year})" if _YEAR.fullmatch(year) else title
    sentence += "" if sentence.endswith((".", "!", "?")) else "."
    return clean_text(sentence if genres in UNKNOWN else f"{sentence} {genres}.")


def _find(source: str) -> Path:
    spec = importlib.util.find_spec("recbole")  # finds the package without running its heavy import
    if spec is None or spec.origin is None:
        raise UserError("RecBole is not installed: pip install --no-deps recbole==1.2.1")
    examples = Path(spec.origin).parent / "dataset_example"
    there = sorted(name for name in TEXT_COLUMNS if (examples / name / f"{name}.inter").is_file())
    if source not in there:
        listed = ", ".join(there) or "nothing"
        raise UserError(f"recbole brings no data set '{source}', it has: {listed}{did_you_mean(source, there)}")
    return examples / source


def _lines(file: Path) -> list[str]:
    with file.open(encoding="utf-8", newline="") as handle:  # line ends stay what they are
        return handle.readlines()


def _column(lines: list[str], column: str) -> list[str]:
    at = lines[0].rstrip("\n").split("\t").index(column)
    return [line.rstrip("\n").split("\t")[at] for line in lines[1:]]


def _texts(file: Path, lines: list[str], columns: tuple[str, str, str]) -> dict[str, str]:
    names = [field.partition(":")[0] for field in lines[0].rstrip("\n").split("\t")]
    missing = [column for column in columns if column not in names]
    if missing:
        raise UserError(f"{file}: no column '{missing[0]}' among {', '.join(names)}; install recbole==1.2.1")
    item_at, *at = (names.index(column) for column in ("item_id", *columns))
    rows = [line.rstrip("\n").split("\t") for line in lines[1:]]
    return {row[item_at]: title_sentence(*(row[position] for position in at)) for row in rows}


def _with_column(lines: list[str], header: str, values: dict[str, str]) -> list[str]:
    added = [header, *(values.get(item, "") for item in _column(lines, "item_id:token"))]
    return [line.rstrip("\n") + f"\t{value}\n" for line, value in zip(lines, added, strict=True)]


def _with_ids(lines: list[str], column: str, ids: Container[str]) -> list[str]:
    """The header and the lines whose id in a column is among ``ids``; all where there is no such column."""
    if column not in lines[0].rstrip("\n").split("\t"):
        return lines
    found = zip(lines[1:], _column(lines, column), strict=True)
    return lines[:1] + [line for line, value in found if value in ids]


def _filtered(lines: list[str], filters: Filters, texts: dict[str, str]) -> tuple[list[str], list[Step]]:
    columns = [_column(lines, name) for name in ("user_id:token", "item_id:token", "timestamp:float", "rating:float")]
    keys = [(user, item, parse_time(time, "s", "timestamp")) for user, item, time, _ in zip(*columns, strict=True)]
    log = InteractionLog(with_rating=True, per_second=MICROSECONDS)
    for key, rating in zip(keys, columns[3], strict=True):
        log.add(*key, float(rating))
    table, steps = apply_filters(log.finish(), filters, texts)
    rows = zip(table.user.tolist(), table.item.tolist(), table.time.tolist(), strict=True)
    kept = {(table.users[user], table.items[item], time) for user, item, time in rows}
    return lines[:1] + [line for line, key in zip(lines[1:], keys, strict=True) if key in kept], steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``recbole`` is told."""
    parser.epilog = "example:\n  %(prog)s ml-100k\n"
    parser.add_argument("set", help="name in the recbole package, for example ml-100k")
    add_images(parser)
    add_output(parser, "name of the copy (default: the same)", required=False)
    add_filters(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    name = arguments.set if arguments.name is None else arguments.name
    filters = filters_of(arguments)
    return prepare_recbole(arguments.set, name, arguments.out, arguments.force, filters, arguments.images).summary()
