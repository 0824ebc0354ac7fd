"""The observers and the order of equal scores that every trainer has, installed once."""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any

from recbole_mmm4rec.scoring.ranking import RankingCollector
from recbole_mmm4rec.training.held_out import HeldOutItems
from recbole_mmm4rec.training.history import FirstValidation, History
from recbole_mmm4rec.training.keeping import Keeping
from recbole_mmm4rec.training.observers import Training


def watch_trainers(module: ModuleType) -> None:
    """Let every trainer of RecBole tell what happens; installed once, by the plug-in.

    Args:
        module: ``recbole.trainer.trainer``.
    """
    original = module.AbstractTrainer.__init__

    @wraps(original)
    def __init__(self: Any, config: Any, model: Any) -> None:  # noqa: N807  it takes the place of that method
        original(self, config, model)
        training = Training(self)
        for observer in (History(self), Keeping(module.Trainer.fit), FirstValidation(), HeldOutItems()):
            training.add(observer)

    module.AbstractTrainer.__init__ = __init__


def rank_in_one_order(module: ModuleType) -> None:
    """Let an evaluation of any model order equal scores as ours does, the lower item number first.

    RecBole's collector takes them as ``torch.topk`` happens to give them, so that rows of one table would have
    different rules; to a model that gives many items one score, such as Pop, it matters.

    Args:
        module: ``recbole.trainer.trainer``, whose trainers make themselves a collector.
    """
    vars(module)["Collector"] = RankingCollector
