"""Cross-entropies over the catalogue, over the batch and over sampled items; in chunks of items: ``chunked.py``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.network.ops.tables.softmax import softmax_cross_entropy


def full_cross_entropy(
    users: Tensor, fused: Tensor, labels: Tensor, label_smoothing: float = 0.0, rows: int | None = None
) -> Tensor:
    """Cross-entropy over all items.

    Differs from the published program: the padding row is no class.

    Args:
        users: (B, D).
        fused: (I+1, D), see :meth:`~recbole_mmm4rec.network.items.ItemTables.fused`.
        labels: (B,) int64 in 1 … I.
        label_smoothing: share of the probability spread over all items, 0 as in the paper.
        rows: where the items that are trained on end, the padding row among them; None for all.

    Returns:
        the mean over the batch.
    """
    return softmax_cross_entropy(users, fused[1:rows], labels - 1, label_smoothing)


def in_batch_cross_entropy(
    users: Tensor, fused: Tensor, labels: Tensor, mask_false_negatives: bool = False, first: int = 0
) -> Tensor:
    """Cross-entropy in which column j is the label of row j.

    Args:
        users: (B, D), rows ``first`` … of the joint batch.
        fused: (C, D), the item side of ``labels``; C is B, or more where other processes have the other rows.
        labels: (C,) int64.
        mask_false_negatives: leave out the other columns that hold the row's own label; otherwise, as published, equal
            labels are neither merged nor masked.
        first: where the rows of ``users`` begin.

    Returns:
        the mean over the rows of ``users``.
    """
    logits = _logits(users, fused)
    columns = labels.new_ones(len(labels)).cumsum(0) - 1
    targets = columns[first : first + len(users)]
    if mask_false_negatives:
        equal = labels[targets].unsqueeze(1) == labels
        logits = logits.masked_fill(equal & (targets.unsqueeze(1) != columns), float("-inf"))
    return F.cross_entropy(logits, targets)


@dataclass(frozen=True)
class Candidates:
    """Items that stand for the whole catalogue in a batch's loss.

    Attributes:
        rows: (C,) int64 item numbers, each once; every label is among them.
        correction: (C,) float32, log of the times an item was drawn over the times expected; −inf for a label that was
            not drawn.
        place: (B,) int64, where each label stands in ``rows``.
    """

    rows: Tensor
    correction: Tensor
    place: Tensor

    def of_rows(self, first: int, count: int) -> Candidates:
        """The same candidates for ``count`` of the rows, from row ``first`` on."""
        return Candidates(self.rows, self.correction, self.place[first : first + count])


def draw_candidates(labels: Tensor, count: int, uniform: int, popularity: Tensor | None) -> Candidates:
    """Draw candidates from two proposals at once: the batch's own labels, and all items alike.

    An item j that is not a row's own label is expected ``(B − 1) p_j + uniform / I`` times, where p_j is its share of
    the training targets.

    Args:
        labels: (B,) int64 in 1 … I.
        count: I.
        uniform: how many items are drawn with the same probability each, with repetition, at least 0.
        popularity: (I+1,) float32 p; None where the labels are no candidates for other rows.

    Returns:
        the items drawn, repeated ones merged.
    """
    drawn = torch.randint(1, count + 1, (uniform,), device=labels.device)
    rows, place = torch.unique(torch.cat([labels, drawn]), return_inverse=True)
    place, drawn_place = place[: len(labels)], place[len(labels) :]
    times = torch.zeros(len(rows), device=labels.device)
    times.index_add_(0, drawn_place, times.new_ones(uniform))
    expected = torch.full_like(times, uniform / count)
    if popularity is not None:
        times.index_add_(0, place, times.new_ones(len(labels)))
        expected += (len(labels) - 1) * popularity[rows]
    # nothing is expected of a label in a batch of one, or of one that no training target ever was: its column is its
    # row's own or, at the least, seen as often as here
    expected = torch.where(expected > 0, expected, times)
    return Candidates(rows, torch.where(times > 0, (times / expected).log(), float("-inf")), place)


def sampled_cross_entropy(
    users: Tensor, fused: Tensor, candidates: Candidates, count: int, label_smoothing: float = 0.0
) -> Tensor:
    """Estimate of the cross-entropy over all items from a few, by importance sampling.

    A row's own label is in its sum for certain and once, with its plain logit; every other candidate's logit is
    corrected by the log of its expected count, so that the sum of the exponentials is that over all items in
    expectation, and the loss and its gradient converge to :func:`full_cross_entropy`'s as candidates become more. A
    candidate that equals the row's label adds nothing beside it. The expectation takes the other rows' labels for
    independent draws of the training targets: true of shuffled samples, roughly of ``train_unit: user``, where a row's
    own history brings several of them.

    Sources: importance sampling of the softmax, Bengio & Senécal, "Quick Training of Probabilistic Neural Nets by
    Importance Sampling" (AISTATS 2003); correction of in-batch negatives, Yi et al., "Sampling-Bias-Corrected Neural
    Modeling for Large Corpus Item Recommendations" (RecSys 2019); the label without correction, Khrylchenko et al.,
    "Correcting the LogQ Correction" (arXiv 2507.09331).

    Args:
        users: (B, D).
        fused: (C, D), the item side of ``candidates.rows``.
        candidates: see :func:`draw_candidates`.
        count: I.
        label_smoothing: share of the probability spread over all items, whose mean logit is estimated likewise.

    Returns:
        the mean over the batch.
    """
    logits = _logits(users, fused)
    place = candidates.place.unsqueeze(1)
    own = logits.gather(1, place)
    correction = candidates.correction.to(logits.dtype)
    normaliser = (logits + correction).scatter(1, place, own).logsumexp(1, keepdim=True)
    loss = normaliser - (1 - label_smoothing) * own
    if label_smoothing:
        weights = correction.exp()
        total = logits @ weights.unsqueeze(1) + own * (1 - weights[place])
        if len(candidates.rows) > 1:  # a label alone says nothing of the other items
            loss = loss - label_smoothing / count * total
        else:
            loss = loss - label_smoothing * own.squeeze(1)
    return loss.mean()


def _logits(users: Tensor, fused: Tensor) -> Tensor:
    """(B, n), at least float32."""
    logits = users @ fused.transpose(0, 1).to(users.dtype)
    return logits.float() if logits.dtype.itemsize < 4 else logits
