"""Growing amounts of source data to pre-train on: shares of one set's users, then further sets merged to it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_prep.files.set_files import SetFiles
from dataset_prep.sources.merge.command import merge_sets
from recbole_mmm4rec.base.command_names import prepare
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.run.identity import fingerprint

STORE = Path("features") / "text" / "manifest.json"


@dataclass(frozen=True)
class Source:
    """What is pre-trained on.

    Attributes:
        name: of the data set; "none" for no pre-training.
        users: their number.
        interactions: their number.
        merged: whether it holds more than the first source.
    """

    name: str
    users: int
    interactions: int
    merged: bool = False


NONE = Source("none", 0, 0)


def prepare_sources(data: Path, target: str, names: Sequence[str], shares: Sequence[int], folder: Path) -> list[Source]:
    """Put the target and every amount of source data into one folder, where RecBole finds them.

    The users of a share are those whose ids have the smallest hashes, so a larger share holds a smaller one. The items
    and their text vectors are the set's own in each; only those that occur are candidates.

    Args:
        data: folder of the data sets, which stays as it is.
        target: name of the set to transfer to.
        names: of the sources; the first one is taken in shares, each further one is merged to those before it.
        shares: of the first source's users, per cent, growing.
        folder: where the sets go: links and small files.

    Returns:
        The sources, growing.

    Raises:
        UserError: a set is named twice, is not there or has no text vectors.
    """
    if data.resolve() == folder.resolve():
        raise UserError(f"--data {data}: the command writes sets there; name another folder, or another --out")
    for at, name in enumerate([target, *names]):
        if name in [target, *names][:at]:
            raise UserError(f"--sources {' '.join(names)}: '{name}' is named twice, or is the target; name each once")
        SetFiles(name, data / name).require()
        if not (data / name / STORE).is_file():
            raise UserError(f"{data / name / STORE}: no such file; run '{prepare('embed', data / name)}' first")
        _link(data / name, folder / name)
    first = SetFiles(names[0], folder / names[0])
    sources = [_share(first, share, folder) for share in shares]
    for number in range(2, len(names) + 1):
        merged = "-and-".join(names[:number])
        merge_sets(names[:number], merged, folder, force=True)
        sources.append(_counted(SetFiles(merged, folder / merged), merged=True))
    return sources


def set_hashes(files: Sequence[SetFiles]) -> dict[str, str]:
    """The hash of each set by its name: interactions, items, feature stores."""
    return {one.name: fingerprint(one.folder) for one in files}


def _share(whole: SetFiles, share: int, folder: Path) -> Source:
    """A share of a set's users as a set of its own; all of them are the set itself."""
    if share == 100:
        return _counted(whole)
    part = SetFiles(f"{whole.name}-{share}", folder / f"{whole.name}-{share}")
    names = {user for user, _, _ in whole.interactions()}
    users = sorted(names, key=lambda user: hashlib.sha256(user.encode()).digest())
    kept = set(users[: max(1, round(len(users) * share / 100))])
    with whole_file(part.file("inter")) as file:
        file.write(b"user_id:token\titem_id:token\ttimestamp:float\n")
        for fields in whole.interactions():
            if fields[0] in kept:
                file.write(("\t".join(fields) + "\n").encode())
    _link(whole.file("item"), part.file("item"))
    _link(whole.folder / "features", part.folder / "features")
    return _counted(part)


def _counted(files: SetFiles, merged: bool = False) -> Source:
    users = [user for user, _, _ in files.interactions()]
    return Source(files.name, len(set(users)), len(users), merged)


def _link(source: Path, target: Path) -> None:
    """A symbolic link, made anew where there is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())
