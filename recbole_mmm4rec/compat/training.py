"""Repairs of RecBole's trainers and checkpoints."""

from __future__ import annotations

import os
from functools import partial, wraps
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.compat.tools import ModuleView
from recbole_mmm4rec.settings.registry import settings_of


def load_and_save_checkpoints(module: ModuleType) -> None:
    """Load the checkpoints that RecBole writes, and write them whole.

    Broken: since PyTorch 2.6 ``torch.load`` refuses RecBole's own files, which hold the configuration as Python objects
    (trainer/trainer.py:323, 583; #2212 for NeuMF); ``torch.save`` writes over the best checkpoint in place (#1735).
    Only this module's name ``torch`` is changed.

    What is trusted: a ``.pth`` file is a pickle, and loading it runs whatever code it holds. Load only files that you
    have written yourself.
    """
    torch = module.torch

    def save(content: object, file: str | os.PathLike[str] | IO[bytes], *args: Any, **kwargs: Any) -> None:
        if not isinstance(file, (str, os.PathLike)):
            torch.save(content, file, *args, **kwargs)
            return
        with whole_file(Path(file)) as whole:
            torch.save(content, whole, *args, **kwargs)

    vars(module)["torch"] = ModuleView(torch, load=partial(torch.load, weights_only=False), save=save)


def use_current_amp(module: ModuleType) -> None:
    """Use the present names of mixed precision.

    Broken: ``torch.cuda.amp.GradScaler`` and ``autocast`` (trainer/trainer.py:235, 1440, 1453) are deprecated and warn
    in every epoch.
    """
    amp = module.torch.amp
    vars(module)["amp"] = ModuleView(
        module.amp, GradScaler=partial(amp.GradScaler, "cuda"), autocast=partial(amp.autocast, "cuda")
    )


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
