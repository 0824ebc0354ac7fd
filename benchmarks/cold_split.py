"""A data set without a tenth of its items, and the users whose next item is among them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from dataset_prep.files.set_files import SetFiles
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.data.protocols import drawn

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class History:
    """A user's items, oldest first, and what comes next.

    Attributes:
        items: ids.
        stamps: seconds, one an item.
        target: the last item's id.
    """

    items: tuple[str, ...]
    stamps: tuple[int, ...]
    target: str

    def without(self, items: frozenset[str]) -> History:
        """The same without some items in the history."""
        kept = [(item, stamp) for item, stamp in zip(self.items, self.stamps, strict=True) if item not in items]
        return History(tuple(item for item, _ in kept), tuple(stamp for _, stamp in kept), self.target)


def histories_of(files: SetFiles) -> dict[str, History]:
    """Each user's items but the last, and the last; users with one item have none."""
    made = {}
    for user, rows in groupby(files.interactions(), key=lambda fields: fields[0]):
        taken = [(item, int(float(stamp))) for _, item, stamp in rows]
        if len(taken) > 1:
            items, stamps = zip(*taken[:-1], strict=True)
            made[user] = History(items, stamps, taken[-1][0])
    return made


def draw_items(files: SetFiles, share: float, seed: int) -> frozenset[str]:
    """The items to leave out: a share of those with interactions, drawn from their sorted ids.

    Raises:
        UserError: the share leaves nothing out, or nothing in.
    """
    items = sorted({item for _, item, _ in files.interactions()})
    _, _, out = drawn(items, [1 - share, 0, share], seed)
    if not 0 < len(out) < len(items):
        raise UserError(f"--share {share}: that is {len(out)} of the {len(items)} items of {files.name}")
    return frozenset(out)


def write_without(files: SetFiles, items: frozenset[str], folder: Path) -> None:
    """The same data set without some items, split as the whole one is: last item test, last but one validation.

    An interaction keeps the part that it has in the whole set, so that no model trains on what another is tested on.

    Args:
        files: the whole set; its items and features are linked.
        items: to leave out.
        folder: where the set goes, replaced; its name is that of the whole set, since feature stores know theirs.
    """
    _with_links(files, folder)
    lines: Mapping[str, list[str]] = {part: [HEADER] for part in PARTS}
    for _, rows in groupby(files.interactions(), key=lambda fields: fields[0]):
        taken = list(rows)
        for place, fields in enumerate(taken):
            if fields[1] not in items:
                lines[_part(place, len(taken))].append("\t".join(fields) + "\n")
    for part, text in lines.items():
        with whole_file(folder / f"{files.name}.{part}.inter") as file:
            file.write("".join(text).encode())


def write_part(files: SetFiles, users: int | None, latest: int | None, folder: Path) -> SetFiles:
    """Some of the users of a data set, and their latest interactions; a smaller set of the same name.

    Args:
        files: the whole set; its items and features are linked.
        users: how many, those whose ids have the smallest hashes; None: all.
        latest: interactions of a user; None: all.
        folder: where the set goes, replaced.
    """
    names = {user for user, _, _ in files.interactions()}
    kept = set(sorted(names, key=lambda user: hashlib.sha256(user.encode()).digest())[: users or len(names)])
    _with_links(files, folder)
    part = SetFiles(files.name, folder)
    with whole_file(part.file("inter")) as file:
        file.write(HEADER.encode())
        for user, rows in groupby(files.interactions(), key=lambda fields: fields[0]):
            if user in kept:
                file.writelines(("\t".join(fields) + "\n").encode() for fields in list(rows)[-(latest or 0) :])
    return part


def _with_links(files: SetFiles, folder: Path) -> None:
    """An empty folder with links to the items and features of a set."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / files.file("item").name).symlink_to(files.file("item").resolve())
    (folder / "features").symlink_to((files.folder / "features").resolve())


def _part(place: int, count: int) -> str:
    """Where an interaction stands in a leave-one-out split; two or fewer of a user train."""
    return PARTS[max(0, place - count + 3)] if count > 2 else PARTS[0]


def counts(files: SetFiles) -> dict[str, int]:
    """How often each item is taken in the training part of the whole set."""
    found: dict[str, int] = {}
    for _, rows in groupby(files.interactions(), key=lambda fields: fields[0]):
        taken: Sequence[list[str]] = list(rows)
        for place, fields in enumerate(taken):
            found.setdefault(fields[1], 0)
            found[fields[1]] += _part(place, len(taken)) == "train"
    return found
