"""The command line of ``images``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dataset_prep.files.arguments import add_set
from recbole_mmm4rec.base.errors import UserError

_UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``images`` is told."""
    parser.description = (
        "Fetches the pictures that column 'image' of a data set's items names; a second run fetches only what is "
        "missing."
    )
    parser.epilog = "example:\n  %(prog)s shop --concurrency 32 --rate 50\n"
    add_set(parser)
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the column's local file names are looked up")
    parser.add_argument("--concurrency", type=int, default=16, metavar="N", help="fetches at a time (default: 16)")
    parser.add_argument("--rate", default=None, metavar="N/s", help="requests a second (default: as fast as they come)")
    parser.add_argument("--max-bytes", default="20M", metavar="N", help="largest file; k, M, G (default: 20M)")
    parser.add_argument("--max-pixels", default="50M", metavar="N", help="largest picture (default: 50M)")
    parser.add_argument(
        "--retries", type=int, default=3, metavar="N", help="further tries, where one may help (default: 3)"
    )
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds for a picture (default: 30)")
    parser.add_argument(
        "--allow-private-addresses", action="store_true", help="also fetch from private, loopback and local addresses"
    )
    parser.set_defaults(run=_run)


def _number(flag: str, text: str) -> int:
    unit = text[-1:] if text[-1:] in _UNITS else ""
    digits = text.removesuffix(unit)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
        raise UserError(f"{flag} {text}: a whole number is wanted, k, M or G may follow it")
    return int(digits) * _UNITS[unit]


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text.removesuffix("/s"))
    except ValueError:
        raise UserError(f"--rate {text}: a number of requests a second is wanted, for example 10/s") from None


def _run(arguments: argparse.Namespace) -> str:
    from dataset_prep.images.client import FetchLimits
    from dataset_prep.images.fetch import ImageOptions, fetch_images

    limits = FetchLimits(
        max_bytes=_number("--max-bytes", arguments.max_bytes),
        timeout=arguments.timeout,
        retries=arguments.retries,
        rate=_rate(arguments.rate),
        allow_private=arguments.allow_private_addresses,
    )
    max_pixels = _number("--max-pixels", arguments.max_pixels)
    options = ImageOptions(arguments.images, arguments.concurrency, max_pixels, limits)
    return fetch_images(arguments.name, arguments.out, options)
