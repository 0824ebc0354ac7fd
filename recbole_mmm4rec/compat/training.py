"""Repairs of RecBole's trainers."""

from __future__ import annotations

from functools import partial, wraps
from types import ModuleType
from typing import Any

from recbole_mmm4rec.compat.tools import ModuleView
from recbole_mmm4rec.settings.registry import settings_of


def use_current_amp(module: ModuleType) -> None:
    """Use the present names of mixed precision.

    Broken: ``torch.cuda.amp.GradScaler`` and ``autocast`` (trainer/trainer.py:235, 1440, 1453) are deprecated and warn
    in every epoch.
    """
    amp = module.torch.amp
    vars(module)["amp"] = ModuleView(
        module.amp, GradScaler=partial(amp.GradScaler, "cuda"), autocast=partial(amp.autocast, "cuda")
    )


def validate_models_that_only_count(module: ModuleType) -> None:
    """Validate Pop, ItemKNN and their like after their one epoch, whatever ``eval_step`` says.

    Broken: ``TraditionalTrainer`` (trainer/trainer.py:877) sets its one epoch after ``eval_step`` was limited to the
    number of epochs, so that ``eval_step: 2`` never validates, keeps no model, and the test finds none.
    """
    original = module.TraditionalTrainer.__init__

    @wraps(original)
    def __init__(self: Any, config: Any, model: Any) -> None:  # noqa: N807
        original(self, config, model)
        self.eval_step = min(self.eval_step, self.epochs)

    module.TraditionalTrainer.__init__ = __init__


def build_nadam(module: ModuleType) -> None:
    """Build NAdam when it is asked for, and refuse an optimiser that does not exist.

    Broken: ``_build_optimizer`` (trainer/trainer.py:196) trains with Adam, without weight decay, under any name it does
    not know; ``nadam`` is one of them.
    """
    original = module.Trainer._build_optimizer

    @wraps(original)
    def _build_optimizer(self: Any, **kwargs: Any) -> Any:
        learner = kwargs.get("learner", self.learner)
        settings_of(self.config["model"])["learner"].check(learner)
        if learner.lower() != "nadam":
            return original(self, **kwargs)
        return module.optim.NAdam(
            kwargs.get("params", self.model.parameters()),
            lr=kwargs.get("learning_rate", self.learning_rate),
            weight_decay=kwargs.get("weight_decay", self.weight_decay),
        )

    module.Trainer._build_optimizer = _build_optimizer
