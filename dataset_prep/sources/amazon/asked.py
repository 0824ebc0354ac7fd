"""What ``amazon`` is told about fetching, beside or instead of files."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from dataset_prep.sources.amazon.public_files import BASE, SETS, PublicSet
from recbole_mmm4rec.base.errors import UserError, did_you_mean


def add_download(parser: argparse.ArgumentParser) -> None:
    """Adds what is fetched, from where and where to."""
    add = parser.add_argument
    add("--download", dest="set", metavar="SET", help=f"fetch the public files of 2018, one of {', '.join(SETS)}")
    add("--raw", type=Path, metavar="DIR", help="folder of fetched files (default: raw)")
    add("--mirror", metavar="URL", help=f"fetch from here instead of {BASE}")
    add("--other-counts", action="store_true", help="keep a set that has not the published users and items")


def asked_for(arguments: argparse.Namespace) -> PublicSet | None:
    """The set to fetch, its name filled in where none is given; None where files are named.

    Raises:
        UserError: neither or both, no such set, or an option of fetching where files are named.
    """
    asked: str | None = arguments.set
    if asked is None:
        if not arguments.reviews:
            raise UserError("--reviews is missing: name files of reviews, or fetch the public ones with --download")
        given = {"--raw": arguments.raw, "--mirror": arguments.mirror, "--other-counts": arguments.other_counts or None}
        for option in (option for option, value in given.items() if value is not None):
            raise UserError(f"{option}: is for --download, and files are named; leave {option} out")
        return None
    if arguments.reviews or arguments.meta:
        raise UserError("--download fetches reviews and metadata: leave --reviews and --meta out, or --download")
    if asked not in SETS:
        raise UserError(f"--download {asked!r}: no such set{did_you_mean(asked, SETS) or ': ' + ', '.join(SETS)}")
    arguments.name = arguments.name or asked
    return SETS[asked]


def fetch(wanted: PublicSet, arguments: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Files of ratings and of metadata, whole, in ``--raw``.

    Raises:
        UserError: one of them cannot be had.
    """
    try:
        from dataset_prep.sources.amazon.download import LIMITS, download
    except ImportError as error:
        raise UserError(f"--download needs urllib3 and tqdm ({error}): pip install 'recbole-mmm4rec[prep]'") from None
    limits = replace(
        LIMITS, allow_private=arguments.mirror is not None
    )  # whoever names a server may mean one of theirs
    raw = arguments.raw or Path("raw")
    ratings, metadata = download([wanted.ratings, wanted.metadata], arguments.mirror or BASE, raw, limits)
    return [ratings], [metadata]
