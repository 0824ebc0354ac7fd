"""FAISS indexes over the item side: made, their search set to a recall, measured.

A score is the inner product of a user vector with an item's row of the item side, so an index of inner products gives
scores. Place p of an index is item number p + 1: padding is left out.

Axes: I items, D hidden size, Q queries, K best.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.base.files import whole_file

KINDS = {
    "exact": "every item is looked at (IndexFlatIP)",
    "ivf": "the items of the nearest cells (IndexIVFFlat)",
    "hnsw": "a walk along a graph of neighbours (IndexHNSWFlat)",
}
BEST = 10
"""K of the recall."""
RECALL = 0.99
"""What the search is set to reach on half of the queries, if it can."""
_LINKS, _BUILD_WIDTH, _WIDEST = 32, 40, 2048  # HNSW: links of an item, candidates for them, most in a search
_OF_A_CELL, _PLACED_BY = 39, 64  # IVF: least items of a cell (FAISS warns below), most items that place one
_PIECE = 4096
_SECONDS = 0.5  # of a timing


def _no_bar(name: str, count: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=count, desc=name, disable=True)


@dataclass(frozen=True)
class Measured:
    """What was seen of an index.

    Attributes:
        kind: one of :data:`KINDS`.
        setting: how it searches, in words.
        recall: share of the exact K best that it finds, over the queries that it was not set with.
        one: queries a second of one core, one after another.
        many: the same, all at once.
        seconds: that building it took.
        bytes: of its file; 0 where it was not written.
    """

    kind: str
    setting: str
    recall: float
    one: float
    many: float
    seconds: float
    bytes: int = 0


def known_kinds(given: str) -> tuple[str, ...]:
    """The kinds of index in a list like ``exact,hnsw``.

    Raises:
        UserError: a kind that there is not.
    """
    found = []
    for name in (part.strip() for part in given.split(",")):
        if name not in KINDS:
            raise UserError(
                f"--faiss: there is no index {name!r}{did_you_mean(name, KINDS)}; choose of {', '.join(KINDS)}"
            )
        found.append(name)
    return tuple(kind for kind in KINDS if kind in found)


def build(kind: str, side: np.ndarray, bar: Callable[[str, int], Any] = _no_bar) -> Any:
    """An index over the item side.

    Args:
        kind: one of :data:`KINDS`.
        side: (I, D) float32, without padding.
        bar: makes a progress bar of a name and a number of items.

    Returns:
        A ``faiss.Index`` of inner products.
    """
    import faiss

    count, width = side.shape
    cells = max(1, min(round(4 * math.sqrt(count)), count // _OF_A_CELL))
    made = {"exact": "Flat", "ivf": f"IVF{cells},Flat", "hnsw": f"HNSW{_LINKS}"}[kind]
    index: Any = faiss.index_factory(width, made, faiss.METRIC_INNER_PRODUCT)
    if kind == "ivf":
        index.cp.max_points_per_centroid = _PLACED_BY
        index.train(side)
    if kind == "hnsw":
        index.hnsw.efConstruction = _BUILD_WIDTH
    with bar(f"index {kind}", count) as shown:  # in pieces, so that it can be seen and interrupted
        for start in range(0, count, _PIECE):
            piece = side[start : start + _PIECE]
            index.add(piece)
            shown.update(len(piece))
    return index


def set_search(index: Any, kind: str, queries: np.ndarray, exact: np.ndarray) -> None:
    """Let an index look at as much as :data:`RECALL` takes, in powers of two; its file keeps that.

    Args:
        index: what :func:`build` made.
        kind: one of :data:`KINDS`.
        queries: (Q, D) float32 user vectors.
        exact: (Q, K) the scores of the exact K best.
    """
    if kind == "exact":
        return
    most = index.nlist if kind == "ivf" else max(_WIDEST, BEST)
    width = 1 if kind == "ivf" else 16
    while True:
        _set_width(index, kind, min(width, most))
        if width >= most or recall(index.search(queries, exact.shape[1])[0], exact) >= RECALL:
            return
        width *= 2


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the K best that were found, (Q, K) scores each; of items with equal scores any counts."""
    last = exact[:, -1:]
    return float((found >= last - 1e-6 * np.abs(last)).mean())


def measure(index: Any, kind: str, queries: np.ndarray, exact: np.ndarray, seconds: float) -> Measured:
    """See how much an index finds, and how fast.

    Args:
        index: what :func:`build` made.
        kind: one of :data:`KINDS`.
        queries: (Q, D) float32 user vectors, other ones than it was set with.
        exact: (Q, K) the scores of the exact K best.
        seconds: that building it took.
    """
    import faiss

    best = exact.shape[1]
    share = recall(index.search(queries, best)[0], exact)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        one = _a_second(1, lambda turn: index.search(queries[turn % len(queries)][None], best))
        many = _a_second(len(queries), lambda turn: index.search(queries, best))
    finally:
        faiss.omp_set_num_threads(threads)
    return Measured(kind, setting(index, kind), share, one, many, seconds)


def setting(index: Any, kind: str) -> str:
    """How an index searches, in words."""
    if kind == "ivf":
        return f"nprobe {index.nprobe} of {index.nlist} cells"
    return f"efSearch {index.hnsw.efSearch}, {_LINKS} links" if kind == "hnsw" else "all items"


def write(index: Any, path: Path) -> None:
    """Write an index as a whole file, for ``faiss.read_index``."""
    import faiss

    writer: Any = vars(faiss)["PyCallbackIOWriter"]  # which its stubs do not name
    with whole_file(path) as file:
        faiss.write_index(index, writer(file.write))


def _set_width(index: Any, kind: str, width: int) -> None:
    if kind == "ivf":
        index.nprobe = width
    else:
        index.hnsw.efSearch = width


def _a_second(at_once: int, search: Callable[[int], Any]) -> float:
    """Queries in a second of the processor, which other work on the machine does not change, after one to warm up."""
    search(0)
    begin, turns = time.process_time(), 0
    while not turns or time.process_time() - begin < _SECONDS:
        search(turns)
        turns += 1
    return at_once * turns / max(time.process_time() - begin, 1e-9)
