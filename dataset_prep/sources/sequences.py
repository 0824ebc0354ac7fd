"""``sequences``: a line a user with all item ids, oldest first, and an item table."""

from __future__ import annotations

import argparse
from pathlib import Path

from dataset_prep.files.arguments import TABLE_FILES, add_columns, add_images, add_output, parse_columns
from dataset_prep.files.item_table import check_match, find_images, read_item_table
from dataset_prep.filters.arguments import add_filters, filters_of
from dataset_prep.filters.filters import KEEP_ALL, Filters, apply_filters
from dataset_prep.filters.interactions import InteractionLog, Interactions
from dataset_prep.sources.prepared import Origin, Prepared, write_interactions_and_texts
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.base.table_files import read_rows
from recbole_mmm4rec.base.texts import check_id, check_set_name

COLUMNS = ("user_id", "item_ids", "item_id", "text", "image")
OPTIONAL_COLUMNS = ("image",)


def prepare_sequences(
    sequences: Path,
    items: Path,
    name: str,
    out: Path,
    columns: dict[str, str],
    force: bool = False,
    filters: Filters = KEEP_ALL,
    images: Path | None = None,
) -> Prepared:
    """Makes a data set from users' item sequences; the position in the sequence, from 0, is the time.

    Args:
        sequences: a row a user: user id, item ids separated by blanks.
        items: a row an item: item id, text, perhaps where its picture is.
        name: of the data set.
        out: folder of data sets.
        columns: names in the files by the names of ``COLUMNS``; "image" only where there is one.
        force: replace another set of this name.
        filters: which interactions stay; there are no ratings and dates.
        images: folder of pictures named by item id, or None.

    Raises:
        UserError: something in the files cannot be used, or another set of this name is there.
    """
    check_set_name(name)
    if images is not None and "image" in columns:
        raise UserError(f"--images {images}: --columns names an image column, too; give one of the two")
    log, empty = _read_sequences(sequences, columns)
    item_table = read_item_table(items, columns, folder=images)
    notes = item_table.notes + check_match(log.items, item_table.texts, str(items))
    inputs = {"sequences": hash_file(sequences), "items": hash_file(items)}
    counts = {"users_without_items_dropped": empty, **item_table.counts}
    origin = Origin("sequences", {"columns": item_table.columns, **filters.record()}, inputs)
    log, steps = apply_filters(log, filters, item_table.texts)
    places = item_table.images
    if images is not None:
        places = find_images(images, item_table.texts.keys() | set(log.items))
    return write_interactions_and_texts(
        out, name, origin, log, item_table.texts, counts, force, images=places, steps=steps, notes=notes
    )


def _read_sequences(path: Path, columns: dict[str, str]) -> tuple[Interactions, int]:
    log = InteractionLog()
    place_of: dict[str, str] = {}
    empty = 0
    for place, (user, sequence) in read_rows(path, [columns["user_id"], columns["item_ids"]]):
        check_id(user, columns["user_id"], place)
        if user in place_of:
            raise UserError(f"{place}: user '{user}' was there before ({place_of[user]}); put both in one sequence")
        place_of[user] = place
        items = list(filter(None, sequence.split(" ")))
        empty += not items
        for position, item in enumerate(items):
            log.add(user, check_id(item, columns["item_ids"], place), position)
    if not len(log):
        raise UserError(f"{path}: no interactions; give at least one user with items")
    return log.finish(), empty


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``sequences`` is told."""
    parser.epilog = (
        f"files: {TABLE_FILES}\n\nexample:\n  %(prog)s --sequences sequences.tsv.gz "
        "--items items.tsv.gz --name scientific\n"
    )
    parser.add_argument("--sequences", type=Path, required=True, metavar="FILE", help="user_id, item_ids, oldest first")
    parser.add_argument("--items", type=Path, required=True, metavar="FILE", help="item_id, text (and image)")
    add_columns(parser, COLUMNS)
    add_images(parser)
    add_output(parser)
    add_filters(parser, times=False, ratings=False)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    return prepare_sequences(
        arguments.sequences,
        arguments.items,
        arguments.name,
        arguments.out,
        parse_columns(arguments.columns, COLUMNS, OPTIONAL_COLUMNS),
        arguments.force,
        filters_of(arguments),
        arguments.images,
    ).summary()
