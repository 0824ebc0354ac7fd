"""The observers that every training has, installed once."""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any

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
