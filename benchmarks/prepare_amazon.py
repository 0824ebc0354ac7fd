"""Raw Amazon reviews to atomic files, against a plain program that reads line by line with json.loads.

Makes files in the layout of 2018, prepares them in both ways, compares the results byte by byte, and prints times,
their ratios and the peak memory. Each way runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from machine import processor

K = 5
WORDS = [
    *("the", "a", "it", "works", "great", "for", "my", "kitchen", "and", "I", "love", "this", "product", "very"),
    *("good", "quality", "price", "arrived", "in", "time", "would", "buy", "again", "not", "what", "was", "expected"),
    *("small", "large", "color", "easy", "to", "use", "well", "made", "sturdy", "cheap", "broke", "after", "two"),
]


def make_files(folder: Path, reviews: int) -> None:
    """Writes reviews.json and meta.json: skewed users and items, texts of 60 words on average, days as time stamps."""
    lot = np.random.default_rng(0)
    users, items = reviews // 8, max(reviews // 50, 50)
    user = (users * lot.random(reviews) ** 1.5).astype(int)
    item = (items * lot.random(reviews) ** 2).astype(int)
    second = 1_300_000_000 // 86_400 * 86_400 + 86_400 * lot.integers(0, 2_500, reviews)
    texts = [" ".join(lot.choice(WORDS, max(3, int(lot.exponential(60))))) for _ in range(2_000)]
    with (folder / "reviews.json").open("w") as handle:
        for start in range(0, reviews, 100_000):
            block = slice(start, start + 100_000)
            count = len(user[block])
            columns = (
                user[block],
                item[block],
                second[block],
                lot.integers(1, 6, count),
                lot.integers(0, 2_000, count),
            )
            handle.writelines(
                f'{{"overall": {rating}.0, "vote": "3", "verified": true, "reviewTime": "09 13, 2016", '
                f'"reviewerID": "A{who:013d}", "asin": "B{what:09d}", '
                f'"style": {{"Size:": " Large", "Color:": " Black"}}, '
                f'"reviewerName": "Jane Doe", "reviewText": "{texts[text]}", "summary": "Four Stars", '
                f'"unixReviewTime": {when}}}\n'
                for who, what, when, rating, text in zip(*(column.tolist() for column in columns), strict=True)
            )
    with (folder / "meta.json").open("w") as handle:
        for number in range(items):
            record = {"category": ["Tools", "Hand Tools"], "title": f"Item no. {number}", "brand": "Acme"}
            handle.write(json.dumps({**record, "asin": f"B{number:09d}"}) + "\n")


def plain(folder: Path) -> dict[str, float]:
    """The same data set by a program that keeps Python objects and reads with json.loads."""
    start = time.perf_counter()
    rows = []
    with (folder / "reviews.json").open(encoding="utf-8") as handle:
        for line in handle:
            record = json.loads(line)
            rows.append((record["reviewerID"], record["asin"], int(record["unixReviewTime"])))
    distinct = sorted(set(rows), key=lambda row: (row[0], row[2], row[1]))
    read = time.perf_counter() - start
    texts = {}
    with (folder / "meta.json").open(encoding="utf-8") as handle:
        for line in handle:
            record = json.loads(line)
            texts[record["asin"]] = f"{record['title']}. {record['brand']}. {' '.join(record['category'])}."
    kept = [row for row in distinct if row[1] in texts]
    while True:
        users, items = Counter(row[0] for row in kept), Counter(row[1] for row in kept)
        rest = [row for row in kept if users[row[0]] >= K and items[row[1]] >= K]
        if len(rest) == len(kept):
            break
        kept = rest
    target = folder / "plain"
    target.mkdir()
    with (target / "shop.inter").open("w") as handle:
        handle.write("user_id:token\titem_id:token\ttimestamp:float\n")
        handle.writelines(f"{user}\t{item}\t{second}\n" for user, item, second in kept)
    with (target / "shop.item").open("w") as handle:
        handle.write("item_id:token\ttext:token_seq\timage:token\n")
        handle.writelines(f"{item}\t{texts[item]}\t\n" for item in sorted({row[1] for row in kept}))
    return {"read": read, "all": time.perf_counter() - start}


def ours(folder: Path) -> dict[str, float]:
    """The data set by ``python -m dataset_prep amazon``; reading ends with sorted, distinct interactions here, too."""
    start = time.perf_counter()
    from dataset_prep.sources.amazon import reviews as amazon_reviews
    from dataset_prep.sources.amazon.command import AmazonOptions, prepare_amazon

    read = {"read": 0.0}
    inner = amazon_reviews.read_reviews

    def timed(*arguments: object, **named: object) -> object:
        begin = time.perf_counter()
        reviews = inner(*arguments, **named)  # type: ignore[arg-type]
        read["read"] = time.perf_counter() - begin
        return reviews

    amazon_reviews.read_reviews = timed  # type: ignore[assignment]
    prepare_amazon([folder / "reviews.json"], [folder / "meta.json"], "shop", folder / "ours", AmazonOptions())
    return {**read, "all": time.perf_counter() - start}


def main() -> None:
    """Runs the comparison and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=5_000_000, help="how many (default: 5,000,000; 3 GB of disk)")
    parser.add_argument("--quick", action="store_true", help="200,000 reviews")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: the system's temporary folder)")
    parser.add_argument("--way", choices=("plain", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        seconds = plain(arguments.folder) if arguments.way == "plain" else ours(arguments.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({**seconds, "peak": peak}))
        return
    count = 200_000 if arguments.quick else arguments.reviews
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        make_files(folder, count)
        report(folder, count)
    finally:
        shutil.rmtree(folder)


def report(folder: Path, count: int) -> None:
    """Runs both ways in processes of their own, and prints the table."""
    import duckdb

    size = (folder / "reviews.json").stat().st_size / 1e9
    print(f"{processor()}; Python {platform.python_version()}, DuckDB {duckdb.__version__}")
    print(f"{count:,} reviews, {size:.2f} GB, {K}-core")
    measured = {}
    for way in ("ours", "plain"):
        command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
        paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        measured[way] = json.loads(done.stdout)
    for suffix in ("inter", "item"):
        same = (folder / f"ours/shop/shop.{suffix}").read_bytes() == (folder / f"plain/shop.{suffix}").read_bytes()
        if not same:
            sys.exit(f"shop.{suffix} differs between the two ways")
    print(f"{'':8}{'reading':>10}{'all':>10}{'peak':>12}")
    for way, row in measured.items():
        print(f"{way:8}{row['read']:>8.1f} s{row['all']:>8.1f} s{row['peak']:>8.2f} GiB")
    ratios = {key: measured["plain"][key] / measured["ours"][key] for key in ("read", "all")}
    print(f"{'ratio':8}{ratios['read']:>10.1f}{ratios['all']:>10.1f}      same files")


if __name__ == "__main__":
    main()
