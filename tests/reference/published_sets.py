"""How UniSRec's and MMM4Rec's programs make a set of Amazon's files of 2018: the rule alone, in plain Python.

UniSRec: ``load_ratings``, ``load_meta_items``, ``filter_inters`` in dataset/preprocessing/process_amazon.py. MMM4Rec:
``load_inter_file``, ``filter_inters_by_metas``, ``filter_k_core_inters`` in dataset/amazon-2018/preprocess/utils.py.
Both keep distinct (user, item, rating, time) whose item has a row of metadata, then take the k-core.
"""

from __future__ import annotations

import json
from collections import Counter

Kept = list[tuple[str, str, int]]


def published_set(ratings: str, metadata: str, k: int = 5) -> Kept:
    """User, item and second of each interaction of the set, sorted.

    Args:
        ratings: lines ``item,user,rating,timestamp``.
        metadata: a JSON object a line.
        k: of the k-core.
    """
    described = {json.loads(line)["asin"] for line in metadata.splitlines()}
    rows = set()
    for line in ratings.splitlines():
        item, user, rating, time = line.split(",")
        if item in described:
            rows.add((user, item, float(rating), int(time)))
    while True:
        of_user, of_item = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        kept = {row for row in rows if of_user[row[0]] >= k and of_item[row[1]] >= k}
        if kept == rows:
            return sorted((user, item, time) for user, item, _, time in rows)
        rows = kept
