"""Where a data set's interactions come from, as the records of its preparation say."""

from __future__ import annotations

from pathlib import Path

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.base.json_lines import check_fields, is_table, is_text, list_of, read_line, table_of
from recbole_mmm4rec.base.texts import check_set_name

_INTERACTIONS = ("interactions", "sequences", "reviews", "inter", ".inter")
"""The roles of files in the record of a preparation that hold interactions; a merge's are "NAME inter"."""


def made_of(record: Path) -> tuple[list[str], dict[str, str]]:
    """What ``NAME.prep.json`` says that a set was made of.

    Args:
        record: the file; where there is none, nothing is known.

    Returns:
        the sets that ``dataset_prep merge`` made it of, and the hashes of the files that it was made from, by role.

    Raises:
        UserError: the file is damaged.
    """
    try:
        told = read_line(record.read_bytes()) if record.is_file() else {}
        files = told.get("inputs") or {}
        check_fields({"inputs": files}, {"inputs": table_of(is_text)})
        if told.get("source") != "merge":
            return [], files
        check_fields(told, {"options": is_table})
        check_fields(told["options"], {"sets": list_of(is_text)})
        return [check_set_name(part) for part in told["options"]["sets"]], files
    except ValueError:
        raise UserError(f"{record} is damaged; prepare the data set again") from None


def origins_of(data_path: Path, name: str, known: frozenset[str] = frozenset()) -> set[str]:
    """Where a data set's interactions come from: two sets that share one of these may hold the same ones.

    Args:
        data_path: the folder above the data sets.
        name: of the data set.
        known: sets that it is a part of.

    Returns:
        its name, those of the sets that ``dataset_prep merge`` made it of, and the hashes of its interactions and of
        the files that they were prepared from.

    Raises:
        UserError: the record of its preparation is damaged.
    """
    parts, files = made_of(data_path / name / f"{name}.prep.json")
    known |= {name}
    found = {name, *(files[role] for role in files if role in _INTERACTIONS or role.endswith(" inter"))}
    own = data_path / name / f"{name}.inter"
    found |= {hash_file(own)} if own.is_file() else set()
    return found.union(*(origins_of(data_path, part, known) for part in parts if part not in known))
