"""RecTools' UniSRecModel in a race, in an environment of its own: `PYTHON -m benchmarks.peer_rectools IN OUT SECONDS`.

IN is an .npz file: users, items, times (N,) int64 of the training interactions, items from 1; features (I+1, F)
float32; histories (V, L) int64 of the validation users, left-padded with 0; targets (V,) int64. OUT gets JSON, see
:meth:`benchmarks.race.Race.result`.

Source of the interface: rectools/fast_transformers/unisrec/model.py of RecTools 0.19: embeddings are given to the
constructor, row i for the item of number i; ``fit`` takes users, items and times and trains a next-item loss at every
position.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from rectools.fast_transformers import UniSRecModel
from torch import Tensor

from benchmarks.race import Race

SETTINGS = {"session_max_len": 20, "epochs": 10_000, "device": "cpu"}  # the rest as RecTools sets it
BATCH = 1024


class Watch(pl.Callback):
    """Times every epoch and lets the race judge it."""

    def __init__(self, race: Race, model: Any, data: dict[str, Tensor]) -> None:
        self.race, self.model, self.data = race, model, data

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self.begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock and validate."""
        seconds = time.perf_counter() - self.begin
        trainer.should_stop = not self.race.epoch(seconds, lambda: self.batches(pl_module.net))

    @torch.no_grad()
    def batches(self, net: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores and targets of all validation users, as ``predict_topk`` computes them."""
        histories = self.model.map_item_ids(self.data["histories"])
        targets = self.model.map_item_ids(self.data["targets"])
        net.eval()
        items = net.project_all()  # once an evaluation, as ours
        for at in range(0, len(targets), BATCH):
            scores = net.encode_last(histories[at : at + BATCH]) @ items.T
            scores[:, 0] = float("-inf")
            part = targets[at : at + BATCH]
            yield scores, torch.where(part == 0, -1, part)
        net.train()


class WatchedModel(UniSRecModel):  # type: ignore[misc]
    """The model with one more callback in its trainer."""

    watch: pl.Callback

    def _make_trainer(self, max_epochs: int, val_dl: Any = None) -> pl.Trainer:
        trainer = super()._make_trainer(max_epochs, val_dl)
        trainer.callbacks.append(self.watch)
        return trainer


def main(given: str, out: str, max_seconds: str) -> None:
    """Run the race and write its result."""
    with np.load(given) as arrays:
        data = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    pl.seed_everything(2020)
    model = WatchedModel(data["features"], **SETTINGS)
    race = Race(float(max_seconds), "UniSRec (RecTools)")
    model.watch = Watch(race, model, data)
    model.fit(data["users"], data["items"], data["times"])
    unknown = int((model.map_item_ids(data["targets"]) == 0).sum())
    note = f"{unknown} targets that occur in no training history are no candidates of its and count as misses"
    parameters = sum(weight.numel() for weight in model._net.parameters() if weight.requires_grad)
    result = race.result(parameters, note if unknown else "")
    Path(out).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
