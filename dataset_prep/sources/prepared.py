"""What every source ends with: the files of a data set, its record, and a summary."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dataset_prep.files.atomic import publish
from dataset_prep.filters.filters import Step
from dataset_prep.filters.interactions import Interactions
from dataset_prep.images.report import remove_pictures
from recbole_mmm4rec.base.atomic_files import read_header, read_rows
from recbole_mmm4rec.base.command_names import prepare
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.tied_times import FILE, MANY, ORDER_KEY, tied_share, told

ITEM_HEADER = "item_id:token\ttext:token_seq"
IMAGE_COLUMN = "image:token"
TIED = "interactions_at_the_time_of_the_one_before"
WITH_IMAGE = "items_with_image"  # told also when there are none
_DIGEST = 8  # bytes; two values of one item are compared, so that none will ever be alike by chance


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
        steps: what the filters removed.
        notes: what else the screen should say.
    """

    name: str
    folder: Path
    counts: dict[str, int]
    changed: bool
    steps: Sequence[Step] = ()
    notes: Sequence[str] = ()

    def summary(self) -> str:
        """Lines for the screen: counts, what was left out, what to type next."""
        counts = dict(self.counts)
        items, with_text = counts["items"], counts.pop("items_with_text")
        share = f"{100 * with_text / items:.1f} %" if items else "none"
        lines = [
            f"{self.name}: {counts.pop('users'):,} users, {counts.pop('items'):,} items, "
            f"{counts.pop('interactions'):,} interactions; {with_text:,} items ({share}) with text"
        ]
        lines += [f"  {n:,} {what.replace('_', ' ')}" for what, n in counts.items() if n or what == WITH_IMAGE]
        lines += [f"  {note}" for note in self.notes]
        lines += self._filter_table()
        lines.append(f"{'written to' if self.changed else 'already up to date in'} {self.folder}")
        lines.append(f"next: {prepare('embed', self.folder)}")
        return "\n".join(lines)

    def _filter_table(self) -> list[str]:
        if not self.steps:
            return []
        widest = max(len("removed by filter"), *(len(step.what) for step in self.steps))
        lines = [f"  {'removed by filter':<{widest}}  interactions        users        items"]
        for step in self.steps:
            lines.append(f"  {step.what:<{widest}}  {step.interactions:>12,} {step.users:>12,} {step.items:>12,}")
        return lines


def write_set(
    out: Path,
    name: str,
    origin: Origin,
    files: Mapping[str, Iterable[str]],
    counts: dict[str, int],
    force: bool,
    steps: Sequence[Step] = (),
    notes: Sequence[str] = (),
    tied: int | None = None,
    order_of_ties: str = FILE,
) -> Prepared:
    """Puts the files of a data set in place.

    Args:
        out: folder of data sets.
        name: of the data set.
        origin: what it was made from.
        files: lines by suffix.
        counts: users, items, interactions, items_with_text first, then what else is worth telling.
        force: replace another set of this name.
        steps: what the filters removed.
        notes: what else the screen should say.
        tied: interactions at the time of the one before, where that is known.
        order_of_ties: what orders those.

    Raises:
        UserError: nothing is left to write, or another set of this name is there and ``force`` is False.
    """
    if not counts["interactions"]:
        raise UserError(f"--name {name}: {_nothing_left(steps)}")
    share = counts["items_with_text"] / counts["items"] if counts["items"] else 0.0
    record = {
        "source": origin.source,
        "options": origin.options,
        "inputs": origin.inputs,
        "counts": counts,
        "share_of_items_with_text": round(share, 6),
    }
    if tied is not None:
        record |= {TIED: tied, ORDER_KEY: order_of_ties}
    if steps:
        record["removed_by_filters"] = [asdict(step) for step in steps]
    changed = publish(out / name, name, files, record, force, remove_untrue)
    return Prepared(name, out / name, counts, changed, steps, notes)


