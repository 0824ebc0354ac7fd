"""The files that a run reads: whether its model can use them, their hash, and whether they are still what they were."""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from recbole.utils import ModelType

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.features.tables import FeatureSource, FeatureTables, choose_modalities
from recbole_mmm4rec.features.writer import aside
from recbole_mmm4rec.settings.homes import DATASETS
from recbole_mmm4rec.settings.reading import name_list

_TABLES = ("inter", "item", "user", "kg", "link", "net")
BEGUN_WITH = ("mf_pretrain_path", "mlp_pretrain_path", "pretrain_path", "pre_model_path")
"""Settings of RecBole's models (NeuMF, NAIS, RaCT, ConvNCF, S3Rec) that name a file of another training."""
_OF_A_STORE = ("manifest.json", "items.txt", "present.npy", "table.npy")


def stores_of(config: Any) -> list[str]:
    """The modalities whose feature stores a run reads.

    Args:
        config: RecBole's configuration of the run.

    Raises:
        UserError: one of them is not there.
    """
    source, home = FeatureSource.of(config), DATASETS.get(config["model"])
    if home is not None:
        return choose_modalities(config["modalities"], source) if pkgutil.resolve_name(home).uses_features else []
    selected = config["selected_features"] if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else None
    wanted, found = list(name_list(selected) or ()), source.found()
    for name in wanted:
        if name not in found:
            raise UserError(
                f"selected_features: {name!r} is no feature store in {source.folder} ({', '.join(found) or 'none'} "
                f"there), and a comparison loads no columns of items; name text or image, or `{source.command()}`"
            )
    return wanted


def check_stores(config: Any, tokens: np.ndarray | None) -> None:
    """Read the feature stores of a run once, as its data set will.

    Args:
        config: RecBole's configuration of the run.
        tokens: the items' as RecBole's data set holds them, ``[PAD]`` first; None where they are not known, and
            the numbers are not looked at.

    Raises:
        UserError: a store is missing or damaged, of other items, or made from texts that have changed.
    """
    source, wanted = FeatureSource.of(config), stores_of(config)
    if tokens is not None:
        FeatureTables(replace(source, features_in="mapped"), wanted, tokens)
        return
    for modality in wanted:
        source.open(modality)


def files_of(config: Any) -> dict[str, Path]:
    """The files that decide what a run learns from, by names that are the same wherever the data lie.

    Interactions; of the other tables those of which columns are loaded, and the items' where all of them are ranked;
    of the feature stores those that the model reads; the files of :data:`BEGUN_WITH`.

    Args:
        config: RecBole's configuration of the run.

    Raises:
        UserError: a feature store is not there.
    """
    folder, source, stores = Path(config["data_path"]), FeatureSource.of(config), stores_of(config)
    kinds = {"inter", *(config["load_col"] or _TABLES)}
    if config["candidates"] == "all":
        kinds.add("item")
        stores = stores if source.item_file.is_file() else source.found()  # then the items are theirs
    tables = (folder / f"{config['dataset']}.{kind}" for kind in sorted(kinds))
    found = {file.name: file for file in tables if file.is_file()}
    for modality in stores:
        store = source.folder / modality
        store = store if store.exists() else aside(store)  # as it is opened
        found |= {f"features/{modality}/{name}": store / name for name in _OF_A_STORE if (store / name).is_file()}
    return found | {key: Path(config[key]) for key in BEGUN_WITH if config[key]}


def state_of(files: Iterable[Path]) -> dict[str, list[int]]:
    """Each file's size in bytes and time of change in nanoseconds; empty where it is gone."""
    return {str(file): _state(file) for file in files}


def hash_of(files: Mapping[str, Path]) -> str:
    """The hash of files, names and content; one that has the same size and time is not read again."""
    lines = [f"{name} {_hash(file, *_state(file))}" for name, file in files.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def check_unchanged(config: Any, known: Mapping[str, Sequence[int]], mark: str) -> None:
    """Refuse data other than those that a run is recorded under.

    Args:
        config: RecBole's configuration of the run.
        known: what :func:`state_of` said of them when the comparison began.
        mark: what :func:`hash_of` said.

    Raises:
        UserError: a file holds something else, is gone, or was not there.
    """
    changed = [file for file, state in known.items() if _state(Path(file)) != list(state)]
    changed = changed or [file for file in map(str, files_of(config).values()) if file not in known]
    if changed and not _is(config, mark):
        raise UserError(
            f"{changed[0]} changed after the comparison had begun; start the command again (with --retry-failed where "
            "the file is put back as it was)"
        )


def _is(config: Any, mark: str) -> bool:
    """Whether the files hold what they did, whatever their times say."""
    try:
        return hash_of(files_of(config)) == mark
    except (UserError, OSError):
        return False


def _state(file: Path) -> list[int]:
    try:
        found = file.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


@cache
def _hash(file: Path, *state: int) -> str:
    return hash_file(file)
