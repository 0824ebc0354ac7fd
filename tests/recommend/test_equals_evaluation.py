"""A recommender's scores and lists are those of the evaluation, bit for bit in the same batches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.utils import get_trainer

from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.run.quick_start import load_data_and_model


@pytest.fixture(scope="module")
def evaluated(kiosk: Path) -> dict[str, Any]:
    """Of all test users: tokens of user, history and target, times; scores and best items of the evaluation."""
    before = os.getcwd()
    os.chdir(kiosk)
    try:
        config, model, dataset, _, _, test = load_data_and_model(kiosk / "checkpoint")
    finally:
        os.chdir(before)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.tot_item_num = dataset.item_num
    model.eval()
    (batch,) = list(test)
    with torch.no_grad():
        _, top, users, items = trainer._full_sort_batch_eval(batch)
        model.train().eval()  # what an evaluation keeps of the items begins anew
        scores = model.full_sort_predict(batch[0])
        model.train().eval()
        alone = model.predict(batch[0].__class__({**batch[0].interaction, "item_id": items}))
    rows = batch[0]
    names, ids = dataset.field2id_token["user_id"], dataset.field2id_token["item_id"]
    lengths = rows["item_length"].tolist()
    return {
        "users": [str(names[user]) for user in rows["user_id"]],
        "histories": [
            [str(ids[item]) for item in row[:n]] for row, n in zip(rows["item_id_list"], lengths, strict=True)
        ],
        "times": [row[:n].tolist() for row, n in zip(rows["timestamp_list"], lengths, strict=True)],
        "scores": scores[:, 1:].numpy(),
        "best": [[str(ids[item]) for item in row] for row in top.items],
        "targets": [str(ids[item]) for item in items],
        "of_target": alone.numpy(),
        "order": users.tolist(),
    }


def test_scores_of_all_test_users_are_the_evaluation_s(model_folder: Path, evaluated: dict[str, Any]) -> None:
    recommender = Recommender.load(model_folder)
    assert recommender.has_neighbours
    assert len(evaluated["users"]) == 60
    found = recommender.scores(evaluated["histories"], timestamps=evaluated["times"], users=evaluated["users"])
    assert found.dtype == evaluated["scores"].dtype
    assert np.array_equal(found, evaluated["scores"])


def test_lists_of_all_test_users_are_the_evaluation_s(model_folder: Path, evaluated: dict[str, Any]) -> None:
    lists = Recommender.load(model_folder).recommend(
        evaluated["histories"], 10, timestamps=evaluated["times"], users=evaluated["users"], exclude_seen=False
    )
    assert [[item.item for item in one.items] for one in lists] == evaluated["best"]
    hits = [
        target in [item.item for item in one.items] for one, target in zip(lists, evaluated["targets"], strict=True)
    ]
    assert np.mean(hits) > 0.5  # it has learned


def test_one_user_at_a_time_is_the_same_to_rounding(model_folder: Path, evaluated: dict[str, Any]) -> None:
    recommender = Recommender.load(model_folder)
    for row in range(0, 60, 7):
        found = recommender.scores(
            evaluated["histories"][row], timestamps=evaluated["times"][row], users=evaluated["users"][row]
        )
        np.testing.assert_allclose(found[0], evaluated["scores"][row], rtol=1e-5, atol=1e-5)


def test_without_its_name_a_user_is_one_never_seen(model_folder: Path, evaluated: dict[str, Any]) -> None:
    recommender = Recommender.load(model_folder)
    given = {"timestamps": evaluated["times"]}
    unnamed = recommender.scores(evaluated["histories"], **given)
    assert not np.array_equal(unnamed, evaluated["scores"])  # its own pairs count as neighbours
    network = recommender.scores(evaluated["histories"], neighbours=False, **given)
    assert (unnamed >= network).all()
    assert np.array_equal(
        network, recommender.scores(evaluated["histories"], neighbours=False, users=evaluated["users"], **given)
    )
