"""Repairs of RecBole's hyper-parameter search."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from recbole_mmm4rec.compat.tools import ModuleView, replace_function


def draw_with_new_generator(module: ModuleType) -> None:
    """Let ``HyperTuning(algo="exhaustive")`` run.

    Broken: ``exhaustive_search`` (trainer/hyper_tuning.py:117) hands hyperopt a ``RandomState``, but hyperopt draws
    with ``Generator.integers`` since 0.2.7 (#1868, #1240).
    """
    random = ModuleView(np.random, RandomState=np.random.default_rng)
    vars(module)["np"] = ModuleView(np, random=random)


def find_every_combination(module: ModuleType) -> None:
    """Let ``HyperTuning(algo="exhaustive")`` try every combination.

    Broken: ``exhaustive_search`` (trainer/hyper_tuning.py:92) draws until it meets a combination that is new, and takes
    1000 known ones in a row for the end: of 1500 combinations the last one is missed in half of all searches. After
    fifty times as many draws as there are combinations, one is missed in none.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def exhaustive_search(
            new_ids: Any, domain: Any, trials: Any, seed: Any, nbMaxSucessiveFailures: int = 1000
        ) -> Any:
            count = math.prod(node.pos_args[-1].obj for node in domain.params.values() if node.name == "randint")
            return original(new_ids, domain, trials, seed, max(nbMaxSucessiveFailures, 50 * count))

        return exhaustive_search

    replace_function(module.exhaustive_search, make)
