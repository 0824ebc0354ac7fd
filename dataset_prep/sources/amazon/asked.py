"""What ``amazon`` is told about fetching, beside or instead of files."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from dataset_prep.sources.amazon.public_files import BASE, SETS, PublicFile, PublicSet
from recbole_mmm4rec.base.errors import UserError, did_you_mean


def add_download(parser: argparse.ArgumentParser) -> None:
    """Adds what is fetched, from where and where to."""
    add = parser.add_argument
    add(
        "--download",
        dest="set",
        metavar="SET",
        help=f"make a published set of 2018, one of {', '.join(SETS)}: public files that are not named are fetched",
    )
    add("--raw", type=Path, metavar="DIR", help="folder of fetched files (default: raw)")
    add("--mirror", metavar="URL", help=f"fetch from here instead of {BASE}")
    add("--other-counts", action="store_true", help="keep a set that has not the published users and items")


def asked_for(arguments: argparse.Namespace) -> PublicSet | None:
    """The published set that is wanted, its name filled in where none is given; None for a set of one's own.

    Raises:
        UserError: no files and no set, no such set, or an option of fetching where nothing is fetched.
    """
    asked: str | None = arguments.set
    given = {"--raw": arguments.raw, "--mirror": arguments.mirror}
    if asked is None:
        if not arguments.reviews:
            raise UserError("--reviews is missing: name files of reviews, or fetch the public ones with --download")
        given["--other-counts"] = arguments.other_counts or None
        for option in (option for option, value in given.items() if value is not None):
            raise UserError(f"{option}: is for --download, and files are named; leave {option} out")
        return None
    if asked not in SETS:
        raise UserError(f"--download {asked!r}: no such set{did_you_mean(asked, SETS) or ': ' + ', '.join(SETS)}")
    if arguments.reviews and arguments.meta:
        for option in (option for option, value in given.items() if value is not None):
            raise UserError(f"{option}: nothing is fetched, since reviews and metadata are named; leave {option} out")
    arguments.name = arguments.name or asked
    return SETS[asked]


def fetch(wanted: PublicSet, arguments: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Files of ratings and of metadata: those that are named, and the others whole, in ``--raw``.

    Raises:
        UserError: one of them cannot be had.
    """
    named: list[list[Path]] = [arguments.reviews, arguments.meta]
    missing = [file for file, there in zip((wanted.ratings, wanted.metadata), named, strict=True) if not there]
    fetched = iter(_fetched(missing, arguments) if missing else ())
    reviews, metadata = (there or [next(fetched)] for there in named)
    return reviews, metadata


def _fetched(files: list[PublicFile], arguments: argparse.Namespace) -> list[Path]:
    try:
        from dataset_prep.sources.amazon.download import LIMITS, download
    except ImportError as error:
        raise UserError(f"--download needs urllib3 and tqdm ({error}): pip install 'recbole-mmm4rec[prep]'") from None
    limits = replace(
        LIMITS, allow_private=arguments.mirror is not None
    )  # whoever names a server may mean one of theirs
    return download(files, arguments.mirror or BASE, arguments.raw or Path("raw"), limits)
