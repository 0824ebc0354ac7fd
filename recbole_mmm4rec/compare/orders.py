"""How the order of models changes from leave-one-out to a split by points in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import kendalltau

from recbole_mmm4rec.compare.file_settings import LEAVE_ONE_OUT
from recbole_mmm4rec.compare.results import Table


@dataclass(frozen=True)
class Order:
    """The places of the rows of two tables of one data set.

    Attributes:
        folder: the data set.
        metric: by which rows are placed, lower case; the one of early stopping.
        rows: name, its place and mean under leave-one-out, its place and mean by points in time; in the first order.
        tau: Kendall's τ-b of the two orders, from −1 to 1; NaN of fewer than two rows or where all are equal.
        marks: of each row under leave-one-out and by points in time, what :attr:`.results.Cell.marks` says.
    """

    folder: str
    metric: str
    rows: tuple[tuple[str, int, float, int, float], ...]
    tau: float
    marks: tuple[tuple[str, str], ...]


def orders(tables: Sequence[Table]) -> list[Order]:
    """The change of order on each data set that has both tables.

    Args:
        tables: of a comparison.
    """
    by_protocol = {(table.shop.entry or table.shop.name, table.shop.split[0]): table for table in tables}
    found = []
    for (folder, name), first in by_protocol.items():
        second = by_protocol.get((folder, "global_time"))
        if name == LEAVE_ONE_OUT and second is not None:
            order = _order(folder, first, second)
            found += [order] if len(order.rows) > 1 else []
    return found


def _order(folder: str, first: Table, second: Table) -> Order:
    metric = first.shop.valid_metric
    both = {cell.row.name for cell in first.ranked(metric)} & {cell.row.name for cell in second.ranked(metric)}
    means = [
        {cell.row.name: round(cell.mean(metric), 12) for cell in table.ranked(metric) if cell.row.name in both}
        for table in (first, second)
    ]
    places = [
        {name: 1 + sum(other > mean for other in found.values()) for name, mean in found.items()} for found in means
    ]
    rows = tuple((name, places[0][name], means[0][name], places[1][name], means[1][name]) for name in means[0])
    tau = kendalltau([row[2] for row in rows], [row[4] for row in rows]).statistic if len(rows) > 1 else float("nan")
    marks = [{cell.row.name: cell.marks for cell in table.cells} for table in (first, second)]
    return Order(folder, metric, rows, float(tau), tuple((marks[0][row[0]], marks[1][row[0]]) for row in rows))
