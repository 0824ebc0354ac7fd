"""What every table says first: the data set, how it was split, who is asked for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recbole_mmm4rec.base.tied_times import told
from recbole_mmm4rec.compare.file_settings import BEYOND, LEAVE_ONE_OUT
from recbole_mmm4rec.compare.job import Shop

NAMES = {"hit": "Hit", "ndcg": "NDCG", "mrr": "MRR"}
_SPLITS = {
    "global_time": (
        "split {shares} at two points in time that are the same for all: validation between them, test after the "
        "second; each target with the history before it"
    ),
    "cold_items": (
        "items held out {shares}: validation and test ask users for their last item where it is a held-out one, and "
        "nothing else of those items is there, neither in training nor in a history"
    ),
    "cold_users": (
        "users held out {shares}: validation and test ask users of whom nothing is trained on for their last item"
    ),
}


def metric_name(metric: str) -> str:
    """``hit@10`` as it is written in tables, ``Hit@10``; ``giniindex@10`` as ``Gini@10``."""
    name, _, cut = metric.partition("@")
    known = {**NAMES, **{long.lower(): short for long, short in BEYOND.items()}}
    return f"{known[name]}@{cut}"


def statistics_line(shop: Shop) -> str:
    """The data set, its counts after filters, and how models are judged."""
    users, items, count = (f"{shop.statistics[key]:,}" for key in ("users", "items", "interactions"))
    fast = " RecBole's models were computed with fast_cpu." if shop.protocol.get("fast_cpu") else ""
    candidates = "items of interactions" if shop.protocol.get("candidates") != "all" else "all items"
    tied = shop.targets.tied if shop.targets else 0.0
    ties = f" {told(tied, shop.targets.order_of_ties)}." if shop.targets and tied else ""
    return (
        f"{shop.entry or shop.name}: {users} users, {items} items, {count} interactions after filters "
        f"(fingerprint {shop.fingerprint}). {_protocol(shop)}; "
        f"ranked among all {candidates}, of equal scores the lower item number first, the history not masked; "
        f"at most {shop.protocol['MAX_ITEM_LIST_LENGTH']} items of history; "
        f"more than {shop.protocol['stopping_step']} validations in a row below the best "
        f"{metric_name(shop.valid_metric)} end a training.{ties}{fast}"
    )


def _protocol(shop: Shop) -> str:
    name, shares = shop.split
    counts = shop.targets.counts if shop.targets else {}
    if name == LEAVE_ONE_OUT:
        asked = f" ({counts['test_users']:,} users, a target each)" if counts else ""
        return f"The last item of each user is the test, the last but one validation{asked}"
    words = _SPLITS[name].format(shares=spelt(shares))
    return f"Protocol {name}, {words}{_counted(counts)}"


def _counted(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    unknown = counts["unknown_targets"]
    of_them = f", {unknown:,} of them of users without an interaction in training" if unknown else ""
    return (
        f" (validation {counts['valid_users']:,} users, {counts['valid_targets']:,} targets; test "
        f"{counts['test_users']:,} users, {counts['test_targets']:,} targets{of_them})"
    )


def spelt(shares: Sequence[float]) -> str:
    """Shares as they are said, ``8 : 1 : 1``."""
    return " : ".join(f"{share:g}" for share in shares)


def several(shop: Shop) -> bool:
    """Whether users have several targets."""
    counts = shop.targets.counts if shop.targets else {}
    return bool(counts) and counts["test_targets"] != counts["test_users"]
