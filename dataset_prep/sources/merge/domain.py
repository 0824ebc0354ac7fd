"""A data set as a part of a merged one: its ids get the set's name before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_prep.files.set_files import SetFiles
from recbole_mmm4rec.base.errors import UserError
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
