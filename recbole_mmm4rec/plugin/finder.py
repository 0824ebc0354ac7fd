"""How RecBole finds our model, data set, trainer and YAML, whichever of the two packages is imported first.

RecBole looks for a model by module name, and for data sets and trainers by attribute. A finder on ``sys.meta_path``
answers for the one module name, and runs small functions right after certain RecBole modules have been executed.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import logging
import pkgutil
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_mmm4rec import compat
from recbole_mmm4rec.base.errors import MissingPackageError

logger = logging.getLogger(__name__)

MODELS = ("MMM4Rec",)
"""Names of our models, as given to ``--model``."""

HOMES = {"MMM4Rec": "recbole_mmm4rec.model", "Neighbours": "recbole_mmm4rec.scoring.alone"}
"""The module of each class that ``--model`` may name and this plug-in brings: our models, and the counts alone."""

MODEL_MODULES = {f"recbole.model.sequential_recommender.{name.lower()}": name for name in HOMES}
"""Where RecBole looks for them (recbole/utils/utils.py:72)."""

DATASET_KEYS = [
    "feature_path",
    "features_in",
    "modalities",
    "candidates",
    "is_time",
    "selected_features",
    "eval_args",
    "encoding",
    "numerical_features",
    "discretization",
]
"""Keys of ours that change what the data set contains: a data set cached under other values is not used again."""

_METRIC_KEYS = ("metrics", "topk", "valid_metric")

Hook = Callable[[ModuleType], None]

_hooks: dict[str, list[str | Hook]] = {
    "recbole.utils.argument_list": ["recbole_mmm4rec.plugin.finder:add_dataset_keys"],
    "recbole.data.utils": [
        "recbole_mmm4rec.checkpoints.token_order:note_token_order",
        "recbole_mmm4rec.plugin.finder:offer_user_batches",
    ],
    "recbole.config.configurator": [
        "recbole_mmm4rec.plugin.finder:add_default_settings",
        "recbole_mmm4rec.plugin.finder:prefer_prepared_ml_100k",
        "recbole_mmm4rec.plugin.finder:refuse_unusable_values",
        "recbole_mmm4rec.plugin.stages:settle_stages",
        "recbole_mmm4rec.scoring.beside:settle_settings",
    ],
    "recbole.model.abstract_recommender": ["recbole_mmm4rec.scoring.beside:install"],
    "recbole.data.dataloader.abstract_dataloader": ["recbole_mmm4rec.scoring.beside:draw_negatives_alone"],
    "recbole.data.dataset": [
        "recbole_mmm4rec.plugin.finder:offer_dataset",
        "recbole_mmm4rec.plugin.finder:share_item_features",
    ],
    "recbole.trainer": ["recbole_mmm4rec.plugin.finder:offer_trainer"],
    "recbole.trainer.trainer": ["recbole_mmm4rec.training.observers:watch_trainers"],
}


def properties_dir() -> Path:
    """The folder of our default settings: inside an installed package, at the top of a repository otherwise."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "properties"
    return installed if installed.is_dir() else package.parent / "properties"


def after_import(module_name: str, hook: str | Hook) -> None:
    """Run a function on a RecBole module as soon as that has been executed; at once where it already was.

    Args:
        module_name: full name of the module, for example ``recbole.data.dataset.dataset``.
        hook: a function of the module, or ``"package.module:function"``, which is only imported when it is needed.
    """
    _hooks.setdefault(module_name, []).append(hook)
    if module_name in sys.modules:
        _call(hook, sys.modules[module_name])


def register() -> None:
    """Make RecBole know our classes and settings, and repair it; calling it twice changes nothing."""
    if any(isinstance(finder, PluginFinder) for finder in sys.meta_path):
        return
    loaded = [name for name in list(sys.modules) if name.partition(".")[0] == "recbole"]
    sys.meta_path.insert(0, PluginFinder())
    for name in loaded:
        _run_hooks(sys.modules[name])


class PluginFinder(importlib.abc.MetaPathFinder):
    """Answers for the modules of our models, and wraps the loaders of the RecBole modules that have hooks."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of ours or of one with hooks; None for every other name.

        Raises:
            MissingPackageError: RecBole is asked for and not installed.
        """
        if fullname in MODEL_MODULES:
            return ModuleSpec(fullname, _ModelLoader(), origin=HOMES[MODEL_MODULES[fullname]])
        if fullname.partition(".")[0] != "recbole" or not _has_hooks(fullname):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _HookedLoader(spec.loader)
                return spec
        if fullname == "recbole":
            raise MissingPackageError(f"RecBole is not installed: {compat.INSTALL_RECBOLE}", name=fullname)
        return None


class _ModelLoader(importlib.abc.Loader):
    """Fills a module that RecBole asks for with our model class."""

    def exec_module(self, module: ModuleType) -> None:
        name = MODEL_MODULES[module.__name__]
        setattr(module, name, getattr(importlib.import_module(HOMES[name]), name))


