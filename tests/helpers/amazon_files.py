"""Small files in the layouts of Amazon's data sets, made by a program."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

START = 1_400_000_000
DAY = 86_400

Review = tuple[str, str, int, float]  # user, item, seconds, rating


def make_reviews(users: int = 12, items: int = 8, each: int = 6, seed: int = 1) -> list[Review]:
    """Each user takes ``each`` different items, one a day, some days twice; ratings are 1 to 5."""
    lot = random.Random(seed)
    rows = []
    for user in range(users):
        for step, item in enumerate(lot.sample(range(items), each)):
            second = START + DAY * (user + step - step % 2)
            rows.append((f"A{user:012d}X", f"B{item:09d}", second, float(lot.randint(1, 5))))
    return rows


def review_record(review: Review, year: int) -> dict[str, Any]:
    """A line of a file of reviews of that year, as an object."""
    user, item, second, rating = review
    if year == 2023:
        return {
            "rating": rating,
            "title": "Fine",
            "text": 'It "works"; C:\\d',
            "images": [],
            "asin": "B0VARIANT",
            "parent_asin": item,
            "user_id": user,
            "timestamp": second * 1000 + 999,
            "verified_purchase": True,
        }
    return {
        "reviewerID": user,
        "asin": item,
        "reviewerName": "J. O'Neil",
        "helpful": [2, 3],
        "reviewText": 'It "works"; C:\\d',
        "overall": rating,
        "summary": "Fine",
        "unixReviewTime": second,
    }


def meta_record(number: int, year: int) -> dict[str, Any]:
    """A line of a file of metadata of that year, as an object; all years tell the same of an item."""
    item, title, brand = f"B{number:09d}", f"Item &amp; part <b>no. {number}</b>", "O'Brand"
    description, shelves = f"Made of steel.<br>Weighs {number} kg", ["Tools", "Hammers"]
    picture = f"https://images.example/I/{number}"
    if year == 2014:
        return {
            "asin": item,
            "title": title,
            "price": 9.99,
            "brand": brand,
            "categories": [["Tools", "Hammers"], ["Tools"]],
            "description": f"{description}. Light",
            "imUrl": f"{picture}.jpg",
            "related": {"also_bought": ["B000000000"]},
        }
    if year == 2018:
        return {
            "category": shelves,
            "description": [description],
            "title": title,
            "brand": brand,
            "feature": ["Light"],
            "asin": item,
            "imageURL": [f"{picture}._SS40_.jpg", "https://images.example/other._SS40_.jpg"],
            "imageURLHighRes": [f"{picture}.jpg", "https://images.example/other.jpg"],
        }
    return {
        "main_category": "Tools",
        "title": title,
        "store": brand,
        "categories": shelves,
        "features": ["Light"],
        "description": [description],
        "parent_asin": item,
        "images": [
            {"thumb": f"{picture}._SS40_.jpg", "large": f"{picture}._SL500_.jpg", "hi_res": None, "variant": "MAIN"},
            {"thumb": "https://images.example/other.jpg", "large": None, "hi_res": None, "variant": "PT01"},
        ],
        "details": {"Brand": brand},
    }


def to_line(record: dict[str, Any], literal: bool = False) -> str:
    """An object as a line: JSON, or Python's way of writing."""
    return f"{record!r}\n" if literal else json.dumps(record) + "\n"


def write(path: Path, lines: list[str]) -> Path:
    """Writes lines, packed if the name ends in .gz."""
    data = "".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_year(folder: Path, year: int, suffix: str = "") -> tuple[Path, Path]:
    """Files of reviews and metadata of a year; the same reviews and items in each."""
    literal = year == 2014
    reviews = [to_line(review_record(review, year), literal) for review in make_reviews()]
    meta = [to_line(meta_record(number, year), literal) for number in range(8)]
    return write(folder / f"reviews{suffix}", reviews), write(folder / f"meta{suffix}", meta)
