"""A data set as a part of a merged one: its ids get the set's name before them, and no set is in it twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_prep.files.set_files import SetFiles
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.base.origins import made_of
from recbole_mmm4rec.base.texts import check_set_name

SEPARATOR = ":"  # never in a set's name, so the first one of an id ends the name


@dataclass(frozen=True)
class Domain(SetFiles):
    """A data set that goes into a merged one."""

    def rename(self, token: str) -> str:
        """An id of this set as the merged one calls it."""
        return f"{self.name}{SEPARATOR}{token}"


def find_domains(sets: Sequence[str], name: str, out: Path) -> list[Domain]:
    """The sets to merge.

    Args:
        sets: their names.
        name: of the merged set.
        out: folder of all of them.

    Raises:
        UserError: fewer than two sets, one named twice or like the merged one, a name that cannot come before an id,
            or a set that is not there.
    """
    check_set_name(name)
    if len(sets) < 2:
        raise UserError(f"merge {' '.join(sets)}: one set is no merger; name at least two")
    domains = []
    for at, given in enumerate(sets):
        if given in sets[:at]:
            raise UserError(f"merge: set '{given}' is named twice; name each set once")
        if given == name:
            raise UserError(f"--name {name}: is one of the sets to merge; choose another name")
        try:
            check_set_name(given)
        except UserError:
            raise UserError(
                f"merge: set '{given}': its name comes before each id and may hold letters, digits, '.', '-' and '_' "
                "only; rename its folder and files"
            ) from None
        domains.append(Domain(given, out / given))
        domains[-1].require()
    return domains


def check_apart(domains: Sequence[Domain], hashes: Mapping[str, str]) -> None:
    """Refuses sets that hold one set twice: by themselves, or in what they were merged of.

    Two sets that were prepared in different ways from the same files are two.

    Args:
        domains: the sets to merge.
        hashes: sha256 of their files, by "NAME inter" and "NAME item".

    Raises:
        UserError: two of them hold a set of one name or of one content, or the record of a preparation is damaged.
    """
    holders: dict[str, tuple[str, str]] = {}
    for domain in domains:
        held = {**_parts(domain.name, domain.folder.parent, frozenset()), **_content(domain.name, hashes)}
        for mark, part in held.items():
            other, twin = holders.setdefault(mark, (domain.name, part))
            if other != domain.name:
                what = f"'{part}'" if part == twin else f"'{twin}' is '{part}'"
                pair = f"sets '{other}' and '{domain.name}'"
                raise UserError(f"merge: {pair} hold one shop twice ({what}); leave one out")


def _parts(name: str, out: Path, above: frozenset[str]) -> dict[str, str]:
    """Name and content of a set and of all that it was merged of, as far as records say, each to the set's name.

    Args:
        name: of the set.
        out: folder of all sets.
        above: sets that it is a part of.
    """
    found = {name: name}
    parts, hashes = made_of(out / name / f"{name}.prep.json")
    for part in parts:
        found |= {part: part} | _content(part, hashes)
        if part not in above | {name} and _is_as_it_was(part, out, hashes):
            found |= _parts(part, out, above | {name})
    return found


def _is_as_it_was(name: str, out: Path, hashes: Mapping[str, str]) -> bool:
    """Whether a set that something was merged of has not been made of other things since."""
    file = out / name / f"{name}.inter"
    return file.is_file() and hash_file(file) == hashes.get(f"{name} inter")


def _content(name: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """What tells a set by its content, to its name; no set's name has a blank in it."""
    return {" ".join(hashes.get(f"{name} {suffix}", name) for suffix in ("inter", "item")): name}
