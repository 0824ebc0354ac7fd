"""Repairs of RecBole's cached data sets and loaders (``save_dataset``, ``save_dataloaders``).

They are pickles, and a pickle runs what it holds. So each one is marked with a key that lies in the folder of the user
who has written it, and one that this user has not written is not read but made anew. So is one that a version of this
package has written that had other results.
"""

from __future__ import annotations

import glob
import logging
import pickle
from collections import defaultdict
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.signed import key_file, read_signed, write_signed
from recbole_mmm4rec.compat.tools import ModuleView, replace_function
from recbole_mmm4rec.distributed import group
from recbole_mmm4rec.settings.results import results_of

logger = logging.getLogger(__name__)

FINGERPRINT_KEY = "data_fingerprint"
"""Config key that holds sizes and times of change of the data set's files."""

_LOADERS_DEPEND_ON = (
    *("seed", "repeatable", "eval_args", "train_batch_size", "eval_batch_size", "shuffle", "worker"),
    *("train_unit", "train_neg_sample_args"),
)


def fingerprint(data_path: str | Path, dataset: str, feature_path: str | Path | None = None) -> str:
    """What the files of a data set look like: names, sizes in bytes and times of change in nanoseconds.

    Args:
        data_path: the data set's folder.
        dataset: its name; files ``<dataset>.*`` count.
        feature_path: the folder of its feature stores, ``features`` in its own folder by default; all files in it count
            but hidden ones and those in hidden folders: no training reads caches and parts that are being written.

    Returns:
        One line of text, the same as long as no file changes; empty when there is no file.

    Raises:
        UserError: a folder may not be looked into.
    """
    try:
        folder = Path(data_path)
        stores = Path(feature_path) if feature_path else folder / "features"
        named = [(file.name, file) for file in folder.glob(f"{glob.escape(dataset)}.*")]
        inside = [(file.relative_to(stores), file) for file in stores.rglob("*")]
        named += [(f"features/{name.as_posix()}", file) for name, file in inside if not _is_hidden(name)]
        states = [(name, file.stat()) for name, file in sorted(named) if file.is_file()]
        return " ".join(f"{name}:{state.st_size}:{state.st_mtime_ns}" for name, state in states)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


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
    on the cut-off file. It writes into ``checkpoint_dir`` whatever ``dataset_save_path`` is, where it is read.
    """

    def save(self: Any) -> None:
        default = f"{self.config['checkpoint_dir']}/{self.config['dataset']}-{type(self).__name__}.pth"
        path = Path(self.config["dataset_save_path"] or default)
        logger.info("Saving filtered dataset into [%s]", path)
        _write(path, self, self.config)

    module.Dataset.save = save


def remake_unreadable_datasets(module: ModuleType) -> None:
    """Make a cached data set anew that cannot be read, or is a link to a file in another folder.

    Broken: ``create_dataset`` (data/utils.py:58) ends in pickle's traceback on a file that is cut off or of other
    versions, and runs whatever a pickle holds. The module's own name ``pickle`` hides Python's. What is trusted: a
    cache that the user's own key has marked, so a program that the user has run wrote it.
    """

    def load(file: Any) -> Any:
        try:
            path = Path(file.name)
            if path.resolve().parent != path.parent.resolve():
                raise ValueError("a link to another folder")
            content = read_signed(path)
            if content is None:
                raise ValueError("this user has not written it on this machine")
            return _of_this_version(pickle.loads(content))
        except Exception as error:  # a pickle of other versions raises anything
            why = str(error) if isinstance(error, ValueError) else type(error).__name__
            logger.warning("%s is not read and is made anew (%s)", file.name, " ".join(why.split()))
            return SimpleNamespace(config=defaultdict(object))  # it differs from every configuration

    vars(module)["pickle"] = ModuleView(pickle, load=load)


def save_dataloaders_whole(module: ModuleType) -> None:
    """Save loaders without changing the run that saves them, and under their name only when complete.

    Broken: ``save_split_dataloaders`` (data/utils.py:84) takes the random generators out of the loaders and leaves them
    out, so that a run that saves its loaders shuffles differently from one that does not; it writes in place; and not
    to ``dataloaders_save_path``, where they are read.
    """

    def save_split_dataloaders(config: Any, dataloaders: Sequence[Any]) -> None:
        if group.active():
            logger.warning("save_dataloaders: nothing is kept, for each of several processes has loaders of its own")
            return
        path = _dataloaders_file(config)
        logger.info("Saving split dataloaders into: [%s]", path)
        parts = [part for loader in dataloaders for part in loaders_of(loader)]
        generators = [(part, part.generator, getattr(part.sampler, "generator", None)) for part in parts]
        states = [(loader, [part.generator.get_state() for part in loaders_of(loader)]) for loader in dataloaders]
        try:
            for part in parts:
                part.generator = part.sampler.generator = None
            _write(path, states, config)
        finally:
            for part, own, sampler in generators:
                part.generator, part.sampler.generator = own, sampler

    replace_function(module.save_split_dataloaders, lambda _: save_split_dataloaders)


def load_dataloaders_of_any_model(module: ModuleType) -> None:
    """Load the saved loaders of knowledge-aware models, too, and make those anew that cannot be read.

    Broken: the training loader of these models is made of two, and has itself neither the generator that
    ``save_split_dataloaders`` takes out nor the configuration that ``load_split_dataloaders`` (data/utils.py:109)
    compares (#1966). Saved loaders also keep their batches' size, transformation and wrong items, whatever is set now;
    a transformation that was not made anew leaves out the settings that BERT4Rec reads of it.
    """
    from recbole.data.transform import construct_transform

    def load_split_dataloaders(config: Any) -> tuple[Any, ...] | None:
        path = _dataloaders_file(config)
        if group.active() or not path.exists():
            return None
        with path.open("rb") as file:
            saved = module.pickle.load(file)
        if not isinstance(saved, list):
            return None
        for loader, states in saved:
            for part, state in zip(loaders_of(loader), states if isinstance(states, list) else [states], strict=True):
                part.generator = part.sampler.generator = torch.Generator()
                part.generator.set_state(state)
        loaders = tuple(loader for loader, _ in saved)
        before = loaders_of(loaders[0])[0].config
        if any(config[key] != before[key] for key in (*module.dataset_arguments, *_LOADERS_DEPEND_ON)):
            return None
        for loader in loaders:
            loader.update_config(config)
            for part in loaders_of(loader):
                part.transform = construct_transform(config)
        logger.info("Load split dataloaders from: [%s]", path)
        return loaders

    replace_function(module.load_split_dataloaders, lambda _: load_split_dataloaders)


def _write(path: Path, value: Any, config: Any) -> None:
    """Write a cache that this user alone reads again, with the number of the results that a run would have."""
    if not write_signed(path, pickle.dumps({"kept": value, "results": _results(config)})):
        logger.warning("%s is not kept: there is no place for a key of this user's (%s)", path, key_file())


def _of_this_version(found: Any) -> Any:
    """The data set or the loaders in a cache.

    Raises:
        ValueError: there are none, or their run has other results since they were written.
    """
    if not isinstance(found, dict) or found.keys() != {"kept", "results"}:
        raise ValueError("an older version of this package has written it, or another program")
    kept = found["kept"]
    config = loaders_of(kept[0][0])[0].config if isinstance(kept, list) else kept.config
    if found["results"] != _results(config):
        raise ValueError("a version of this package has written it that had other results")
    return kept


def _results(config: Any) -> int:
    return results_of(config["model"], config.final_config_dict, of_training=True)


def _dataloaders_file(config: Any) -> Path:
    default = f"{config['checkpoint_dir']}/{config['dataset']}-for-{config['model']}-dataloader.pth"
    return Path(config["dataloaders_save_path"] or default)


def loaders_of(loader: Any) -> list[Any]:
    """The loaders, each with a generator, that a loader is made of; of most, itself."""
    return [loader.general_dataloader, loader.kg_dataloader] if hasattr(loader, "kg_dataloader") else [loader]
