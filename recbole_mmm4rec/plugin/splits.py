"""RecBole's data sets and loaders with the splits of :mod:`recbole_mmm4rec.data.protocols`, for every model."""

from __future__ import annotations

from functools import wraps
from logging import getLogger
from types import ModuleType
from typing import Any

import numpy as np
import torch

from recbole_mmm4rec.base.errors import UserError


def split_by_protocol(module: ModuleType) -> None:
    """Let ``Dataset``, on whose methods ours and RecBole's sequential data sets rest, know these splits."""
    from recbole_mmm4rec.data import protocols

    original, remap = module.Dataset.build, module.Dataset._remap_ID_all

    @wraps(original)
    def build(self: Any) -> list[Any]:
        split = protocols.split_of(self.config)
        if split is None:
            built: list[Any] = original(self)
            return built
        _check(self.config["eval_args"], split[0])
        found = protocols.assign(self, *split)
        items = self.inter_feat[self.iid_field].to_numpy()[found.rows]
        parts = protocols.parts_of(self, found)
        if not hasattr(self, "item_list_length_field"):  # sequential models have their histories
            for number in (protocols.VALID, protocols.TEST):
                parts[number].histories = _histories(found, number, items, parts[number])
        return parts

    @wraps(remap)
    def _remap_ID_all(self: Any) -> None:
        remap(self)
        protocols.number_held_out_last(self)

    module.Dataset.build, module.Dataset._remap_ID_all = build, _remap_ID_all


def _check(eval_args: Any, split: str) -> None:
    if eval_args["order"] != "TO":
        raise UserError(f"eval_args: split {split} goes by time; write order: TO")
    for mode in eval_args["mode"].values():
        if mode.startswith(("uni", "pop")):
            raise UserError(
                f"eval_args: mode {mode} ranks all targets of a user together, and split {split} ranks one at a "
                "time; write mode: full"
            )


def _histories(found: Any, number: int, items: np.ndarray, part: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each target of a part had before it.

    Args:
        found: which part each interaction is the target of.
        number: of the part.
        items: int64 (K,) of those interactions.
        part: its data set, by time.

    Returns:
        ``items``, and int64 (R,) each, where a row's history begins and ends in there.
    """
    places = np.arange(len(items))
    begins = np.maximum.accumulate(np.where(found.first, places, 0))
    targets = places[found.targets == number]  # by (user, time)
    rows = np.argsort(part.inter_feat[part.uid_field].numpy(), kind="stable")
    begin, end = np.empty_like(rows), np.empty_like(rows)
    begin[rows], end[rows] = begins[targets], targets
    return items, begin, end


def draw_trained_items(module: ModuleType) -> None:
    """Let a training's negative items be drawn from those that it is trained on; an evaluation's come from all."""

    def trained_rows(sampler: Any) -> int | None:
        rows = getattr(sampler.datasets[0] if hasattr(sampler, "datasets") else sampler.dataset, "trained_rows", None)
        return rows if getattr(sampler, "phase", "train") == "train" else None

    for kind in (module.Sampler, module.RepeatableSampler):
        original, by_popularity = kind._uni_sampling, kind._pop_sampling

        @wraps(original)
        def _uni_sampling(self: Any, sample_num: int, original: Any = original) -> Any:
            rows = trained_rows(self)
            return original(self, sample_num) if rows is None else np.random.randint(1, rows, sample_num)

        @wraps(by_popularity)
        def _pop_sampling(self: Any, sample_num: int, original: Any = by_popularity) -> Any:
            rows, drawn = trained_rows(self), original(self, sample_num)
            while rows is not None and (held_out := drawn >= rows).any():
                drawn[held_out] = original(self, int(held_out.sum()))
            return drawn

        kind._uni_sampling, kind._pop_sampling = _uni_sampling, _pop_sampling

    used = module.Sampler.get_used_ids

    @wraps(used)
    def get_used_ids(self: Any) -> Any:
        """RecBole's, which refuses a user that has taken all items: it would draw for ever."""
        found, rows = used(self), getattr(self.datasets[0], "trained_rows", None)
        if rows is not None and max(map(len, found["train"])) + 1 >= rows:
            raise UserError(
                f"split cold_items leaves {rows - 1} items to train on, all of which a user has: no wrong one can be "
                "drawn; give training a larger share, or filter such users with user_inter_num_interval"
            )
        return found

    module.Sampler.get_used_ids = get_used_ids


def rank_each_target(module: ModuleType) -> None:
    """Under these splits rank one target at a time for general models, too, as is done for sequential ones.

    RecBole ranks all targets of a user together for models without histories; a metric would mean something else. What
    a user had before a target is left out, as RecBole does for these models, unless ``repeatable`` is True.
    """
    from recbole_mmm4rec.data import protocols

    loader = module.FullSortEvalDataLoader
    original, collate = loader.__init__, loader.collate_fn

    @wraps(original)
    def __init__(self: Any, config: Any, dataset: Any, sampler: Any, shuffle: bool = False) -> None:  # noqa: N807
        if config["MODEL_TYPE"] == module.ModelType.SEQUENTIAL or protocols.split_of(config) is None:
            original(self, config, dataset, sampler, shuffle=shuffle)
            return
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.is_sequential = False  # a batch is as small as RecBole makes it for these models
        self.sample_size = len(dataset)
        super(loader, self).__init__(config, dataset, sampler, shuffle=False)
        self.is_sequential = True

    @wraps(collate)
    def collate_fn(self: Any, index: Any) -> Any:
        interaction, history, rows, targets = collate(self, index)
        histories = getattr(self._dataset, "histories", None)
        if histories is not None and not self.config["repeatable"]:
            items, begin, end = histories
            had = [items[begin[row] : end[row]] for row in index]
            had = [own[own != target] for own, target in zip(had, targets.numpy(), strict=True)]
            counts = torch.tensor([len(own) for own in had])
            history = rows.repeat_interleave(counts), torch.from_numpy(np.concatenate(had))
        return interaction, history, rows, targets

    loader.__init__, loader.collate_fn = __init__, collate_fn
