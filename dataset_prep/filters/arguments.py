"""The command line's side of the filters, the same for every source."""

from __future__ import annotations

import argparse
import math
import re
from datetime import datetime, timezone

from dataset_prep.filters.filters import REPEATS, Filters
from recbole_mmm4rec.base.errors import UserError

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SECONDS = re.compile(r"[0-9]{1,12}")


def add_filters(
    parser: argparse.ArgumentParser, k_core: int = 0, need_text: bool = False, times: bool = True, ratings: bool = True
) -> None:
    """Adds the filters' options.

    Args:
        parser: of a source.
        k_core: the default of ``--k-core``.
        need_text: the default of ``--require-text``.
        times: the source has time stamps to filter by.
        ratings: the source has ratings to filter by.
    """
    group = parser.add_argument_group("filters, applied in this order")
    if ratings:
        group.add_argument("--min-rating", metavar="R", help="lowest rating that stays (default: any)")
    if times:
        when = "UNIX seconds or YYYY-MM-DD, UTC"
        group.add_argument("--since", metavar="WHEN", help=f"drop what is older; {when}")
        group.add_argument("--until", metavar="WHEN", help=f"drop this moment and what is younger; {when}")
    group.add_argument(
        "--repeats", choices=REPEATS, default="all", help="of a user's interactions with one item keep (default: all)"
    )
    group.add_argument(
        "--latest", type=int, default=0, metavar="N", help="keep each user's last N interactions (default: all)"
    )
    group.add_argument(
        "--k-core", type=int, default=k_core, metavar="K", help=f"least interactions of users and items ({k_core})"
    )
    group.add_argument(
        "--require-text",
        action=argparse.BooleanOptionalAction,
        default=need_text,
        help=f"drop items without text, also before the k-core (default: {'yes' if need_text else 'no'})",
    )


def filters_of(arguments: argparse.Namespace) -> Filters:
    """The filters that a command line asks for.

    Raises:
        UserError: a value cannot be used.
    """
    given = vars(arguments)
    if arguments.k_core < 0:
        raise UserError(f"--k-core {arguments.k_core}: must be 0 (none) or more")
    if arguments.latest < 0:
        raise UserError(f"--latest {arguments.latest}: must be 0 (all) or more")
    since, until = (_moment(given.get(name), f"--{name}") for name in ("since", "until"))
    if since is not None and until is not None and since >= until:
        raise UserError(f"--since {arguments.since} --until {arguments.until}: nothing lies between; give a later end")
    rating = _rating(given.get("min_rating"))
    return Filters(arguments.k_core, rating, since, until, arguments.repeats, arguments.require_text, arguments.latest)


def _rating(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"--min-rating '{text}': give a number, for example 4")
    return value


def _moment(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    if _SECONDS.fullmatch(text):
        return int(text)
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp())
    except ValueError:
        raise UserError(f"{option} '{text}': give UNIX seconds or a date such as 2018-01-31") from None
