"""Reading a data set's atomic files back: item columns and interactions."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recbole_mmm4rec.base.atomic_files import read_header, read_item_column, read_rows, require_columns
from recbole_mmm4rec.base.errors import UserError

INTER_COLUMNS = {"user_id": "token", "item_id": "token", "timestamp": "float"}


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

    def tokens(self) -> list[str]:
        """Ids of the ``.item`` file, in its order."""
        return read_item_column(self.file("item"), "item_id")[0]

    def values(self, column: str) -> list[str]:
        """A column of the ``.item`` file, empty where the file has none of this name."""
        if column in self.item_columns():
            return read_item_column(self.file("item"), column)[1]
        return [""] * len(self.tokens())

    def interactions(self) -> Iterator[list[str]]:
        """User id, item id and time of each line of the ``.inter`` file from line 2 on, as they stand there.

        Raises:
            UserError: a column is missing or of another type, no UTF-8, or a line with a wrong number of fields.
        """
        file = self.file("inter")
        header = read_header(file)
        require_columns(file, header, INTER_COLUMNS)
        at = [list(header).index(column) for column in INTER_COLUMNS]
        for _, fields in read_rows(file, header):
            yield [fields[position] for position in at]

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
            at = [place for place, column in enumerate(header) if column in ("item_id", "item_id_list")]
            for _, fields in read_rows(file, header):
                for place in at:
                    found.update(fields[place].split(" "))
        return found - {""}