def write_interactions_and_texts(
    out: Path,
    name: str,
    origin: Origin,
    log: Interactions,
    texts: Mapping[str, str],
    counts: dict[str, int],
    force: bool,
    *,
    images: Mapping[str, str] | None = None,
    kept: Mapping[str, Mapping[str, str]] | None = None,
    steps: Sequence[Step] = (),
    notes: Sequence[str] = (),
) -> Prepared:
    """Puts a data set of sorted interactions and item texts in place.

    Items are those of either, sorted by id; one that ``texts`` lacks is kept without text. Where filters were at work
    they are those with interactions.

    Args:
        texts: clean text by item id, empty for none.
        counts: what the source counted besides the usual.
        images: where an item's picture is, by item id: addresses, largest first, or a path; None for no such column.
        kept: further columns of items: name to value by item id.
        steps: what the filters removed.
        notes: what else the screen should say.
        out, name, origin, log, force: as in :func:`write_set`.

    Raises:
        UserError: nothing is left to write, or another set of this name is there and ``force`` is False.
    """
    items = log.items if steps else sorted(texts.keys() | set(log.items))
    tied = tied_share(log.user, log.time)
    all_counts = {
        "users": len(log.users),
        "items": len(items),
        "interactions": len(log.user),
        "items_with_text": sum(bool(texts.get(item)) for item in items),
        "items_never_interacted_with": len(items) - len(log.items),
        "items_missing_from_the_item_table": sum(item not in texts for item in items),
        "repeated_interactions_dropped": log.duplicates,
        **counts,
    }
    if images is not None:
        all_counts[WITH_IMAGE] = sum(bool(images.get(item)) for item in items)
    if tied >= MANY:
        notes = [*notes, told(tied, log.order_of_ties)]
    files = {"inter": log.lines(), "item": _item_lines(items, texts, images, kept or {})}
    order = log.order_of_ties if tied else FILE  # within a second finer times may have ordered them
    return write_set(out, name, origin, files, all_counts, force, steps, notes, round(tied * len(log.user)), order)


def _item_lines(
    items: list[str],
    texts: Mapping[str, str],
    images: Mapping[str, str] | None,
    kept: Mapping[str, Mapping[str, str]],
) -> Iterator[str]:
    columns = [texts, *([] if images is None else [images]), *kept.values()]
    names = [ITEM_HEADER, *([] if images is None else [IMAGE_COLUMN]), *(f"{name}:token" for name in kept)]
    yield "\t".join(names) + "\n"
    for item in items:
        yield "\t".join([item, *(column.get(item, "") for column in columns)]) + "\n"


def _nothing_left(steps: Sequence[Step]) -> str:
    for step in reversed(steps):
        if step.interactions:
            return f"'{step.what}' removed the last {step.interactions:,} interactions; ask for less"
    return "no interactions; give at least one"


def remove_untrue(folder: Path, name: str, new: Path) -> list[str]:
    """Removes what belongs to items that are others now, and to none of the new set.

    A picture belongs to its item as long as column ``image`` says the same. Vectors that training does not check
    belong to theirs as long as text and image of all of them say the same: those of pictures, those that somebody
    brought, and those exported. What is kept by content, ``features/.cache``, stays.

    Args:
        folder: ``OUT/NAME``.
        name: of the data set.
        new: the ``.item`` file that takes the place of the one there.

    Returns:
        What was removed, in words.
    """
    try:
        gone = dict(_rows(folder / f"{name}.item"))
    except (UserError, ValueError):  # none, or one that nothing can have been made of
        return []
    kept = changed = 0
    others: set[str] = set()
    for item, row in _rows(new):
        old = gone.pop(item, None)
        kept += old is not None
        changed += old not in (None, row)
        if old is not None and old[_DIGEST:] != row[_DIGEST:]:
            others.add(item)
    others |= gone.keys()
    pictures = remove_pictures(folder, others)
    removed = [f"{pictures:,} pictures"] if pictures else []
    return removed + (_remove_vectors(folder, name, new) if changed or not kept else [])


def _rows(item_file: Path) -> Iterator[tuple[str, bytes]]:
    """Item and what tells whether it is the same: digests of its text and of its image, of each row."""
    header = read_header(item_file)
    names = list(header)
    at = [names.index(column) if column in names else None for column in ("text", "image")]
    for _, fields in read_rows(item_file, header):
        values = ("" if place is None else fields[place] for place in at)
        digests = (hashlib.blake2b(value.encode(), digest_size=_DIGEST).digest() for value in values)
        yield fields[names.index("item_id")], b"".join(digests)


def _remove_vectors(folder: Path, name: str, new: Path) -> list[str]:
    removed = []
    for file in (folder / f"{name}.{modality}feat" for modality in ("text", "image")):
        if file.is_file():
            file.unlink()
            removed.append(file.name)
    if (folder / "features").is_dir():
        from recbole_mmm4rec.features.manifest import MODALITIES  # brings pandas along, which takes a second
        from recbole_mmm4rec.features.store import settle, store_path
        from recbole_mmm4rec.features.writer import part_of

        for modality in MODALITIES:
            path = store_path(folder, modality)
            settle(path)
            if path.is_dir() and not (modality == "text" and _is_checked(path, new)):
                os.replace(path, part_of(path))  # in one step, should the run die here
                shutil.rmtree(part_of(path))
                removed.append(f"features/{modality}")
    return removed


def _is_checked(path: Path, new: Path) -> bool:
    """Whether training compares a store of texts with the new ``.item`` file, or refuses it as damaged."""
    from recbole_mmm4rec.features.manifest import Manifest

    try:
        manifest = Manifest.from_json((path / "manifest.json").read_text(encoding="utf-8"))
    except (UserError, OSError, ValueError):
        return True
    return manifest.input_hash is not None and manifest.settings.get("column", "text") in read_header(new)
