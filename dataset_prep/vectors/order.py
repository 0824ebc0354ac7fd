"""Which row of a table of vectors belongs to which item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.base.errors import UserError

_HEADERS = ("item_id", "item", "id", "iid", "asin", "parent_asin")


def read_order(path: Path) -> list[str]:
    """Item ids in the order of the rows.

    Args:
        path: an id a line; or two columns, an id and the number of its row, as MMRec's ``i_id_mapping.csv`` and
            UniSRec's ``item2index`` have them, with or without a header, between them a TAB (in a ``.csv`` file also a
            comma); or an atomic file with a column ``item_id``.

    Raises:
        UserError: no such file, no UTF-8, lines of different kinds, row numbers that are not 0, 1, 2, …, an id that is
            empty or there twice.
    """
    if not path.is_file():
        raise UserError(f"--ids {path}: no such file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"--ids {path}: not UTF-8; convert the file") from None
    if lines and "item_id:token" in lines[0]:
        return read_item_column(path, "item_id")[0]
    separator = "," if path.suffix.lower() == ".csv" and lines and "\t" not in lines[0] else "\t"
    rows = [(number, line.split(separator)) for number, line in enumerate(lines, start=1) if line.strip()]
    ids = _by_row_number(path, rows) if rows and len(rows[0][1]) == 2 else _listed(path, rows)
    first: dict[str, int] = {}
    for number, item in ids:
        if not item:
            raise UserError(f"--ids {path} line {number}: an empty id")
        if first.setdefault(item, number) != number:
            raise UserError(f"--ids {path} line {number}: item '{item}' is already on line {first[item]}; keep one")
    return [item for _, item in ids]


def rows_by_number(tokens: Sequence[str], rows: int, listed: Sequence[str]) -> tuple[list[str], str]:
    """The ids of a table that does not name any, and how they were found.

    Args:
        tokens: all items of the data set.
        rows: of the table.
        listed: ids of the ``.item`` file, in its order.

    Raises:
        UserError: neither an item's id is the number of its row, nor are there as many rows as the file has items.
    """
    numbers = [int(token) for token in tokens if token.isascii() and token.isdigit() and str(int(token)) == token]
    if len(numbers) == len(tokens) and max(numbers) < rows:
        return list(map(str, range(rows))), "row N is item N"
    ascending = [token for token in listed if token.isascii() and token.isdigit()]
    clear = len(ascending) < len(listed) or sorted(ascending, key=int) == ascending
    if rows == len(listed) and clear:
        return list(listed), "rows in the order of the .item file"
    raise UserError(
        f"has {rows:,} rows and no ids; the set has {len(tokens):,} items, {len(listed):,} of them in its .item file: "
        "say with --ids FILE which item a row is (a list of ids, NAME.item, or MMRec's i_id_mapping.csv)"
    )


def _listed(path: Path, rows: list[tuple[int, list[str]]]) -> list[tuple[int, str]]:
    if rows and rows[0][1][0].strip().lower() in _HEADERS:
        rows = rows[1:]
    for number, fields in rows:
        if len(fields) != 1:
            raise UserError(f"--ids {path} line {number}: {len(fields)} fields where the lines before have one")
    if not rows:
        raise UserError(f"--ids {path}: no id in it")
    return [(number, fields[0].strip()) for number, fields in rows]


def _by_row_number(path: Path, rows: list[tuple[int, list[str]]]) -> list[tuple[int, str]]:
    for number, fields in rows:
        if len(fields) != 2:
            raise UserError(f"--ids {path} line {number}: {len(fields)} fields where the lines before have two")
    header: list[str] = []
    if not any(field.strip().isdecimal() for field in rows[0][1]):
        header, rows = [field.strip().lower() for field in rows[0][1]], rows[1:]
    orders = {at: order for at in (1, 0) if (order := _order_by([fields[at].strip() for _, fields in rows]))}
    named = [at for at in orders if header and header[1 - at] in _HEADERS]
    read = {at: [(rows[row][0], rows[row][1][1 - at].strip()) for row in order] for at, order in orders.items()}
    if len(read) > 1 and len(named) != 1 and len({tuple(item for _, item in ids) for ids in read.values()}) > 1:
        raise UserError(
            f"--ids {path}: either column may hold the numbers of rows; begin the file with a line that names them, "
            "such as item_id and row"
        )
    at = named[0] if len(named) == 1 else next(iter(orders), None)  # MMRec and UniSRec have the id first
    if at is None:
        raise UserError(f"--ids {path}: two columns, but none with the numbers of rows, 0 to {max(0, len(rows) - 1)}")
    return read[at]


def _order_by(numbers: Sequence[str]) -> list[int]:
    """The lines in the order of their numbers; empty where these are not 0, 1, 2, …"""
    if not all(number.isdecimal() for number in numbers):
        return []
    order = sorted(range(len(numbers)), key=lambda line: int(numbers[line]))
    return order if [int(numbers[line]) for line in order] == list(range(len(numbers))) else []
