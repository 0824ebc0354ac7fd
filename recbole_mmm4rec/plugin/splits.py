"""RecBole's data sets and loaders with the splits of :mod:`recbole_mmm4rec.data.protocols`, for every model."""

from __future__ import annotations

from functools import wraps
from logging import getLogger
from types import ModuleType
from typing import Any

import numpy as np

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
        if self.config["eval_args"]["order"] != "TO":
            raise UserError(f"eval_args: split {split[0]} goes by time; write order: TO")
        return protocols.parts_of(self, protocols.assign(self, *split))

    @wraps(remap)
    def _remap_ID_all(self: Any) -> None:
        remap(self)
        protocols.number_held_out_last(self)

    module.Dataset.build, module.Dataset._remap_ID_all = build, _remap_ID_all


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

    RecBole ranks all targets of a user together for models without histories; a metric would mean something else.
    """
    from recbole_mmm4rec.data import protocols

    loader = module.FullSortEvalDataLoader
    original = loader.__init__

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

    loader.__init__ = __init__
