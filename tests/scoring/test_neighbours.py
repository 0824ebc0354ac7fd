"""Neighbours of a history: against a plain count, and beside MMM4Rec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
