"""``amazon``: the public Amazon review data sets of 2014, 2018 and 2023."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_prep.files.arguments import add_output
from dataset_prep.files.item_table import check_match
from dataset_prep.filters.arguments import add_filters, filters_of
from dataset_prep.filters.filters import Filters, Step, filter_interactions, require_text
from dataset_prep.filters.interactions import Interactions
from dataset_prep.sources.amazon.asked import add_download, asked_for, fetch
from dataset_prep.sources.amazon.layouts import TEXT_FIELDS, YEARS
from dataset_prep.sources.amazon.lines import BadLines
from dataset_prep.sources.prepared import Origin, Prepared, write_interactions_and_texts
from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.base.texts import check_set_name

K_CORE = 5
MAX_BAD = 1_000
FIELDS = tuple(TEXT_FIELDS)
PUBLISHED_FIELDS = ("title", "categories", "brand")
"""What UniSRec's preparation makes the text of, whose sets VQ-Rec takes and MISSRec points to. MMM4Rec's own
preparation (``_parse_text`` in its dataset/amazon-2018/preprocess/utils.py) reads title, brand and description."""
DEFAULT_FILTERS = Filters(k_core=K_CORE, require_text=True)

EPILOG = f"""files: plain or gzip, told apart by their content
  2014  one object a line, as JSON or as a Python literal (reviewerID, asin, unixReviewTime, overall)
  2018  one JSON object a line with the same keys, or item,user,rating,timestamp without a header
  2023  one JSON object a line (user_id, parent_asin, timestamp in milliseconds, rating), or CSV with that header

text: {" ".join(f"{field.capitalize()}." for field in FIELDS)}

with --download, as the published programs: an item needs a row of metadata instead of a text (--require-text: a text),
and reviews that differ in the rating alone are two

examples:
  %(prog)s --download scientific          # the public files of 2018, the published set
  %(prog)s --download scientific --text-fields title,brand,description   # the same, MMM4Rec's parts of the text
  %(prog)s --reviews Industrial_and_Scientific.json.gz \\
      --meta meta_Industrial_and_Scientific.json.gz --name scientific
