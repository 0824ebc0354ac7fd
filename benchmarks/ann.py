"""FAISS indexes as `mmm4rec export` makes them, over catalogues of up to a million items."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.suite import Options, say
from recbole_mmm4rec.export import index as indexes

TITLE = "Indexes over the item side"
WIDTH, USERS, TEMPERATURE = 256, 1000, 0.8
_LATENT, _DEPARTMENTS, _OF_A_KIND, _PICTURED = 32, 40, 50, 0.8
ABOUT = f"""`python -m benchmarks --only ann`: the three indexes of [`mmm4rec export`](export.md) over made-up
catalogues, vectors of {WIDTH} numbers. An item belongs to one of {_DEPARTMENTS} departments and to a kind of about
{_OF_A_KIND} items; department, kind and the item itself are normal in {_LATENT} dimensions with spreads of 1,
0.6 and 0.4, each modality maps them into {WIDTH} dimensions by a matrix of its own and adds noise of a tenth;
{_PICTURED:.0%} of the items have a picture. The item side is the sum of both directions (twice the text's
without a picture) over a temperature of {TEMPERATURE}, as static fusion has it. A user vector is the mean of
three items, two of them of one kind, with noise of 0.3. {USERS:,} users: the search is set to a recall of
{indexes.RECALL} with half of them, and measured with the other half. recall@10: against the exact ten best;
queries in a second of one core, one by one and all at once."""


def sizes(options: Options) -> list[int]:
    """Items of the catalogues."""
    return [1_000] if options.quick else [10_000, 100_000, 1_000_000]


def cells(options: Options) -> list[str]:
    """An index of a catalogue each, so that what takes minutes is kept."""
    return [f"{size} {kind}" for size in sizes(options) for kind in indexes.KINDS]


def measure(options: Options, cell: str) -> dict[str, Any]:
    """Build an index, set its search, and see what it finds."""
    import faiss

    size, kind = cell.split()
    say(f"{int(size):,} items, {kind}")
    side, users = catalogue(int(size))
    exact = faiss.knn(users, side, indexes.BEST, metric=faiss.METRIC_INNER_PRODUCT)[0]
    begin, processor = time.perf_counter(), time.process_time()
    index = indexes.build(kind, side)
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    indexes.set_search(index, kind, users[::2], exact[::2])
    return {**asdict(indexes.measure(index, kind, users[1::2], exact[1::2], seconds)), "processor": processor}


def catalogue(items: int) -> tuple[np.ndarray, np.ndarray]:
    """The item side (I, D) and user vectors (Q, D), float32; see :data:`ABOUT`."""
    random = np.random.default_rng(items)
    kinds = max(_DEPARTMENTS, items // _OF_A_KIND)
    of_kind = random.normal(size=(_DEPARTMENTS, _LATENT))[random.integers(_DEPARTMENTS, size=kinds)]
    of_kind = of_kind + 0.6 * random.normal(size=(kinds, _LATENT))
    kind = np.sort(random.integers(kinds, size=items))
    latent = (of_kind[kind] + 0.4 * random.normal(size=(items, _LATENT))).astype(np.float32)
    pictured = random.random(items) < _PICTURED
    text, image = (_directions(latent, random) for _ in range(2))
    image[~pictured] = text[~pictured]
    text += image
    text /= TEMPERATURE
    first = random.integers(items, size=USERS)
    starts = np.searchsorted(kind, kind[first])
    second = starts + (random.random(USERS) * (np.searchsorted(kind, kind[first], "right") - starts)).astype(int)
    users = (text[first] + text[second] + text[random.integers(items, size=USERS)]) / 3
    noise = random.normal(size=users.shape) * np.linalg.norm(users, axis=1, keepdims=True) / math.sqrt(WIDTH)
    return text, (users + 0.3 * noise).astype(np.float32)


def _directions(latent: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(I, D) float32 of length 1."""
    made = latent @ random.normal(size=(_LATENT, WIDTH)).astype(np.float32)
    made += 0.1 * np.float32(math.sqrt(_LATENT)) * random.standard_normal(made.shape, dtype=np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def report(found: Mapping[str, Any]) -> str:
    """The table."""
    lines = [
        "| items | index | search | recall@10 | queries a core second, one by one | all at once | built in, core s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cell, seen in found.items():
        lines.append(
            f"| {int(cell.split()[0]):,} | {seen['kind']} | {seen['setting']} | {seen['recall']:.3f} "
            f"| {seen['one']:,.0f} | {seen['many']:,.0f} | {seen['processor']:,.1f} |"
        )
    return "\n".join(lines)
