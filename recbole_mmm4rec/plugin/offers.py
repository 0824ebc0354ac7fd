"""What RecBole finds of ours by name: data set, trainer, batches of users, feature stores, quick start."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from functools import wraps
from types import ModuleType
from typing import Any

from recbole_mmm4rec.compat.tools import replace_function
from recbole_mmm4rec.settings.homes import DATASETS, MODELS, TRAINERS
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts


def add_dataset_keys(module: ModuleType) -> None:
    """Add our keys to those that RecBole compares before it uses a cached data set again."""
    known = module.dataset_arguments
    known.extend(key for key in names(Counts.DATA) if key not in known)
    module.general_arguments.extend(
        ("token_order", "feature_encoders", "started_from")
    )  # or TensorBoard would show them as settings


def offer_dataset(module: ModuleType) -> None:
    """Let ``recbole.data.dataset.MMM4RecDataset`` and its like be our classes, imported when they are asked for."""
    _offer(module, {f"{name}Dataset": home for name, home in DATASETS.items()})


def share_item_features(module: ModuleType) -> None:
    """Let RecBole's own sequential models use feature stores, and rank the same candidates as ours."""
    importlib.import_module("recbole_mmm4rec.plugin.stock_features").install_stock_item_features()


def offer_trainer(module: ModuleType) -> None:
    """Let ``recbole.trainer.MMM4RecTrainer`` and its like be our classes, imported when they are asked for."""
    _offer(module, {f"{name}Trainer": home for name, home in TRAINERS.items()})


def offer_user_batches(module: ModuleType) -> None:
    """Let our model train on batches of whole users; the loader is imported when it is first asked for."""
    original = module.get_dataloader

    @wraps(original)
    def get_dataloader(config: Any, phase: str) -> Any:
        if phase == "train" and config["model"] in MODELS and config["train_unit"] == "user":
            from recbole_mmm4rec.data.user_batches import UserTrainDataLoader

            return UserTrainDataLoader
        return original(config, phase)

    vars(module)["get_dataloader"] = get_dataloader


def _offer(module: ModuleType, homes: dict[str, str]) -> None:
    def lazy(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return pkgutil.resolve_name(homes[name])

    vars(module)["__getattr__"] = lazy


def replace_quick_start(module: ModuleType) -> None:
    """Use the plug-in's functions where RecBole's cannot work.

    Broken: ``load_data_and_model`` (quick_start/quick_start.py:250) loads in a way that PyTorch 2.6 refuses;
    ``objective_function`` reports to ray even where no ray runs, and inside ray returns a second report.
    """
    from recbole_mmm4rec.run import quick_start

    replace_function(module.load_data_and_model, lambda _: quick_start.load_data_and_model)
    replace_function(module.objective_function, lambda _: quick_start.objective_function)
    if not hasattr(sys.modules.get(module.__package__ or ""), "objective_function"):
        # Nobody holds it yet. A worker that unpickles ours imports the plug-in with it; by RecBole's name it would not.
        vars(module)["objective_function"] = quick_start.objective_function
