"""The keys that a run may set, so that a misspelt one is noticed before it is silently ignored."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from recbole_mmm4rec.base.errors import UserError, nearest
from recbole_mmm4rec.plugin.finder import DATASET_KEYS, MODELS, properties_dir

logger = logging.getLogger(__name__)

LAUNCH_KEYS = ("nproc", "world_size", "ip", "port", "group_offset")
"""Keys that say where a run happens; they are no part of its configuration."""

_OWN_KEYS = ("model", "dataset", "config_files", "allow_download")
_READ = re.compile(r"""config\[\s*["'](\w+)["']\s*\]""")
_FOR_EVERY_MODEL = (
    *("run/build.py", "run/quick_start.py", "plugin/stock_features.py", "features/tables.py"),
    *("training/history.py", "training/fast_cpu.py", "training/keeping.py", "scoring/beside.py"),
)
_KINDS = ("general", "sequential", "context_aware", "knowledge_aware", "exlib")


@cache
def yaml_loader() -> Any:
    """PyYAML's loader as RecBole uses it, which reads ``1e-4`` as a number."""
    from recbole.config import Config

    return Config._build_yaml_loader(None)


@cache
def known_keys(model: str) -> frozenset[str]:
    """All keys that RecBole, the plug-in or this model reads.

    Collected from the default settings of RecBole and of the plug-in, and from every ``config["…"]`` in RecBole's
    program, in the plug-in's and in the model's.

    Args:
        model: name of a model of RecBole or of the plug-in.
    """
    from recbole.utils import argument_list

    keys = {*LAUNCH_KEYS, *_OWN_KEYS, *_keys_in_programs(model), *default_settings(model)}
    keys.update(DATASET_KEYS if model in MODELS else ())
    for category in ("general", "training", "evaluation", "dataset"):
        keys.update(getattr(argument_list, f"{category}_arguments"))
    for folder in (_recbole_dir() / "properties", properties_dir()):
        for file in sorted(folder.glob("dataset/*.yaml")) + sorted(folder.glob("quick_start_config/*.yaml")):
            if not file.stem.endswith("url"):
                keys.update(_settings_in(file))
    return frozenset(keys | _network_keys(model))


@cache
def keys_of_other_models() -> frozenset[str]:
    """Keys in the default settings of any model of RecBole or of the plug-in."""
    folders = (_recbole_dir() / "properties", properties_dir())
    files = [file for folder in folders for file in sorted(folder.glob("model/*.yaml"))]
    return frozenset(key for file in files for key in _settings_in(file))


@cache
def default_settings(model: str) -> Mapping[str, Any]:
    """RecBole's general default settings and those of one model."""
    merged = dict(_settings_in(_recbole_dir() / "properties" / "overall.yaml"))
    for folder in (_recbole_dir() / "properties", properties_dir()):
        merged.update(_settings_in(folder / "model" / f"{model}.yaml"))
    return merged


REMOVED = {
    **dict.fromkeys(
        ("whitening", "adapter_experts", "cosine_scores", "dropout_start", "temperature_start", "schedule_epochs"),
        "it brought nothing on any data set (docs/results.md) and is gone; leave it out",
    ),
    "contrastive_epochs": "it brought nothing on any data set (docs/results.md) and is gone; leave it out",
    "chunk_size": "the block length of the scan has no effect on results and is chosen by itself; leave it out",
}
"""Settings that MMM4Rec once had, and what to say to whoever still sets them."""


def check_setting(key: str, value: Any, model: str, where: str) -> None:
    """Refuse a key that is nearly a known one, and a word where a number is needed.

    A key that is near nothing is accepted with a warning: models from elsewhere have keys of their own.

    Args:
        key: name of the setting.
        value: its value, already typed.
        model: name of the model that is run.
        where: what the message starts with: the command line's argument, or a file and line.

    Raises:
        UserError: naming the place, the key and the way out.
    """
    known = known_keys(model)
    if key == "max_len" and model in MODELS:
        raise UserError(f"{where}: unknown key {key!r}; did you mean 'MAX_ITEM_LIST_LENGTH'?")
    if key in REMOVED and model in MODELS:
        raise UserError(f"{where}: {key}={value!r}: {REMOVED[key]}")
    if key not in known:
        if key in keys_of_other_models():
            logger.warning("%s: %s does not use the key %r", where, model, key)
            return
        hit = nearest(key, known)
        if hit:
            raise UserError(f"{where}: unknown key {key!r}; did you mean {hit!r}?")
        logger.warning("%s: neither RecBole nor %s knows the key %r", where, model, key)
        return
    default = default_settings(model).get(key)
    if isinstance(default, bool) and value is not None and not isinstance(value, (bool, int)):
        raise UserError(f"{where}: {key} must be True or False, not {value!r}")
    if isinstance(default, (int, float)) and not isinstance(default, bool) and isinstance(value, str):
        raise UserError(f"{where}: {key} must be a number such as {default!r}, not {value!r}")


def key_lines(path: str | Path) -> dict[str, int]:
    """The line of each key at the top level of a YAML file, counted from 1."""
    node = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml_loader())
    return {str(key.value): key.start_mark.line + 1 for key, _ in node.value} if node is not None else {}


def _recbole_dir() -> Path:
    import recbole

    return Path(recbole.__path__[0])


def _settings_in(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    return yaml.load(file.read_text(encoding="utf-8"), Loader=yaml_loader()) or {}


def _keys_in_programs(model: str) -> set[str]:
    root, package = _recbole_dir(), Path(__file__).parents[1]
    models = [root / "model" / f"{kind}_recommender" for kind in _KINDS]
    files: Iterable[Path] = (
        file for file in root.rglob("*.py") if file.parent not in models or file.stem == model.lower()
    )
    files = [*files, *(package.rglob("*.py") if model in MODELS else (package / name for name in _FOR_EVERY_MODEL))]
    return {key for file in files for key in _READ.findall(file.read_text(encoding="utf-8"))}


def _network_keys(model: str) -> set[str]:
    if model not in MODELS or find_spec("recbole_mmm4rec.network.config") is None:
        return set()
    from recbole_mmm4rec.network.config import NetworkConfig

    return {field.name for field in fields(NetworkConfig)}
