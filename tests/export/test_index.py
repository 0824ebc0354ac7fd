"""FAISS indexes over an item side."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.export import index as indexes


@pytest.fixture(scope="module")
def shop() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """3,000 items around 60 centres, 40 users near one of them each, the scores of their best ten."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(60, 24))
    side = (centres[random.integers(60, size=3000)] + 0.4 * random.normal(size=(3000, 24))).astype(np.float32)
    users = (side[random.integers(3000, size=40)] + 0.4 * random.normal(size=(40, 24))).astype(np.float32)
    return side, users, -np.sort(-users @ side.T, axis=1)[:, :10]


@pytest.mark.parametrize("kind", list(indexes.KINDS))
def test_finds_the_best_and_keeps_how_it_searches(
    kind: str, shop: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side, users, exact = shop
    monkeypatch.setattr(indexes, "_SECONDS", 0.0)
    threads = faiss.omp_get_max_threads()
    made = indexes.build(kind, side)
    indexes.set_search(made, kind, users, exact)
    seen = indexes.measure(made, kind, users, exact, 0.0)
    assert seen.recall >= (1.0 if kind == "exact" else indexes.RECALL)
    assert faiss.omp_get_max_threads() == threads
    indexes.write(made, tmp_path / "index")
    again = faiss.read_index(str(tmp_path / "index"))
    assert indexes.setting(again, kind) == indexes.setting(made, kind) == seen.setting
    scores, places = again.search(users, 10)
    assert np.allclose(scores, np.take_along_axis(users @ side.T, places, 1), atol=1e-4)
    assert indexes.recall(scores, exact) == seen.recall
    again.add(users[:1] * 100)  # a new item that its user likes best
    assert again.search(users[:1], 1)[1] == [[3000]]


def test_search_grows_until_it_finds_enough(shop: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    side, users, exact = shop
    made = indexes.build("ivf", side)
    made.nprobe = 1
    assert indexes.recall(made.search(users, 10)[0], exact) < indexes.RECALL
    indexes.set_search(made, "ivf", users, exact)
    assert 1 < made.nprobe < made.nlist
    random = np.random.default_rng(1)  # no cell is near anything: all of them
    indexes.set_search(made, "ivf", random.normal(size=users.shape).astype(np.float32), exact * 100)
    assert made.nprobe == made.nlist


def test_recall_counts_equal_scores() -> None:
    exact = np.array([[5.0, 4.0, 4.0], [3.0, 2.0, 1.0]], dtype=np.float32)
    found = np.array([[5.0, 4.0, 4.0], [3.0, 1.0, 0.0]], dtype=np.float32)  # another 4.0 is as good; 0.0 is a miss
    assert indexes.recall(found, exact) == pytest.approx(5 / 6)


@pytest.mark.parametrize("kind", list(indexes.KINDS))
def test_a_single_item(kind: str) -> None:
    made = indexes.build(kind, np.ones((1, 4), dtype=np.float32))
    assert made.search(np.ones((1, 4), dtype=np.float32), 1)[0] == [[4.0]]


def test_kinds_are_named() -> None:
    assert indexes.known_kinds("hnsw, exact") == ("exact", "hnsw")
    with pytest.raises(UserError, match="--faiss: there is no index 'hnws'; did you mean 'hnsw'"):
        indexes.known_kinds("exact,hnws")
