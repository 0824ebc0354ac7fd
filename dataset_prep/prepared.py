"""What every source ends with: the files of a data set, its record, and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_prep.atomic import publish
from dataset_prep.interactions import Interactions

ITEM_HEADER = "item_id:token\ttext:token_seq\n"


@dataclass(frozen=True)
class Origin:
    """What a data set is made from.

    Attributes:
        source: the subcommand.
        options: what was asked of it; no paths.
        inputs: sha256 by role ("interactions", "items", ...).
    """

    source: str
    options: dict[str, Any]
    inputs: dict[str, str]


@dataclass(frozen=True)
class Prepared:
    """A data set in place.

    Attributes:
        name: of the data set.
        folder: ``OUT/NAME``.
        counts: users, items, interactions, items_with_text and what else the source counted.
        changed: False when all of it was there already.
    """

    name: str
    folder: Path
    counts: dict[str, int]
    changed: bool

    def summary(self) -> str:
        """Lines for the screen: counts, what was left out, what to type next."""
        counts = dict(self.counts)
        items, with_text = counts["items"], counts.pop("items_with_text")
        share = f"{100 * with_text / items:.1f} %" if items else "none"
        lines = [
            f"{self.name}: {counts.pop('users'):,} users, {counts.pop('items'):,} items, "
            f"{counts.pop('interactions'):,} interactions; {with_text:,} items ({share}) with text"
        ]
        lines += [f"  {count:,} {what.replace('_', ' ')}" for what, count in counts.items() if count]
        lines.append(f"{'written to' if self.changed else 'already up to date in'} {self.folder}")
        out = "" if str(self.folder.parent) == "dataset" else f" --out {self.folder.parent}"
        lines.append(f"next: python -m dataset_prep embed {self.name}{out}")
        return "\n".join(lines)


def write_set(
    out: Path,
    name: str,
    origin: Origin,
    files: Mapping[str, Iterable[str]],
    counts: dict[str, int],
    force: bool,
) -> Prepared:
    """Puts the files of a data set in place.

    Args:
        out: folder of data sets.
        name: of the data set.
        origin: what it was made from.
        files: lines by suffix.
        counts: users, items, interactions, items_with_text first, then what else is worth telling.
        force: replace another set of this name.

    Raises:
        UserError: another set of this name is there and ``force`` is False.
    """
    share = counts["items_with_text"] / counts["items"] if counts["items"] else 0.0
    record = {
        "source": origin.source,
        "options": origin.options,
        "inputs": origin.inputs,
        "counts": counts,
        "share_of_items_with_text": round(share, 6),
    }
    changed = publish(out / name, name, files, record, force)
    return Prepared(name, out / name, counts, changed)


def write_interactions_and_texts(
    out: Path, name: str, origin: Origin, log: Interactions, texts: dict[str, str], counts: dict[str, int], force: bool
) -> Prepared:
    """Puts a data set of sorted interactions and item texts in place.

    Items are those of either, sorted by id; one that ``texts`` lacks is kept without text.

    Args:
        texts: clean text by item id, empty for none.
        counts: what the source counted besides the usual.
        out, name, origin, log, force: as in :func:`write_set`.

    Raises:
        UserError: another set of this name is there and ``force`` is False.
    """
    items = sorted(texts.keys() | set(log.items))
    all_counts = {
        "users": len(log.users),
        "items": len(items),
        "interactions": len(log.user),
        "items_with_text": sum(map(bool, texts.values())),
        "items_never_interacted_with": len(items) - len(log.items),
        "items_missing_from_the_item_table": len(items) - len(texts),
        "repeated_interactions_dropped": log.duplicates,
        **counts,
    }
    files = {"inter": log.lines(), "item": _item_lines(items, texts)}
    return write_set(out, name, origin, files, all_counts, force)


def _item_lines(items: list[str], texts: dict[str, str]) -> Iterator[str]:
    yield ITEM_HEADER
    for item in items:
        yield f"{item}\t{texts.get(item, '')}\n"
