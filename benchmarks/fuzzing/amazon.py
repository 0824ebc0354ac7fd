"""The fuzzer's readers of Amazon's dumps."""

from __future__ import annotations

import gzip
from pathlib import Path

from amazon_files import make_reviews, meta_record, review_record, to_line
from fuzzing.cases import Case, Reader

from dataset_prep.filters.filters import Filters
from dataset_prep.sources.amazon.command import AmazonOptions, prepare_amazon
from dataset_prep.sources.amazon.items import read_metadata
from dataset_prep.sources.amazon.layouts import detect_reviews
from dataset_prep.sources.amazon.lines import BadLines, UnusableError, head, numbered_lines, parse_record
from dataset_prep.sources.amazon.reviews import ReadOptions, _row, read_reviews

_FIELDS = ("title", "brand", "categories", "features", "description")


def _reviews(folder: Path) -> None:
    read_reviews([folder / "reviews"], ReadOptions(with_rating=True), BadLines(20), folder / "spill")


def _review_lines(folder: Path) -> None:
    file = folder / "reviews"
    layout = detect_reviews(file, head(file), None)
    for _, line in numbered_lines(file):
        try:
            _row(parse_record(line), layout, layout.unit)
        except UnusableError:
            continue


def _meta(folder: Path) -> None:
    wanted = {f"B{number:09d}" for number in range(8)}
    read_metadata([folder / "meta"], _FIELDS, wanted, BadLines(20)).digest()


def _amazon(folder: Path) -> None:
    options = AmazonOptions(Filters(k_core=2, require_text=True), max_bad=20)
    prepare_amazon([folder / "reviews"], [folder / "meta"], "made", folder / "out", options, force=True)


def amazon_cases() -> tuple[list[Case], list[Case]]:
    """Reviews, and metadata, of each year."""
    reviews: list[Case] = []
    metas: list[Case] = []
    for year in (2014, 2018, 2023):
        told = [to_line(review_record(one, year), year == 2014) for one in make_reviews(users=5, each=4)]
        meta = [to_line(meta_record(number, year), year == 2014) for number in range(8)]
        reviews.append({"reviews": "".join(told).encode()})
        metas.append({"meta": "".join(meta).encode()})
    rows = [f"{item},{user},{rating},{time}" for user, item, time, rating in make_reviews(users=5, each=4)]
    reviews += [{"reviews": "\n".join(rows).encode()}, {"reviews": gzip.compress(reviews[2]["reviews"])}]
    heads = "rating,parent_asin,user_id,timestamp\n" + "\n".join(
        f"5.0,B00000000{n},A{n},1600000000{n:03d}" for n in range(9)
    )
    metas.append({"meta": gzip.compress(metas[2]["meta"])})
    return [*reviews, {"reviews": heads.encode()}], metas


def readers(corpus: Path) -> list[Reader]:
    """All of Amazon's."""
    reviews, metas = amazon_cases()
    both = [{**one, **metas[at % len(metas)]} for at, one in enumerate(reviews)]
    return [
        Reader("Amazon's reviews, line by line", 40_000, reviews[:3], {"": "jsonl"}, _review_lines),
        Reader("Amazon's reviews, whole files", 1_500, reviews, {"": "jsonl"}, _reviews, cleared=True),
        Reader("Amazon's metadata", 25_000, metas, {"": "jsonl"}, _meta),
        Reader("prep amazon", 1_000, both, {"": "jsonl"}, _amazon, cleared=True),
    ]
