"""``table``: an interaction table and an item table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataset_prep.atomic import hash_file
from dataset_prep.interactions import InteractionLog, Interactions
from dataset_prep.item_table import read_item_table
from dataset_prep.prepared import Origin, Prepared, write_interactions_and_texts
from dataset_prep.readers import read_rows
from dataset_prep.text import check_id, check_set_name
from dataset_prep.times import parse_seconds
from recbole_mmm4rec.errors import UserError

COLUMNS = ("user_id", "item_id", "timestamp", "text")


@dataclass(frozen=True)
class TableOptions:
    """How the tables are read.

    Attributes:
        columns: their names in the files by the names of ``COLUMNS``.
        time_unit: what a time stamp counts: "s", "ms", "us" or "ns".
        time_from_order: take the order of each user's lines for the time; no time stamp is read.
    """

    columns: dict[str, str]
    time_unit: str = "s"
    time_from_order: bool = False


def prepare_table(
    interactions: Path, items: Path, name: str, out: Path, options: TableOptions, force: bool = False
) -> Prepared:
    """Makes a data set from two tables.

    Args:
        interactions: a row an interaction: user id, item id, time stamp.
        items: a row an item: item id, text.
        name: of the data set.
        out: folder of data sets.
        options: how the tables are read.
        force: replace another set of this name.

    Raises:
        UserError: something in the files cannot be used, or another set of this name is there.
    """
    check_set_name(name)
    log = _read_interactions(interactions, options)
    texts, repeated = read_item_table(items, options.columns)
    origin = Origin(
        "table",
        {
            "columns": options.columns,
            "time_unit": options.time_unit,
            "time_from_order": options.time_from_order,
        },
        {"interactions": hash_file(interactions), "items": hash_file(items)},
    )
    counts = {"repeated_rows_of_the_item_table_dropped": repeated}
    return write_interactions_and_texts(out, name, origin, log, texts, counts, force)


def _read_interactions(path: Path, options: TableOptions) -> Interactions:
    user_column, item_column, time_column = (options.columns[key] for key in COLUMNS[:3])
    wanted = [user_column, item_column] + ([] if options.time_from_order else [time_column])
    log = InteractionLog()
    lines_of: dict[str, int] = {}
    for place, (user, item, *stamp) in read_rows(path, wanted):
        check_id(user, user_column, place)
        check_id(item, item_column, place)
        if options.time_from_order:
            time = lines_of[user] = lines_of.get(user, -1) + 1
        else:
            time = parse_seconds(stamp[0], options.time_unit, place)
        log.add(user, item, time)
    if not len(log):
        raise UserError(f"{path}: no interactions; give a table with at least one line after the header")
    table = log.finish()
    if len(log) > 1 and not options.time_from_order and table.time.min() == table.time.max():
        raise UserError(
            f"{path}: every timestamp is {table.time[0]}, which gives no order; "
            "use --time-from-order if the lines of each user are in order"
        )
    return table
