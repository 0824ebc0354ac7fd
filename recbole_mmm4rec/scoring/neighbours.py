"""What was taken together with an item in training, counted, as a second opinion on a model's scores.

A network of a few hundred thousand samples blurs what happened a few times only: that buyers of one item soon took
another. Counting remembers it. With c(a, b) the weighted number of times that other users took a and b near each other,

    n(j) = Σ_p γ^(l−1−p) · c(i_p, j) / (f(i_p)^½ · f(j)^¼),        score(j) += λ · log(1 + n(j) / 0.1)

for a history i_0 … i_(l−1). A pair at distance d counts 1/√d from the earlier item to the later one, and half of it the
other way; f is one more than an item's number of training targets. The user's own pairs are left out: they say nothing
about what comes next, only what was there.

No part of the paper and of no network: :mod:`.beside` adds it to the scores of any sequential model, :mod:`.alone`
ranks by it without one. The parts are known: counts with damped popularity from item-to-item filtering (Deshpande and
Karypis 2004), weights that fall with distance and age from session kNN (Ludewig and Jannach 2018, arXiv 1803.09587), a
network's scores beside a memory of its training data from language models (Khandelwal and others 2020, arXiv
1911.00172).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

SAMPLES = 100_000
"""Training samples whose pairs are made at a time."""
SMALLEST = 0.1
"""The n(j) that doubles the argument of the logarithm."""
FROM, TO = 0.5, 0.25
"""Exponents of the popularity of the history's item and of the scored one."""
LEAST = 1e-6
"""The n(j) at and below which nothing is added: it may be rounding."""
BACKWARD = 0.5
"""What a pair counts from the later item to the earlier one."""


@dataclass(frozen=True)
class Pairs:
    """Items that training users took near each other, user by user.

    Attributes:
        start: int64 (U+1,), where a user's pairs begin; those of user u are ``start[u]`` to ``start[u + 1]``.
        earlier: int32 (P,), the item of the history.
        later: int32 (P,), the target.
        weight: float32 (P,), 1/√distance.
    """

    start: np.ndarray
    earlier: np.ndarray
    later: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, dataset: Any, window: int) -> Pairs:
        """All pairs of a history's item and the target in the samples of a training data set.

        Args:
            dataset: a sequential data set after its split; only its own samples are read.
            window: the largest distance of two items, in positions.
        """
        parts = []
        for begin in range(0, len(dataset), SAMPLES):
            batch = dataset.inter_feat[slice(begin, min(begin + SAMPLES, len(dataset)))]
            history = batch[dataset.iid_field + dataset.config["LIST_SUFFIX"]].numpy()  # (n, L)
            length = batch[dataset.item_list_length_field].numpy()[:, None]
            distance = length - np.arange(history.shape[1])
            row, place = np.nonzero((distance > 0) & (distance <= window))
            users, targets = batch[dataset.uid_field].numpy(), batch[dataset.iid_field].numpy()
            parts.append(
                (
                    users[row],
                    history[row, place].astype(np.int32),
                    targets[row].astype(np.int32),
                    (1 / np.sqrt(distance[row, place])).astype(np.float32),
                )
            )
        users, earlier, later, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(users, kind="stable")
        start = np.searchsorted(users[order], np.arange(dataset.user_num + 1))
        return cls(start, earlier[order], later[order], weight[order])