class _HookedLoader(importlib.abc.Loader):
    """A real loader with hooks around the execution of the module; everything else is the real loader's."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._real.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        with compat.while_importing(module.__name__):
            self._real.exec_module(module)
        _run_hooks(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _has_hooks(module_name: str) -> bool:
    return module_name in _hooks or module_name in compat.REPAIRS or module_name in compat.DURING_IMPORT


def _run_hooks(module: ModuleType) -> None:
    for hook in (*compat.repairs_of(module.__name__), *_hooks.get(module.__name__, ())):
        _call(hook, module)


def _call(hook: str | Hook, module: ModuleType) -> None:
    function = pkgutil.resolve_name(hook) if isinstance(hook, str) else hook
    function(module)
    logger.debug("%s: %s", module.__name__, function.__name__)


def add_dataset_keys(module: ModuleType) -> None:
    """Add our keys to those that RecBole compares before it uses a cached data set again."""
    module.dataset_arguments.extend(key for key in DATASET_KEYS if key not in module.dataset_arguments)
    module.general_arguments.extend(("token_order", "feature_encoders"))  # or TensorBoard would show them as settings


def offer_dataset(module: ModuleType) -> None:
    """Let ``recbole.data.dataset.MMM4RecDataset`` be our class, imported when it is first asked for."""
    _offer(module, {f"{name}Dataset": "recbole_mmm4rec.data.dataset" for name in MODELS})


def share_item_features(module: ModuleType) -> None:
    """Let RecBole's own sequential models use feature stores, and rank the same candidates as ours."""
    importlib.import_module("recbole_mmm4rec.plugin.stock_features").install_stock_item_features()


def offer_trainer(module: ModuleType) -> None:
    """Let ``recbole.trainer.MMM4RecTrainer`` and ``NeighboursTrainer`` be our classes, imported when asked for."""
    trainers = {f"{name}Trainer": "recbole_mmm4rec.training.trainer" for name in MODELS}
    _offer(module, {**trainers, "NeighboursTrainer": "recbole_mmm4rec.training.counting"})


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
        return getattr(importlib.import_module(homes[name]), name)

    vars(module)["__getattr__"] = lazy


def add_default_settings(module: ModuleType) -> None:
    """Add ``properties/model/<model>.yaml`` and ``properties/dataset/<dataset>.yaml`` of ours to RecBole's defaults.

    The user's files, dictionaries and command line are merged later and win. A data set's file of ours is read for
    every model, so that all models see the same data; its metrics only for models that RecBole judges by ranking.
    """
    config_class = module.Config
    original = config_class._load_internal_config_dict

    @wraps(original)
    def _load_internal_config_dict(self: Any, model: str, model_class: Any, dataset: str) -> None:
        original(self, model, model_class, dataset)
        settings = self.internal_config_dict
        judged_by_label = {key: settings[key] for key in _METRIC_KEYS if key in settings and _by_label(settings)}
        files = [properties_dir() / "dataset" / f"{dataset}.yaml"]
        if model in HOMES:
            files.insert(0, properties_dir() / "model" / f"{model}.yaml")
        for file in files:
            if file.is_file():
                self._update_internal_config_dict(str(file))
        settings.update(judged_by_label)
        _leave_out_unused_negatives(self, model_class)
        _load_times(self, model_class)

    config_class._load_internal_config_dict = _load_internal_config_dict


def _leave_out_unused_negatives(config: Any, model_class: Any) -> None:
    """Default to no sampled negatives where a sequential model trains with cross-entropy, which uses none.

    RecBole's default of one negative makes its own SASRec, GRU4Rec and others stop with an error until the user turns
    it off (recbole/config/configurator.py:293). What the user sets stays.
    """
    defaults, given = config.internal_config_dict, config.external_config_dict
    sequential = model_class.type.name == "SEQUENTIAL" and not hasattr(model_class, "input_type")
    if sequential and given.get("loss_type", defaults.get("loss_type")) == "CE":
        defaults["train_neg_sample_args"] = None


def _load_times(config: Any, model_class: Any) -> None:
    """Default to loading the time stamps for sequential models, which are ordered by them.

    RecBole's default loads users and items alone (properties/dataset/sample.yaml), so that a sequential model fails on
    any data set that has no settings of its own. What the user sets stays.
    """
    defaults, given = config.internal_config_dict, config.external_config_dict
    columns = (defaults.get("load_col") or {}).get("inter")
    if model_class.type.name != "SEQUENTIAL" or "load_col" in given or not isinstance(columns, list):
        return
    names = [given.get(key, defaults.get(key)) for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
    added = [name for name in names if name not in columns]
    if columns[:2] == ["user_id", "item_id"] and added:
        defaults["load_col"] = {**defaults["load_col"], "inter": [*columns, *added]}


def _by_label(settings: dict[str, Any]) -> bool:
    """Whether the metrics are of the kind that needs labels, as AUC and LogLoss do."""
    from recbole.evaluator import metric_types
    from recbole.utils import EvaluatorType

    return any(metric_types.get(metric.lower()) == EvaluatorType.VALUE for metric in settings["metrics"])


def prefer_prepared_ml_100k(module: ModuleType) -> None:
    """Use the user's own ``ml-100k`` where there is one.

    RecBole always takes the copy inside its package for that name, whatever ``data_path`` says
    (recbole/config/configurator.py:276). Without a file in ``data_path`` it still does.
    """
    config_class = module.Config
    original = config_class._set_default_parameters

    @wraps(original)
    def _set_default_parameters(self: Any) -> None:
        own = Path(self.final_config_dict["data_path"]) / "ml-100k"
        original(self)
        if self.dataset == "ml-100k" and (own / "ml-100k.inter").is_file():
            self.final_config_dict["data_path"] = str(own)

    config_class._set_default_parameters = _set_default_parameters


def refuse_unusable_values(module: ModuleType) -> None:
    """Check values where all of a run's settings are known, whichever way they came."""
    config_class = module.Config
    original = config_class._set_default_parameters

    @wraps(original)
    def _set_default_parameters(self: Any) -> None:
        from recbole_mmm4rec.settings.values import check_values

        check_values(self.final_config_dict)
        original(self)

    config_class._set_default_parameters = _set_default_parameters
