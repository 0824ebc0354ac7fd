"""The losses that a training can choose, and what each needs of the item side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.distributed import joint
from recbole_mmm4rec.losses.chunked import choose_chunk, chunked_cross_entropy
from recbole_mmm4rec.losses.cross_entropies import (
    draw_candidates,
    full_cross_entropy,
    in_batch_cross_entropy,
    sampled_cross_entropy,
)
from recbole_mmm4rec.network.items import ItemTables
from recbole_mmm4rec.settings.registry import setting

Encode = Callable[[Mapping[str, Tensor] | None], Tensor]
"""Item tables, or None where the batch's own items are to be projected alone → user vectors (B, D)."""


class FullCatalogue(nn.Module):
    """``loss_type: CE``, exact over all items; in chunks of items where their logits would take too much memory."""

    def __init__(self, label_smoothing: float, chunk: int | str, rows: int | None = None) -> None:
        """Keep the settings.

        Args:
            label_smoothing: share of the probability spread over all items.
            chunk: items scored at once, 0 for all, "auto" for :func:`choose_chunk`'s choice.
            rows: where the items that are trained on end, the padding row among them; None for all.
        """
        super().__init__()
        self.label_smoothing = label_smoothing
        self.chunk = chunk
        self.rows = rows

    def forward(self, items: ItemTables, encode: Encode, labels: Tensor) -> Tensor:
        """The mean loss of a batch; labels (B,) int64."""
        chunk = self.chunk
        if isinstance(chunk, str):
            chunk = choose_chunk(len(labels), (self.rows or items.rows) - 1, labels.device.type)
        if chunk:
            with items.sparse_lookups():
                users = encode(None)
            return chunked_cross_entropy(users, items, labels, chunk, self.label_smoothing, self.rows)
        tables = items.tables()
        return full_cross_entropy(encode(tables), items.fused(tables), labels, self.label_smoothing, self.rows)


class InBatch(nn.Module):
    """``loss_type: in_batch``, over the labels of the batch, of several processes the joint batch."""

    def __init__(self, mask_false_negatives: bool) -> None:
        """Keep the setting, see :func:`in_batch_cross_entropy`."""
        super().__init__()
        self.mask_false_negatives = mask_false_negatives

    def forward(self, items: ItemTables, encode: Encode, labels: Tensor) -> Tensor:
        """The mean loss of a batch; labels (B,) int64."""
        rows, place = torch.unique(labels, return_inverse=True)
        fused = joint.rows_of_all(items.fused(items.vectors(rows), rows).index_select(0, place))
        labels = joint.rows_of_all(labels)
        return in_batch_cross_entropy(encode(None), fused, labels, self.mask_false_negatives, joint.first_row())


class Sampled(nn.Module):
    """``loss_type: sampled``, over the labels of the batch and items drawn uniformly.

    Of several processes each draws its own items; the labels are those of the joint batch, whose vectors each process
    computes by itself.
    """

    popularity: Tensor | None

    def __init__(
        self, uniform: int, label_smoothing: float, popularity: Tensor | None, rows: int | None = None
    ) -> None:
        """Keep the settings.

        Args:
            uniform: items drawn uniformly for a batch.
            label_smoothing: share of the probability spread over all items.
            popularity: (I+1,) float32, each item's share of the training targets; None to leave the batch's labels out.
            rows: where the items that are trained on end, the padding row among them; None for all.
        """
        super().__init__()
        self.uniform = uniform
        self.rows = rows
        self.label_smoothing = label_smoothing
        # a property of the data, hence no part of a checkpoint
        self.register_buffer("popularity", popularity, persistent=False)

    def forward(self, items: ItemTables, encode: Encode, labels: Tensor) -> Tensor:
        """The mean loss of a batch; labels (B,) int64."""
        count = (self.rows or items.rows) - 1
        drawn = draw_candidates(joint.rows_of_all(labels), count, self.uniform, self.popularity)
        drawn = drawn.of_rows(joint.first_row(), len(labels))
        fused = items.fused(items.vectors(drawn.rows), drawn.rows)
        return sampled_cross_entropy(encode(None), fused, drawn, count, self.label_smoothing)


def make_objective(config: Any, dataset: Any) -> nn.Module:
    """The loss that a configuration chooses.

    Args:
        config: RecBole's configuration: ``loss_type``, ``label_smoothing``, ``loss_chunk``, ``sampled_uniform``,
            ``sampled_in_batch``, ``mask_false_negatives``; their ranges stand in docs/settings.md.
        dataset: the training data set, whose targets ``sampled`` counts; its ``trained_rows``, where it has any, say
            which items are wrong answers (:func:`~recbole_mmm4rec.data.protocols.number_held_out_last`).

    Returns:
        a module called with the item side, an :data:`Encode` and the labels.

    Raises:
        UserError: an unknown loss, values that leave no candidates, or sampled negatives, which no loss here takes.
    """
    kind = config["loss_type"]
    setting("loss_type").check(kind)
    refuse_drawn_negatives(config, "MMM4Rec", "leave it out, or use loss_type: sampled")
    smoothing = float(config["label_smoothing"] or 0.0)
    chunk = "auto" if config["loss_chunk"] is None else config["loss_chunk"]
    uniform, in_batch = config["sampled_uniform"], bool(config["sampled_in_batch"])
    rows = getattr(dataset, "trained_rows", None)
    if kind == "CE":
        return FullCatalogue(smoothing, chunk, rows)
    if kind == "in_batch":
        return InBatch(bool(config["mask_false_negatives"]))
    if kind != "sampled":
        raise AssertionError(f"loss_type {kind} has a word and no branch here")
    if not uniform and not in_batch:
        raise UserError(
            "loss_type: sampled has no candidates with sampled_uniform: 0 and sampled_in_batch: False; "
            "draw some, such as sampled_uniform: 1024"
        )
    popularity = training_shares(dataset.inter_feat[dataset.iid_field], dataset.item_num) if in_batch else None
    return Sampled(uniform, smoothing, popularity, rows)


def refuse_drawn_negatives(config: Any, model: str, way_out: str = "leave it out") -> None:
    """Refuse RecBole's sampled negatives for a model whose loss reads every row's item as a target.

    Args:
        config: RecBole's configuration.
        model, way_out: for the message.

    Raises:
        UserError: negatives are to be drawn.
    """
    if (config["train_neg_sample_args"] or {}).get("distribution", "none") != "none":
        raise UserError(
            f"train_neg_sample_args: the losses of {model} take none of RecBole's sampled negatives, which would "
            f"count as targets; {way_out}"
        )


def training_shares(targets: Tensor, rows: int) -> Tensor:
    """Each item's share of the training targets.

    Args:
        targets: (N,) int64 item numbers.
        rows: I + 1.

    Returns:
        (I+1,) float32, its sum 1.
    """
    return (torch.bincount(targets, minlength=rows).double() / len(targets)).float()
