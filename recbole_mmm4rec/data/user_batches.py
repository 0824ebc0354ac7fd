"""Training batches of whole users (``train_unit: user``): all prefixes of a history together, so that they share work.

A batch holds about ``train_batch_size`` samples, as with ``train_unit: prefix``, but of far fewer users; an epoch sees
the same targets. What the prefixes of a user have in common the network computes once
(network/ops/packing/shared_prefixes.py). Up to L items a history is the same as there. Where more came before, windows
that slide by one item would share nothing; here they begin at every (L // 2)th item, so that each serves as many
targets, of which each sees between L − L // 2 + 1 and L items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.prefixes import PrefixColumns, PrefixInteraction, first_rows

ORIGIN = "history_origin"
"""Field of a batch, int64: samples with the same number are prefixes of one history."""


class UserTrainDataLoader(TrainDataLoader):
    """RecBole's training loader, whose batches are whole histories, or windows of those that are longer than L."""

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = False) -> None:
        """Group the samples of ``dataset`` by history; the arguments are RecBole's.

        Raises:
            UserError: the samples are no prefixes of one table of interactions.
        """
        if not isinstance(dataset.inter_feat, PrefixInteraction):
            raise UserError(
                "train_unit: user needs histories made from interactions, and benchmark_filename gives ready ones; "
                "set train_unit: prefix"
            )
        columns = shared_windows(dataset.inter_feat.interaction, dataset.uid_field)
        self._windows = dataset.copy(PrefixInteraction(columns))
        length = columns.length.numpy().astype(np.int64)
        origin = columns.target.numpy().astype(np.int64) - length
        self._order = np.lexsort((length, origin))
        firsts = np.flatnonzero(np.diff(origin[self._order], prepend=-1))
        self._origin = origin
        self._bounds = np.append(firsts, len(origin))
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        self.sample_size = len(dataset)  # what a progress bar counts; the sampler went over the histories

    step: int

    def _init_batch_size_and_step(self) -> None:
        samples, histories = len(self._dataset), len(self._bounds) - 1
        super()._init_batch_size_and_step()
        self.sample_size = histories
        self.step = max(1, round(self.step * histories / max(samples, 1)))

    def update_config(self, config: Any) -> None:
        """Take over another configuration, as RecBole does."""
        super().update_config(config)
        self.sample_size = len(self._dataset)

    def collate_fn(self, index: Sequence[int]) -> Interaction:
        """The samples of some histories, with the field :data:`ORIGIN`."""
        samples = np.concatenate([self._order[self._bounds[at] : self._bounds[at + 1]] for at in index])
        batch = self._neg_sampling(self.transform(self._windows, self._windows[samples]))  # as RecBole's own does
        batch.update(Interaction({ORIGIN: torch.from_numpy(self._origin[samples])}))
        return batch


def shared_windows(columns: PrefixColumns, user_field: str) -> PrefixColumns:
    """The same targets; where more than L items came before one, its history begins at a multiple of L // 2 of them.

    Args:
        columns: N samples, each with up to L items.
        user_field: the field by which rows belong to a history.

    Returns:
        N samples; of longer histories the last L − L // 2 + 1 to L items, and never fewer than one.
    """
    target, length = columns.target.numpy(), columns.length.numpy()
    slid = target - length - first_rows(columns.rows[user_field].numpy())[target]
    stride = max(1, columns.max_length // 2)
    later = np.where(length == columns.max_length, -slid % stride, 0).astype(length.dtype)
    chosen = columns.select(slice(None))
    chosen.length = torch.from_numpy(length - later)
    return chosen
