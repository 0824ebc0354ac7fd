"""Reading a data set's atomic files back: item columns and interactions."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recbole_mmm4rec.base.atomic_files import read_header, read_item_column, read_rows, require_columns
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.texts import READ_AS_MISSING

INTER_COLUMNS = {"user_id": "token", "item_id": "token", "timestamp": "float"}


def are_ids(*texts: str) -> bool:
    """Whether none of the fields is a missing value, such as ``NA``: the rows of such users and items are left out."""
    return all(texts) and READ_AS_MISSING.isdisjoint(texts)


@dataclass(frozen=True)
class SetFiles:
    """The atomic files of a data set.

    Attributes:
        name: of the set.
        folder: ``OUT/NAME``.
    """

    name: str
    folder: Path

    def file(self, suffix: str) -> Path:
        """``OUT/NAME/NAME.SUFFIX``."""
        return self.folder / f"{self.name}.{suffix}"

    def require(self) -> None:
        """Makes sure that the set is there.

        Raises:
            UserError: it has no ``.inter`` or no ``.item`` file.
        """
        for suffix in ("inter", "item"):
            if not self.file(suffix).is_file():
                raise UserError(f"{self.file(suffix)}: no such file; see 'ls {self.folder.parent}', or --out")

    def item_columns(self) -> list[str]:
        """Names of the ``.item`` file's columns."""
        return list(read_header(self.file("item")))

    def item_rows(self, column: str = "item_id") -> list[tuple[str, str]]:
        """Id and value of a column of each row of the ``.item`` file, empty where the file has none of this name."""
        there = column in self.item_columns()
        tokens, values = read_item_column(self.file("item"), column if there else "item_id")
        return list(zip(tokens, values if there else [""] * len(tokens), strict=True))

    def tokens(self) -> list[str]:
        """Ids of the ``.item`` file, in its order."""
        return self.values("item_id")

    def values(self, column: str) -> list[str]:
        """A column of the ``.item`` file's items, empty where the file has none of this name."""
        return [value for token, value in self.item_rows(column) if are_ids(token)]

    def lines(self) -> Iterator[tuple[int, list[str]]]:
        """Number, user id, item id and time of each line of the ``.inter`` file from line 2 on, as they stand there.

        Raises:
            UserError: a column is missing or of another type, no UTF-8, or a line with a wrong number of fields.
        """
        file = self.file("inter")
        header = read_header(file)
        require_columns(file, header, INTER_COLUMNS)
        at = [list(header).index(column) for column in INTER_COLUMNS]
        for number, fields in read_rows(file, header):
            yield number, [fields[position] for position in at]

    def interactions(self) -> Iterator[list[str]]:
        """User id, item id and time of the lines with a user and an item: those that training takes.

        Raises:
            UserError: as of :meth:`lines`.
        """
        return (fields for _, fields in self.lines() if are_ids(*fields[:2]))

    def interacted(self) -> set[str]:
        """Ids of the items in all files of interactions, ready-made splits and the histories in them included.

        Raises:
            UserError: a file cannot be read.
        """
        found: set[str] = set()
        for file in sorted(self.folder.glob(f"{glob.escape(self.name)}.*")):
            if file.suffix != ".inter":
                continue
            header = read_header(file)
            ids = [place for place, column in enumerate(header) if column in ("user_id", "item_id")]
            at = [place for place, column in enumerate(header) if column in ("item_id", "item_id_list")]
            for _, fields in read_rows(file, header):
                for place in at if are_ids(*(fields[place] for place in ids)) else ():
                    found.update(fields[place].split(" ") if are_ids(fields[place]) else ())
        return found - {""}
