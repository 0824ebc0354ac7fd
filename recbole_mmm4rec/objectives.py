"""The losses that a training can choose, and what each needs of the item side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recbole_mmm4rec.errors import UserError, did_you_mean
from recbole_mmm4rec.network.chunked import choose_chunk, chunked_cross_entropy
from recbole_mmm4rec.network.items import ItemTables
from recbole_mmm4rec.network.losses import (
    draw_candidates,
    full_cross_entropy,
    in_batch_cross_entropy,
    sampled_cross_entropy,
)

LOSS_TYPES = ("CE", "sampled", "in_batch")

Encode = Callable[[Mapping[str, Tensor] | None], Tensor]
"""Item tables, or None where the batch's own items are to be projected alone → user vectors (B, D)."""


class FullCatalogue(nn.Module):
    """``loss_type: CE``, exact over all items; in chunks of items where their logits would take too much memory."""

    def __init__(self, label_smoothing: float, chunk: int | str) -> None:
        """Keep the settings.

        Args:
            label_smoothing: share of the probability spread over all items.
            chunk: items scored at once, 0 for all, "auto" for :func:`choose_chunk`'s choice.
        """
        super().__init__()
        self.label_smoothing = label_smoothing
        self.chunk = chunk

    def forward(self, items: ItemTables, encode: Encode, labels: Tensor) -> Tensor:
        """The mean loss of a batch; labels (B,) int64."""
        chunk = self.chunk
        if isinstance(chunk, str):
            chunk = choose_chunk(len(labels), items.rows - 1, labels.device.type)
        if chunk:
            return chunked_cross_entropy(encode(None), items, labels, chunk, self.label_smoothing)
        tables = items.tables()
        return full_cross_entropy(encode(tables), items.fused(tables), labels, self.label_smoothing)


class InBatch(nn.Module):
    """``loss_type: in_batch``, over the labels of the batch."""

    def __init__(self, mask_false_negatives: bool) -> None:
        """Keep the setting, see :func:`in_batch_cross_entropy`."""
        super().__init__()
        self.mask_false_negatives = mask_false_negatives

    def forward(self, items: ItemTables, encode: Encode, labels: Tensor) -> Tensor:
        """The mean loss of a batch; labels (B,) int64."""
        rows, place = torch.unique(labels, return_inverse=True)
        fused = items.fused(items.vectors(rows), rows).index_select(0, place)
        return in_batch_cross_entropy(encode(None), fused, labels, self.mask_false_negatives)


class Sampled(nn.Module):
    """``loss_type: sampled``, over the labels of the batch and items drawn uniformly."""

    popularity: Tensor | None

    def __init__(self, uniform: int, label_smoothing: float, popularity: Tensor | None) -> None:
        """Keep the settings.

        Args:
            uniform: items drawn uniformly for a batch.
            label_smoothing: share of the probability spread over all items.
            popularity: (I+1,) float32, each item's share of the training targets; None to leave the batch's labels out.
        """
        super().__init__()
        self.uniform = uniform
        self.label_smoothing = label_smoothing
        # a property of the data, hence no part of a checkpoint
        self.register_buffer("popularity", popularity, persistent=False)

    def forward(self, items: ItemTables, encode: Encode, labels: Tensor) -> Tensor:
        """The mean loss of a batch; labels (B,) int64."""
        count = items.rows - 1
        drawn = draw_candidates(labels, count, self.uniform, self.popularity)
        fused = items.fused(items.vectors(drawn.rows), drawn.rows)
        return sampled_cross_entropy(encode(None), fused, drawn, count, self.label_smoothing)


def make_objective(config: Any, dataset: Any) -> nn.Module:
    """The loss that a configuration chooses.

    Args:
        config: RecBole's configuration: ``loss_type``, ``label_smoothing``, ``loss_chunk``, ``sampled_uniform``,
            ``sampled_in_batch``, ``mask_false_negatives``; their ranges stand in properties/model/MMM4Rec.yaml.
        dataset: the training data set, whose targets ``sampled`` counts.

    Returns:
        a module called with the item side, an :data:`Encode` and the labels.

    Raises:
        UserError: a key with a value out of its range, or values that leave no candidates.
    """
    kind = config["loss_type"]
    if kind not in LOSS_TYPES:
        raise UserError(
            f"loss_type must be one of {', '.join(LOSS_TYPES)}, not '{kind}'{did_you_mean(str(kind), LOSS_TYPES)}"
        )
    smoothing = config["label_smoothing"] or 0.0
    if not _is_number(smoothing) or not 0.0 <= smoothing < 1.0:
        raise UserError(f"label_smoothing must be a number from 0 to below 1, not {smoothing!r}")
    chunk = _whole(config, "loss_chunk", words=("auto",))
    uniform = _whole(config, "sampled_uniform")
    in_batch, mask = _switch(config, "sampled_in_batch"), _switch(config, "mask_false_negatives")
    if kind == "CE":
        return FullCatalogue(float(smoothing), chunk)
    if kind == "in_batch":
        return InBatch(mask)
    if not uniform and not in_batch:
        raise UserError(
            "loss_type: sampled has no candidates with sampled_uniform: 0 and sampled_in_batch: False; "
            "draw some, such as sampled_uniform: 1024"
        )
    popularity = training_shares(dataset.inter_feat[dataset.iid_field], dataset.item_num) if in_batch else None
    return Sampled(int(uniform), float(smoothing), popularity)


def training_shares(targets: Tensor, rows: int) -> Tensor:
    """Each item's share of the training targets.

    Args:
        targets: (N,) int64 item numbers.
        rows: I + 1.

    Returns:
        (I+1,) float32, its sum 1.
    """
    return (torch.bincount(targets, minlength=rows).double() / len(targets)).float()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(config: Any, key: str, words: tuple[str, ...] = ()) -> int | str:
    """A whole number of at least 0, or one of some words."""
    value = config[key]
    if value in words:
        return str(value)
    if not _is_number(value) or value < 0 or int(value) != value:
        choices = "".join(f"{word} or " for word in words)
        raise UserError(f"{key} must be {choices}a whole number, at least 0, not {value!r}")
    return int(value)


def _switch(config: Any, key: str) -> bool:
    value = config[key]
    if not isinstance(value, bool):
        raise UserError(f"{key} must be True or False, not {value!r}")
    return value
