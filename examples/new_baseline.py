"""A model of your own on this package's data set: exact time, text vectors, the split and candidates of all others.

    python examples/new_baseline.py

makes a synthetic shop, trains a small recurrent network over the texts of a history, and prints its test metrics beside
those of RecBole's SASRec, of counted neighbours and of popularity. ``SMALL=1`` in the environment is a minute's size.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from recbole.config import Config
from recbole.data import data_preparation
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.trainer import Trainer
from recbole.utils import InputType, init_seed
from torch import Tensor, nn

from recbole_mmm4rec import MMM4RecDataset, run_recbole
from recbole_mmm4rec.commands.__main__ import main as mmm4rec

SMALL = bool(os.environ.get("SMALL"))
USERS, ITEMS, EPOCHS = ("200", "120", 2) if SMALL else ("3000", "1200", 10)
SHARED: dict[str, Any] = {
    "epochs": EPOCHS,
    "stopping_step": 3,
    "train_neg_sample_args": None,  # the loss is over all items
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "MAX_ITEM_LIST_LENGTH": 10,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
    "metrics": ["Hit", "NDCG"],
    "topk": [10],
    "valid_metric": "Hit@10",
    "show_progress": False,
    "state": "ERROR",
}
"""The protocol: what all models share, so that they can stand in one table."""


class TextGRU(SequentialRecommender):
    """A GRU over the projected texts of a history; the score of an item is its own projected text times the result.

    Args:
        config: RecBole's configuration; ``hidden_size`` is the width D.
        dataset: whose ``features["text"]`` is (I+1, F), row 0 the padding.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: MMM4RecDataset) -> None:
        super().__init__(config, dataset)
        texts = torch.as_tensor(dataset.features["text"]).float()
        self.register_buffer("texts", texts, persistent=False)
        self.project = nn.Linear(texts.shape[1], config["hidden_size"])
        self.gru = nn.GRU(config["hidden_size"], config["hidden_size"], batch_first=True)

    def sides(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """User vectors (B, D) and item vectors (I+1, D)."""
        items = self.project(self.texts)
        states, _ = self.gru(items[interaction[self.ITEM_SEQ]])
        return self.gather_indexes(states, interaction[self.ITEM_SEQ_LEN] - 1), items

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Cross-entropy over all items."""
        users, items = self.sides(interaction)
        return nn.functional.cross_entropy(users @ items.T, interaction[self.ITEM_ID])

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """(B, I+1) scores."""
        users, items = self.sides(interaction)
        return users @ items.T


def train_own(dataset: str) -> dict[str, float]:
    """Train :class:`TextGRU` and return its test metrics."""
    config = Config(model=TextGRU, dataset=dataset, config_dict={**SHARED, "hidden_size": 64, "modalities": ["text"]})
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, MMM4RecDataset(config))
    trainer = Trainer(config, TextGRU(config, train.dataset))
    trainer.fit(train, valid, verbose=False, show_progress=False)
    return dict(trainer.evaluate(test, show_progress=False))


def main() -> None:
    """Make the shop, train, print the table."""
    mmm4rec(["prep", "demo", "--name", "baseline", "--users", USERS, "--items", ITEMS])
    mmm4rec(["prep", "embed", "baseline"])
    rows = {"TextGRU (this file)": train_own("baseline")}
    for model in ("SASRec", "Neighbours", "Pop"):
        settings = {**SHARED, "repeatable": True}  # Pop, too, may recommend what the user has
        rows[model] = run_recbole(model=model, dataset="baseline", config_dict=settings)["test_result"]
    print(f"{'':22}{'Hit@10':>8}{'NDCG@10':>9}")
    for name, result in rows.items():
        print(f"{name:22}{result['hit@10']:8.4f}{result['ndcg@10']:9.4f}")


if __name__ == "__main__":
    main()
