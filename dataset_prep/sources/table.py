"""``table``: an interaction table and an item table."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path

from dataset_prep.files.arguments import TABLE_FILES, add_columns, add_images, add_output, parse_columns
from dataset_prep.files.item_table import check_match, find_images, read_item_table
from dataset_prep.files.times import MICROSECONDS, PER_SECOND, parse_time
from dataset_prep.filters.arguments import add_filters, filters_of
from dataset_prep.filters.filters import KEEP_ALL, Filters, apply_filters
from dataset_prep.filters.interactions import InteractionLog, Interactions
from dataset_prep.sources.prepared import Origin, Prepared, write_interactions_and_texts
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.base.table_files import read_rows
from recbole_mmm4rec.base.texts import check_id, check_set_name

COLUMNS = ("user_id", "item_id", "timestamp", "text", "image", "rating")
OPTIONAL_COLUMNS = ("image", "rating")


@dataclass(frozen=True)
class TableOptions:
    """How the tables are read.

    Attributes:
        columns: their names in the files by the names of ``COLUMNS``; "image" and "rating" only where there are any.
        time_unit: what a time stamp counts: "s", "ms", "us" or "ns".
        time_from_order: take the order of each user's lines for the time; no time stamp is read.
        filters: which interactions stay.
        images: folder of pictures named by item id, or None.
        keep: further columns of the item table that go into the data set.
    """

    columns: dict[str, str]
    time_unit: str = "s"
    time_from_order: bool = False
    filters: Filters = KEEP_ALL
    images: Path | None = None
    keep: tuple[str, ...] = ()


def prepare_table(
    interactions: Path, items: Path, name: str, out: Path, options: TableOptions, force: bool = False
) -> Prepared:
    """Makes a data set from two tables.

    Args:
        interactions: a row an interaction: user id, item id, time stamp.
        items: a row an item: item id, text, perhaps where its picture is.
        name: of the data set.
        out: folder of data sets.
        options: how the tables are read.
        force: replace another set of this name.

    Raises:
        UserError: something in the files cannot be used, or another set of this name is there.
    """
    check_set_name(name)
    if options.time_from_order and (options.filters.since, options.filters.until) != (None, None):
        raise UserError("--since and --until: with --time-from-order there are no dates; leave one of them out")
    if "rating" in options.columns and options.filters.min_rating is None:
        said = f"--columns rating={options.columns['rating']}: ratings are read for --min-rating alone"
        raise UserError(f"{said}; give that, too, or leave rating out")
    if options.images is not None and "image" in options.columns:
        raise UserError(f"--images {options.images}: --columns names an image column, too; give one of the two")
    log = _read_interactions(interactions, options)
    _check_kept(options)
    item_table = read_item_table(items, options.columns, options.keep, options.images)
    notes = item_table.notes + check_match(log.items, item_table.texts, str(items))
    origin = Origin(
        "table",
        {
            "columns": item_table.columns,
            "time_unit": options.time_unit,
            "time_from_order": options.time_from_order,
            **({"keep": list(options.keep)} if options.keep else {}),
            **options.filters.record(),
        },
        {"interactions": hash_file(interactions), "items": hash_file(items)},
    )
    log, steps = apply_filters(log, options.filters, item_table.texts)
    images = item_table.images
    if options.images is not None:
        images = find_images(options.images, item_table.texts.keys() | set(log.items))
    counts, kept = item_table.counts, item_table.kept
    return write_interactions_and_texts(
        out, name, origin, log, item_table.texts, counts, force, images=images, kept=kept, steps=steps, notes=notes
    )


def _check_kept(options: TableOptions) -> None:
    for column in options.keep:
        if column in COLUMNS and column != "rating":  # which is read, but not written
            raise UserError(f"--keep {column}: the data set has a column of that name; leave it out")
        if not re.fullmatch(r"\w[\w.-]*", column):
            raise UserError(f"--keep {column!r}: a column's name is letters, digits, '_', '.' and '-'; rename it")
    if len(set(options.keep)) < len(options.keep):
        raise UserError(f"--keep {','.join(options.keep)}: a column is named twice")


def _read_interactions(path: Path, options: TableOptions) -> Interactions:
    user_column, item_column, time_column = (options.columns[key] for key in COLUMNS[:3])
    with_rating = options.filters.min_rating is not None
    wanted = [user_column, item_column]
    wanted += [] if options.time_from_order else [time_column]
    wanted += [options.columns.get("rating", "rating")] if with_rating else []
    log = InteractionLog(with_rating, 1 if options.time_from_order else MICROSECONDS)
    lines_of: dict[str, int] = {}
    for place, (user, item, *rest) in read_rows(path, wanted):
        check_id(user, user_column, place)
        check_id(item, item_column, place)
        if options.time_from_order:
            time = lines_of[user] = lines_of.get(user, -1) + 1
        else:
            time = parse_time(rest[0], options.time_unit, place)
        log.add(user, item, time, _parse_rating(rest[-1], place) if with_rating else math.nan)
    if not len(log):
        raise UserError(f"{path}: no interactions; give a table with at least one line after the header")
    table = log.finish()
    if len(log) > 1 and not options.time_from_order and table.time.min() == table.time.max():
        raise UserError(
            f"{path}: every timestamp is {table.time[0] / MICROSECONDS:.15g} s, which gives no order; "
            "use --time-from-order if the lines of each user are in order"
        )
    return table


def _parse_rating(text: str, place: str) -> float:
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise UserError(f"{place}: rating {text!r} is no number; correct it, or leave --min-rating out") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``table`` is told."""
    parser.epilog = (
        f"files: {TABLE_FILES}\n\nexample:\n  %(prog)s --interactions sales.parquet "
        "--items products.csv.gz --name shop \\\n      --columns user_id=customer,item_id=sku,timestamp=ts,text=title\n"
    )
    parser.add_argument("--interactions", type=Path, required=True, metavar="FILE", help="user_id, item_id, timestamp")
    parser.add_argument("--items", type=Path, required=True, metavar="FILE", help="item_id, text (and image)")
    add_columns(parser, COLUMNS)
    parser.add_argument("--time-unit", choices=PER_SECOND, help="what a timestamp counts (default: s)")
    parser.add_argument("--time-from-order", action="store_true", help="take each user's line order for the time")
    add_images(parser)
    parser.add_argument(
        "--keep", default="", metavar="COLUMN,...", help="further columns of items, to choose recommendations by"
    )
    add_output(parser)
    add_filters(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    if arguments.time_from_order and arguments.time_unit is not None:
        said = f"--time-unit {arguments.time_unit}: with --time-from-order no timestamp is read"
        raise UserError(f"{said}; leave one of them out")
    options = TableOptions(
        columns=parse_columns(arguments.columns, COLUMNS, OPTIONAL_COLUMNS),
        time_unit=arguments.time_unit or "s",
        time_from_order=arguments.time_from_order,
        filters=filters_of(arguments),
        images=arguments.images,
        keep=tuple(filter(None, arguments.keep.split(","))),
    )
    return prepare_table(
        arguments.interactions, arguments.items, arguments.name, arguments.out, options, arguments.force
    ).summary()
