"""``recbole``: a data set that lies inside the installed recbole package."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from dataset_prep.atomic import hash_file
from dataset_prep.prepared import Origin, Prepared, write_set
from dataset_prep.text import check_set_name, clean_text
from recbole_mmm4rec.errors import UserError, did_you_mean

# Title, year and genres by data set: the columns that become the text.
TEXT_COLUMNS = {"ml-100k": ("movie_title", "release_year", "class")}
# The last is how ml-100k spells it for item 267.
UNKNOWN = ("", "unknown", "unkonwn")  # codespell:ignore unkonwn
_YEAR = re.compile(r"[12][0-9]{3}")


def prepare_recbole(source: str, name: str, out: Path, force: bool = False) -> Prepared:
    """Copies a data set from the recbole package and adds a text column to its items.

    Args:
        source: the set's name in the package.
        name: the name it gets.
        out: folder of data sets.
        force: replace another set of this name.

    Raises:
        UserError: recbole or the set is not there, or another set of this name is in the way.
    """
    check_set_name(name)
    folder = _find(source)
    files = {suffix: folder / f"{source}.{suffix}" for suffix in ("inter", "item", "user")}
    lines = {suffix: _lines(file) for suffix, file in files.items()}
    item_lines, with_text = _with_text(files["item"], lines["item"], TEXT_COLUMNS[source])
    counts = {
        "users": _distinct(lines["inter"], "user_id:token"),
        "items": len(lines["item"]) - 1,
        "interactions": len(lines["inter"]) - 1,
        "items_with_text": with_text,
        "items_never_interacted_with": len(lines["item"]) - 1 - _distinct(lines["inter"], "item_id:token"),
    }
    origin = Origin("recbole", {"set": source}, {suffix: hash_file(file) for suffix, file in files.items()})
    out_files = {"inter": lines["inter"], "item": item_lines, "user": lines["user"]}
    return write_set(out, name, origin, out_files, counts, force)


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
        raise UserError("recbole is not installed: pip install recbole==1.2.1")
    examples = Path(spec.origin).parent / "dataset_example"
    there = sorted(name for name in TEXT_COLUMNS if (examples / name / f"{name}.inter").is_file())
    if source not in there:
        listed = ", ".join(there) or "nothing"
        raise UserError(f"recbole brings no data set '{source}', it has: {listed}{did_you_mean(source, there)}")
    return examples / source


def _lines(file: Path) -> list[str]:
    with file.open(encoding="utf-8", newline="") as handle:  # line ends stay what they are
        return handle.readlines()


def _distinct(lines: list[str], column: str) -> int:
    at = lines[0].rstrip("\n").split("\t").index(column)
    return len({line.rstrip("\n").split("\t")[at] for line in lines[1:]})


def _with_text(file: Path, lines: list[str], columns: tuple[str, str, str]) -> tuple[Iterator[str], int]:
    names = [field.partition(":")[0] for field in lines[0].rstrip("\n").split("\t")]
    missing = [column for column in columns if column not in names]
    if missing:
        raise UserError(f"{file}: no column '{missing[0]}' among {', '.join(names)}; install recbole==1.2.1")
    at = [names.index(column) for column in columns]
    rows = [line.rstrip("\n") for line in lines]
    texts = [title_sentence(*(row.split("\t")[position] for position in at)) for row in rows[1:]]
    added = (f"{row}\t{text}\n" for row, text in zip(rows, ["text:token_seq", *texts], strict=True))
    return added, sum(map(bool, texts))