"""


@dataclass(frozen=True)
class AmazonOptions:
    """How Amazon's files are read.

    Attributes:
        filters: which interactions stay.
        text_fields: what makes the text, in this order; of ``FIELDS``.
        year: 2014, 2018 or 2023; None to tell from each file.
        time_unit: what a review's time stamp counts, "s" or "ms"; None for the year's own.
        max_bad: unusable lines that are left out before the run stops.
        published: users and items that must come out, or None.
        require_row: items without a row of metadata go, and those with one stay, whatever text they have.
        each_rating: reviews that differ in the rating alone are two.
    """

    filters: Filters = DEFAULT_FILTERS
    text_fields: Sequence[str] = FIELDS
    year: int | None = None
    time_unit: str | None = None
    max_bad: int = MAX_BAD
    published: tuple[int, int] | None = None
    require_row: bool = False
    each_rating: bool = False


def prepare_amazon(
    reviews: Sequence[Path], metadata: Sequence[Path], name: str, out: Path, options: AmazonOptions, force: bool = False
) -> Prepared:
    """Makes a data set from Amazon's reviews and metadata.

    Neither the order of lines nor that of files changes the result.

    Args:
        reviews: files of reviews.
        metadata: files of metadata; may be empty if no text is required.
        name: of the data set.
        out: folder of data sets.
        options: how the files are read.
        force: replace another set of this name.

    Raises:
        UserError: something in the files cannot be used, nothing is left, or another set of this name is there.
    """
    check_set_name(name)
    if (options.filters.require_text or options.require_row) and not metadata:
        raise UserError("--meta is missing: give the metadata, or --no-require-text for a set without texts")
    try:
        from dataset_prep.sources.amazon.items import read_metadata
        from dataset_prep.sources.amazon.reviews import ReadOptions, read_reviews
    except ImportError as error:
        raise UserError(f"amazon needs duckdb and lxml ({error}): pip install 'recbole-mmm4rec[prep]'") from None
    bad = BadLines(options.max_bad)
    filters = options.filters
    reading = ReadOptions(options.year, options.time_unit, filters.min_rating is not None, options.each_rating)
    read = read_reviews(reviews, reading, bad, _spill_folder(out, name))
    table, steps = filter_interactions(read.table, filters)
    bad_items = BadLines(options.max_bad)
    items = read_metadata(metadata, options.text_fields, set(table.items), bad_items)
    notes = check_match(table.items, items.texts, "--meta") if metadata else []
    table, more = _described(table, items.texts, options)
    steps += more
    if options.published is not None:
        _check_published(name, options.published, (len(table.users), len(table.items)), steps)
    there = set(table.items)
    texts = {item: text for item, text in items.texts.items() if item in there}
    counts = {
        "reviews_read": read.read,
        "unusable_lines_of_reviews_left_out": bad.count,
        "unusable_lines_of_metadata_left_out": bad_items.count,
        **items.counts,
    }
    if items.unread:
        notes.append(f"pictures in a shape that is not read: {items.unread}")
    origin = Origin("amazon", _record(options), {"reviews": read.digest, "metadata": items.digest()})
    return write_interactions_and_texts(
        out, name, origin, table, texts, counts, force, images=items.images, steps=steps, notes=notes
    )


def _described(table: Interactions, texts: dict[str, str], options: AmazonOptions) -> tuple[Interactions, list[Step]]:
    """The interactions with items of which the metadata say as much as is asked, and what went."""
    k = options.filters.k_core
    if options.filters.require_text:
        return require_text(table, {item for item, text in texts.items() if text}, k)
    return require_text(table, texts, k, "metadata") if options.require_row else (table, [])


def _check_published(name: str, published: tuple[int, int], found: tuple[int, int], steps: Sequence[Step]) -> None:
    """Refuse a set of other users or items than the published one, saying where they went."""
    if found == published:
        return
    counted = ", ".join(
        f"{here:,} {what} (published {there:,})"
        for what, here, there in zip(("users", "items"), found, published, strict=True)
    )
    removed = "; ".join(f"{step.what}: {step.users:,} users, {step.items:,} items" for step in steps)
    raise UserError(
        f"{name}: {counted}: not the published set, so nothing was written. Removed were {removed or 'none'}. "
        "--other-counts keeps the set as it is"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``amazon`` is told."""
    parser.description = "Reads Amazon's reviews and metadata."
    parser.epilog = EPILOG
    for option, what in (("--reviews", "reviews"), ("--meta", "metadata")):
        said = f"files of {what}; with --download instead of the public one"
        parser.add_argument(option, type=Path, nargs="+", default=[], metavar="FILE", help=said)
    add_download(parser)
    add_output(parser, required=False)
    parser.add_argument(
        "--text-fields",
        metavar="FIELD,...",
        help=f"parts of the text (default: {','.join(FIELDS)}; with --download {','.join(PUBLISHED_FIELDS)})",
    )
    parser.add_argument("--year", type=int, choices=YEARS, help="layout of the reviews (default: told by content)")
    parser.add_argument("--time-unit", choices=("s", "ms"), help="of the reviews' time stamps (default: the year's)")
    parser.add_argument(
        "--max-bad", type=int, default=MAX_BAD, metavar="N", help="stop after N unusable lines (default: %(default)s)"
    )
    add_filters(parser, k_core=K_CORE, need_text=True)
    parser.set_defaults(run=_run, require_text=None)  # yes, but with --download a row of metadata is enough


def parse_fields(text: str) -> tuple[str, ...]:
    """The fields in ``title,brand``.

    Raises:
        UserError: none, an unknown one, or one given twice.
    """
    fields = tuple(text.split(","))
    for field in fields:
        if field not in FIELDS:
            raise UserError(f"--text-fields '{field}': choose from {', '.join(FIELDS)}{did_you_mean(field, FIELDS)}")
    if len(set(fields)) < len(fields):
        raise UserError(f"--text-fields '{text}': name each field once")
    return fields


def _spill_folder(out: Path, name: str) -> Path:
    """Where DuckDB puts what does not fit into memory: beside the result, without making folders for it."""
    folder = out
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder / f".{name}.spill"


def _run(arguments: argparse.Namespace) -> str:
    if arguments.max_bad < 0:
        raise UserError(f"--max-bad {arguments.max_bad}: must be 0 or more")
    public = asked_for(arguments)
    a_row_is_enough = public is not None and arguments.require_text is None
    if arguments.require_text is None:
        arguments.require_text = public is None
    options = AmazonOptions(
        published=None if public is None or arguments.other_counts else (public.users, public.items),
        filters=filters_of(arguments),
        text_fields=parse_fields(arguments.text_fields or ",".join(FIELDS if public is None else PUBLISHED_FIELDS)),
        year=arguments.year,
        time_unit=arguments.time_unit,
        max_bad=arguments.max_bad,
        require_row=a_row_is_enough,
        each_rating=public is not None,
    )
    reviews, metadata = arguments.reviews, arguments.meta
    if public is not None:
        reviews, metadata = fetch(public, arguments)
    return prepare_amazon(reviews, metadata, arguments.name, arguments.out, options, arguments.force).summary()


def _record(options: AmazonOptions) -> dict[str, Any]:
    return {
        "text_fields": list(options.text_fields),
        "year": options.year,
        "time_unit": options.time_unit,
        **{name: True for name in ("require_row", "each_rating") if getattr(options, name)},
        **options.filters.record(),
    }
