"""Items that are held out of training are no wrong answers while it runs: no model learns anything of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import NAME, pattern_settings, write_pattern_shop
from torch import nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run.build import Run, build, make_config

pytestmark = pytest.mark.usefixtures("own_folder")

SMALL = {"hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": 6}
RECBOLE = {**SMALL, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "train_neg_sample_args": None}
DRAWN = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
POPULAR = {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 1}}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "MMM4Rec": ("MMM4Rec", {}),
    "MMM4Rec in chunks": ("MMM4Rec", {"loss_chunk": 4}),
    "MMM4Rec, smoothed": ("MMM4Rec", {"label_smoothing": 0.2}),
    "MMM4Rec, sampled": ("MMM4Rec", {"loss_type": "sampled", "sampled_uniform": 40}),
    "MMM4Rec, in batch": ("MMM4Rec", {"loss_type": "in_batch"}),
    "Mamba4Rec": ("Mamba4Rec", {"hidden_size": 16}),
    "UniSRec": ("UniSRec", {**SMALL, "modalities": ["text"], "n_exps": 2}),
    "SASRec": ("SASRec", RECBOLE),
    "BERT4Rec": ("BERT4Rec", RECBOLE),  # makes its loss at each step
    "SASRec, one wrong item": ("SASRec", {**RECBOLE, **DRAWN, "loss_type": "BPR"}),
    "BPR": ("BPR", {**RECBOLE, **DRAWN, "embedding_size": 16}),
    "BPR, by popularity": ("BPR", {**RECBOLE, **POPULAR, "embedding_size": 16}),
    "SASRec, by popularity": ("SASRec", {**RECBOLE, **POPULAR, "loss_type": "BPR"}),
}


def cold(folder: Path, model: str, changes: dict[str, Any], split: str = "cold_items") -> Run:
    """A run with two fifths of the items held out."""
    write_pattern_shop(folder)
    base = pattern_settings(folder) if model == "MMM4Rec" else {"data_path": str(folder)}
    split_by = {"eval_args": {"split": {split: [6, 2, 2]}, "order": "TO", "mode": "full"}}
    judged = {"metrics": ["Hit"], "topk": [10], "valid_metric": "Hit@10", "learning_rate": 0.01, "epochs": 3}
    settings = {**base, **judged, **split_by, "show_progress": False, "weight_decay": 0.0, **changes}
    return build(make_config(model, NAME, config_dict=settings), count_flops=False)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_learned_of_them(tmp_path: Path, name: str) -> None:
    model, changes = MODELS[name]
    run = cold(tmp_path, model, changes)
    rows, count = run.train._dataset.trained_rows, run.dataset.item_num
    assert 1 < rows < count
    length = count + (model == "BERT4Rec")  # which has a row for its mask
    tables = {key: value for key, value in run.model.named_parameters() if len(value) == length}
    assert tables
    before = {key: value.detach().clone() for key, value in tables.items()}
    run.trainer.fit(run.train, run.valid, saved=False)
    for key, value in tables.items():
        assert torch.equal(value[rows:count], before[key][rows:count]), key
        assert not torch.equal(value[1:rows], before[key][1:rows]), key
    asked = torch.cat([target for _, _, _, target in run.test])
    assert asked.min() >= rows  # and yet they are what is asked for, among all items
    assert run.trainer.evaluate(run.test, load_best_model=False)["hit@10"] >= 0


def test_a_user_who_has_all_items_that_are_trained_on_is_refused(tmp_path: Path) -> None:
    rows = [f"u{user}\ti{item}\t{item}" for user in range(20) for item in range(5)]
    rows += [f"{user}\tj{item}\t{9 + item}" for item in range(20) for user in (f"u{item}", "all")]
    rows += [f"all\ti{item}\t{item}" for item in range(5)]
    folder = tmp_path / "all"
    folder.mkdir()
    (folder / "all.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n")
    settings = {
        **RECBOLE,
        **DRAWN,
        "data_path": str(tmp_path),
        "topk": [2],
        "metrics": ["Hit"],
        "valid_metric": "Hit@2",
    }
    split = {"eval_args": {"split": {"cold_items": [1, 1, 1]}, "order": "TO", "mode": "full"}}
    with pytest.raises(UserError, match=r"split cold_items leaves \d+ items to train on, all of which a user has"):
        build(make_config("BPR", "all", config_dict={**settings, **split}), count_flops=False)


def test_a_loss_outside_of_a_training_is_as_it_was(tmp_path: Path) -> None:
    run = cold(tmp_path, "SASRec", {**RECBOLE, "epochs": 1})
    logits, labels = torch.randn(3, run.dataset.item_num), torch.tensor([1, 2, 3])
    wanted = nn.CrossEntropyLoss()(logits, labels)
    run.trainer.fit(run.train, run.valid, saved=False)
    assert torch.equal(nn.CrossEntropyLoss()(logits, labels), wanted)


def test_numbers_are_as_always_under_another_split(tmp_path: Path) -> None:
    runs = [cold(tmp_path / split, "MMM4Rec", {}, split).dataset for split in ("cold_items", "cold_users")]
    assert not hasattr(runs[1], "trained_rows")
    names = [dataset.field2id_token["item_id"].tolist() for dataset in runs]
    assert names[0] != names[1]
    assert sorted(names[0]) == sorted(names[1])
    for dataset, tokens in zip(runs, names, strict=True):
        assert [dataset.field2token_id["item_id"][token] for token in tokens] == list(range(len(tokens)))
    pairs = [
        set(zip(*(dataset.id2token(field, dataset.inter_feat[field]) for field in ("user_id", "item_id")), strict=True))
        for dataset in runs
    ]
    assert pairs[0] < pairs[1]  # held-out items within histories are gone, the rest are the same interactions
