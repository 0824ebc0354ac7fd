"""Reading a data set's atomic files back: item columns and interactions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recbole_mmm4rec.base.atomic_files import read_header, read_item_column, require_columns
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
        return list(read_header(self.file("item"), "\t", "utf-8"))

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
        header = read_header(file, "\t", "utf-8")
        require_columns(file, header, INTER_COLUMNS)
        at = [list(header).index(column) for column in INTER_COLUMNS]
        with file.open(encoding="utf-8", newline="\n") as lines:
            try:
                next(lines)
                for number, line in enumerate(lines, start=2):
                    fields = line.rstrip("\r\n").split("\t")
                    if len(fields) != len(header):
                        raise UserError(
                            f"{file} line {number}: {len(fields)} fields where the header has {len(header)}"
                        )
                    yield [fields[position] for position in at]
            except UnicodeDecodeError:
                raise UserError(f"{file}: not UTF-8; convert the file to UTF-8") from None