class Counts:
    """The counts of a training data set, and what they add to scores.

    Args:
        dataset: the training data set.
        window: the largest distance of two items that counts, in positions.
        decay: γ, the weight of each item of a history relative to the one after it.
        weight: λ.
    """

    def __init__(self, dataset: Any, window: int, decay: float, weight: float) -> None:
        self.decay, self.weight, self.rows = decay, weight, int(dataset.item_num)
        self._pairs = Pairs.of(dataset, window)
        self._targets = np.bincount(dataset.inter_feat[dataset.iid_field].numpy(), minlength=self.rows)
        self._weigh()
        both = np.r_[self._pairs.earlier, self._pairs.later], np.r_[self._pairs.later, self._pairs.earlier]
        weights = np.r_[self._pairs.weight, BACKWARD * self._pairs.weight]
        counts = sp.csr_matrix((weights, both), shape=(self.rows, self.rows))
        counts.setdiag(0)  # an item is no neighbour of its own
        counts.eliminate_zeros()
        self._counts = (sp.diags(self._from) @ counts @ sp.diags(self._to)).tocsr().astype(np.float32)

    def _weigh(self) -> None:
        self._from, self._to = (self._targets + 1.0) ** -FROM, (self._targets + 1.0) ** -TO

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was counted, as arrays of plain numbers; :meth:`of_arrays` makes the same counts of them."""
        counted = {name: getattr(self._counts, name) for name in ("indptr", "indices", "data")}
        return {
            **counted,
            "targets": self._targets,
            **{f"pairs.{key}": part for key, part in vars(self._pairs).items()},
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray], decay: float, weight: float) -> Counts:
        """The counts that :meth:`arrays` gave, without the training data set.

        Args:
            arrays: what it gave; they are not written to.
            decay, weight: as for the class.
        """
        made = object.__new__(cls)
        made.decay, made.weight, made.rows = decay, weight, len(arrays["targets"])
        made._pairs = Pairs(**{key: arrays[f"pairs.{key}"] for key in ("start", "earlier", "later", "weight")})
        made._targets = arrays["targets"]
        made._weigh()
        parts = tuple(arrays[name] for name in ("data", "indices", "indptr"))
        made._counts = sp.csr_matrix(parts, shape=(made.rows, made.rows))
        return made

    def with_items(self, count: int) -> Counts:
        """The same counts with further items, of which nothing was counted."""
        arrays = self.arrays()
        arrays["indptr"] = np.append(arrays["indptr"], np.full(count, arrays["indptr"][-1]))
        arrays["targets"] = np.append(arrays["targets"], np.zeros(count, dtype=arrays["targets"].dtype))
        return Counts.of_arrays(arrays, self.decay, self.weight)

    def __deepcopy__(self, memo: dict[int, Any]) -> Counts:
        return self  # nobody changes it

    def addition(self, users: Tensor, item_seq: Tensor, item_seq_len: Tensor) -> Addition:
        """What is added to the scores of a batch.

        Args:
            users: (B,) int64, whose own pairs do not count.
            item_seq: (B, L) int64 histories.
            item_seq_len: (B,) int64 their lengths.
        """
        known, histories, lengths = (values.cpu().numpy() for values in (users, item_seq, item_seq_len))
        places = np.arange(histories.shape[1])
        row, place = np.nonzero(places < lengths[:, None])
        worth = self.decay ** (lengths[row] - 1 - place)
        asked = sp.csr_matrix((worth, (row, histories[row, place])), shape=(len(known), self.rows))
        found = (asked @ self._counts - self._own(asked, known)).tocoo()
        kept = found.data > LEAST  # what only the user's own pairs made is rounding now
        values = self.weight * np.log1p(found.data[kept] / SMALLEST)
        order = np.argsort(found.col[kept], kind="stable")
        return Addition(
            *(
                torch.from_numpy(part[order]).to(item_seq.device)
                for part in (found.row[kept].astype(np.int64), found.col[kept].astype(np.int64), values)
            )
        )

    def shares(self, history: np.ndarray, item: int) -> np.ndarray:
        """What each item of a history has of what is added to one score, for a user without pairs of their own.

        The sum n(j) inside the logarithm is exact by item; the logarithm is shared out in proportion to it.

        Args:
            history: (l,) item numbers, oldest first.
            item: j.

        Returns:
            (l,) float64; their sum is what :meth:`addition` adds.
        """
        worth = self.decay ** (len(history) - 1 - np.arange(len(history)))
        counts = worth * np.array([self._counts[row, item] for row in history.tolist()], dtype=np.float64)
        total = counts.sum()
        if total <= LEAST:
            return np.zeros(len(history))
        return np.asarray(self.weight * np.log1p(total / SMALLEST) * counts / total)

    def _own(self, asked: sp.csr_matrix, users: np.ndarray) -> sp.csr_matrix:
        """(B, I+1), the part of ``asked @ counts`` that comes from each row's own user."""
        pairs = self._pairs
        known = np.where(users < len(pairs.start) - 1, users, 0)  # user 0 is padding and has no pairs
        distinct, which = np.unique(known, return_inverse=True)  # whoever has many rows has their pairs once
        begin, size = pairs.start[distinct], pairs.start[distinct + 1] - pairs.start[distinct]
        entries = asked.tocoo()
        if not (size.any() and entries.nnz):
            return sp.csr_matrix(asked.shape)
        owner = np.repeat(np.arange(len(distinct)), size)
        pair = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size) + np.repeat(begin, size)
        places, column = np.unique(which[entries.row] * self.rows + entries.col, return_inverse=True)
        own = sp.csr_matrix((len(places), self.rows))  # of the items of the owners' histories, a row each
        for one, other, share in ((pairs.earlier, pairs.later, 1.0), (pairs.later, pairs.earlier, BACKWARD)):
            here, there = one[pair], other[pair]
            place = owner * self.rows + here
            at = np.searchsorted(places, place)
            kept = np.flatnonzero((places.take(at, mode="clip") == place) & (here != there))
            here, there = here[kept], there[kept]
            weight = share * pairs.weight[pair[kept]] * self._from[here] * self._to[there]
            own += sp.csr_matrix((weight, (at[kept], there)), shape=own.shape)
        return sp.csr_matrix((entries.data, (entries.row, column)), shape=(len(users), len(places))) @ own


@dataclass(frozen=True)
class Addition:
    """Numbers that are added to some scores of a batch; each place occurs once, in the order of (item, row).

    Attributes:
        row: (n,) int64, rows of the batch.
        item: (n,) int64.
        value: (n,) floating.
    """

    row: Tensor
    item: Tensor
    value: Tensor

    def add_to(self, scores: Tensor, start: int = 0) -> None:
        """Add in place to the scores of items ``start`` and following, (B, n)."""
        bounds = torch.tensor([start, start + scores.shape[1]], device=self.item.device)
        low, high = torch.searchsorted(self.item, bounds).tolist()
        place = self.row[low:high], self.item[low:high] - start
        scores[place] += self.value[low:high].to(scores)

    def at(self, rows: Tensor, items: Tensor) -> Tensor:
        """What is added to single scores.

        Args:
            rows: (n,) int64 rows of the batch.
            items: (n,) int64.

        Returns:
            (n,) floating, 0 where nothing is.
        """
        if not len(self.value):
            return torch.zeros(len(items), dtype=self.value.dtype, device=items.device)
        width = int(torch.maximum(rows.max(), self.row.max())) + 1
        known, wanted = self.item * width + self.row, items * width + rows
        place = torch.searchsorted(known, wanted).clamp_(max=len(known) - 1)
        return torch.where(known[place] == wanted, self.value[place], 0)
