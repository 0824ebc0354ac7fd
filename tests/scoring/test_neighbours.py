"""Neighbours of a history: against a plain count, and beside MMM4Rec."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from counting import plain_addition
from pattern_shop import prepared

from recbole_mmm4rec.run.build import Run
from recbole_mmm4rec.run.quick_start import load_data_and_model
from recbole_mmm4rec.scoring.beside import alone
from recbole_mmm4rec.scoring.neighbours import Addition, Counts
from recbole_mmm4rec.scoring.recommend import best_items

pytestmark = pytest.mark.usefixtures("own_folder")


def dense(addition: Addition, rows: int, items: int) -> np.ndarray:
    scores = torch.zeros(rows, items, dtype=torch.float64)
    addition.add_to(scores)
    return scores.numpy()


def batch_of(run: Run) -> Any:
    return next(iter(run.valid))[0]


@pytest.mark.parametrize(("window", "decay", "weight"), [(20, 0.8, 3.0), (2, 1.0, 0.5), (1, 0.3, 1.0)])
def test_it_is_the_formula(tmp_path: Path, window: int, decay: float, weight: float) -> None:
    run = prepared(tmp_path)
    batch = batch_of(run)
    wanted = plain_addition(run.train._dataset, batch, window, decay, weight)
    neighbours = Counts(run.train._dataset, window, decay, weight)
    found = neighbours.addition(batch["user_id"], batch["item_id_list"], batch["item_length"])
    np.testing.assert_allclose(dense(found, *wanted.shape), wanted, rtol=1e-5, atol=1e-4)
    assert (wanted > 0).any()
    assert (wanted == 0).any()


def test_what_is_held_out_is_not_counted(tmp_path: Path) -> None:
    """Only training samples are read: with another last item of every user the counts stay the same."""
    run = prepared(tmp_path)
    table = run.train._dataset.inter_feat.interaction._fields["item_id"].values
    before = Counts(run.train._dataset, 20, 0.8, 1.0)
    for loader in (run.valid, run.test):
        table[loader._dataset.inter_feat.interaction.target] = 1
    after = Counts(run.train._dataset, 20, 0.8, 1.0)
    assert (before._counts != after._counts).nnz == 0


def test_an_unknown_user_has_no_pairs_of_its_own(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    neighbours = Counts(run.train._dataset, 20, 0.8, 1.0)
    batch = batch_of(run)
    own, new = (
        neighbours.addition(users, batch["item_id_list"], batch["item_length"])
        for users in (batch["user_id"], torch.full_like(batch["user_id"], run.dataset.user_num + 7))
    )
    rows, items = len(batch), run.dataset.item_num
    assert (dense(new, rows, items) >= dense(own, rows, items) - 1e-4).all()
    assert dense(new, rows, items).sum() > dense(own, rows, items).sum()


def test_a_user_with_many_targets_and_many_pairs_has_them_once(tmp_path: Path) -> None:
    """As under a split by time: every target of a user is a row of the batch."""
    run = prepared(tmp_path)
    counts = Counts(run.train._dataset, 20, 0.8, 1.0)
    pairs, items, rows = 20_000, run.dataset.item_num, 1_000
    draw = np.random.default_rng(0)
    arrays = counts.arrays()
    earlier, later = (draw.integers(1, items, pairs, dtype=np.int32) for _ in range(2))
    weight = draw.random(pairs, dtype=np.float32)
    arrays |= {"pairs.start": np.array([0, 0, pairs]), "pairs.earlier": earlier, "pairs.later": later}
    counts = Counts.of_arrays(arrays | {"pairs.weight": weight}, 0.8, 1.0)
    history = np.array([draw.permutation(items - 1)[:20] + 1 for _ in range(rows)])
    asked = sp.csr_matrix((np.ones(history.size), (np.repeat(np.arange(rows), history.shape[1]), history.ravel())))
    asked.resize(rows, items)
    tracemalloc.start()
    own = counts._own(asked, np.ones(rows, dtype=np.int64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    wanted = np.zeros((items, items))
    shares = weight * counts._from[earlier] * counts._to[later], weight * counts._from[later] * counts._to[earlier] / 2
    np.add.at(wanted, (earlier, later), shares[0])
    np.add.at(wanted, (later, earlier), shares[1])
    np.fill_diagonal(wanted, 0)
    np.testing.assert_allclose(own.toarray(), asked @ wanted, rtol=1e-6)
    assert peak < rows * pairs  # bytes: not even one for each pair of each row


@pytest.mark.parametrize("budget", [1, 4 * 3 * 7, 10**6])
def test_ranking_in_pieces_equals_ranking_of_all_scores(tmp_path: Path, budget: int) -> None:
    run = prepared(tmp_path, neighbour_weight=3.0)
    run.model.has_trained = True
    run.model.eval()
    batch = batch_of(run)
    with torch.no_grad():
        scores = run.model.full_sort_predict(batch)
        users, fused = run.model.sides(batch)
        found = best_items(users, fused, 5, addition=run.model.addition(batch), budget=budget)[1]
    assert torch.equal(found, scores.sort(dim=1, descending=True, stable=True).indices[:, :5])
    with torch.no_grad(), alone(run.model):
        assert not torch.equal(scores, run.model.full_sort_predict(batch))
    batch.update(type(batch)({"item_id": found[:, 1]}))
    with torch.no_grad():
        torch.testing.assert_close(run.model.predict(batch), scores.gather(1, found[:, 1:2]).squeeze(1))


def test_an_untrained_model_has_no_neighbours(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=1, neighbour_weight=3.0)
    assert run.model.addition(batch_of(run)) is None
    run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    assert run.model.addition(batch_of(run)) is not None
    *_, model, _, _, valid, _ = load_data_and_model(run.trainer.saved_model_file)
    addition = model.addition(next(iter(valid))[0])
    assert addition is not None
    assert len(addition.value)
