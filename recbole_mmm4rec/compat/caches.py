"""Repairs of RecBole's cached data sets and loaders (``save_dataset``, ``save_dataloaders``)."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.compat.tools import replace_function

logger = logging.getLogger(__name__)

FINGERPRINT_KEY = "data_fingerprint"
"""Config key that holds sizes and times of change of the data set's files."""


def fingerprint(data_path: str | Path, dataset: str, feature_path: str | Path | None = None) -> str:
    """What the files of a data set look like: names, sizes in bytes and times of change in nanoseconds.

    Args:
        data_path: the data set's folder.
        dataset: its name; files ``<dataset>.*`` count.
        feature_path: the folder of its feature stores, ``features`` in its own folder by default; all files count.

    Returns:
        One line of text, the same as long as no file changes; empty when there is no file.
    """
    folder = Path(data_path)
    stores = Path(feature_path) if feature_path else folder / "features"
    named = [(file.name, file) for file in folder.glob(f"{dataset}.*")]
    named += [(f"features/{file.relative_to(stores).as_posix()}", file) for file in stores.rglob("*")]
    states = [(name, file.stat()) for name, file in sorted(named) if file.is_file()]
    return " ".join(f"{name}:{state.st_size}:{state.st_mtime_ns}" for name, state in states)


def compare_data_files(module: ModuleType) -> None:
    """Make a cached data set depend on its files.

    Broken: ``create_dataset`` (data/utils.py:63) and ``load_split_dataloaders`` use a cache as long as the listed keys
    are equal, even when the files under them have changed. The fingerprint is one key more in that list.
    """
    if FINGERPRINT_KEY not in module.dataset_arguments:
        module.dataset_arguments.append(FINGERPRINT_KEY)


def fingerprint_data_files(module: ModuleType) -> None:
    """Set the key that :func:`compare_data_files` adds, once the data set's folder is known.

    Broken: see there.
    """
    original = module.Config.__init__

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  it takes the place of that method
        original(self, *args, **kwargs)
        refresh_fingerprint(self)

    module.Config.__init__ = __init__


def refresh_fingerprint(settings: Any) -> None:
    """Write the present state of the data files into settings, for example those of an old checkpoint.

    Args:
        settings: a ``Config``.
    """
    settings[FINGERPRINT_KEY] = fingerprint(settings["data_path"], settings["dataset"], settings["feature_path"])


def save_datasets_whole(module: ModuleType) -> None:
    """Write a cached data set under its name only when it is complete.

    Broken: ``Dataset.save`` (data/dataset/dataset.py:1883) writes in place; after an interruption every later run fails
    on the cut-off file.
    """

    def save(self: Any) -> None:
        path = Path(self.config["checkpoint_dir"]) / f"{self.config['dataset']}-{type(self).__name__}.pth"
        logger.info("Saving filtered dataset into [%s]", path)
        with whole_file(path) as file:
            pickle.dump(self, file)

    module.Dataset.save = save


def save_dataloaders_whole(module: ModuleType) -> None:
    """Save loaders without changing the run that saves them, and under their name only when complete.

    Broken: ``save_split_dataloaders`` (data/utils.py:84) takes the random generators out of the loaders and leaves them
    out, so that a run that saves its loaders shuffles differently from one that does not; and it writes in place.
    """

    def save_split_dataloaders(config: Any, dataloaders: Sequence[Any]) -> None:
        path = Path(config["checkpoint_dir"]) / f"{config['dataset']}-for-{config['model']}-dataloader.pth"
        logger.info("Saving split dataloaders into: [%s]", path)
        generators = [(loader.generator, getattr(loader.sampler, "generator", None)) for loader in dataloaders]
        states = [(loader, loader.generator.get_state()) for loader in dataloaders]
        try:
            for loader in dataloaders:
                loader.generator = loader.sampler.generator = None
            with whole_file(path) as file:
                pickle.dump(states, file)
        finally:
            for loader, (own, sampler) in zip(dataloaders, generators, strict=True):
                loader.generator, loader.sampler.generator = own, sampler

    replace_function(module.save_split_dataloaders, lambda _: save_split_dataloaders)
