"""Repairs of what RecBole's loaders and samplers spend on each sample and each user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils.data import RandomSampler

_PART = 2**16  # numbers of samples that are Python objects at a time


def number_samples(module: ModuleType) -> None:
    """Number the samples of a loader without a list of all numbers.

    Broken: ``AbstractDataLoader.__init__`` (data/dataloader/abstract_dataloader.py:66) gives PyTorch
    ``list(range(sample_size))``, 40 bytes a sample, where the range itself does. The module's own name ``list`` hides
    the built-in one; it differs for ranges only.
    """

    def sequence(values: Iterable[Any] = ()) -> Any:
        return values if isinstance(values, range) else list(values)

    vars(module)["list"] = sequence


class FrugalRandomSampler(RandomSampler):
    """PyTorch's random sampler without replacement, whose order it keeps, without a list of all numbers."""

    def __iter__(self) -> Iterator[int]:
        count = len(self.data_source)
        for part in torch.randperm(count, generator=self.generator).split(_PART):
            yield from part.tolist()
        torch.randperm(count, generator=self.generator)  # PyTorch's draws once more at the end: the next order follows


def shuffle_in_parts(module: ModuleType) -> None:
    """Shuffle the samples of a loader without a list of all numbers.

    Broken: PyTorch's ``RandomSampler`` makes 40 bytes of Python objects a sample in each epoch.
    """
    original = module.AbstractDataLoader.__init__

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  it takes the place of that method
        original(self, *args, **kwargs)
        if type(self.sampler) is RandomSampler and self.sampler.generator is not None:
            self.sampler.__class__ = FrugalRandomSampler  # the sampler is held in three places

    module.AbstractDataLoader.__init__ = __init__


def share_empty_sets(module: ModuleType) -> None:
    """Let all users share one empty set of used items in the sampler of sequential models.

    Broken: ``RepeatableSampler.get_used_ids`` (sampler/sampler.py:402) makes a set of 216 bytes for each user, once
    for validation and once for the test; ``sample_by_user_ids`` replaces all of them before it looks at one.
    """

    def get_used_ids(self: Any) -> np.ndarray:
        return np.full(self.user_num, frozenset(), dtype=object)

    module.RepeatableSampler.get_used_ids = get_used_ids
