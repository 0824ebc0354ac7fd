"""Repairs of how RecBole reads settings."""

from __future__ import annotations

import importlib
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.compat.tools import replace_function
from recbole_mmm4rec.settings.homes import HOMES
from recbole_mmm4rec.settings.models import model_modules, model_names
from recbole_mmm4rec.settings.reading import literal, read_yaml
from recbole_mmm4rec.settings.stage import PRETRAIN
from recbole_mmm4rec.settings.values import check_eval_args


def read_literals(module: ModuleType) -> None:
    """Read values as literals; never run them as code.

    Broken: config/configurator.py:131 calls ``eval`` on every value of the command line and every string of a config
    dictionary, trainer/hyper_tuning.py:239 on the lines of a parameter file: ``--seed='__import__("os").…'`` runs.
    Numbers, strings, lists, tuples, dictionaries, booleans and ``None`` mean the same as before; expressions such as
    ``2**10`` are strings now. The module's own name ``eval`` hides the built-in one.
    """
    vars(module)["eval"] = literal


def explain_config_files(module: ModuleType) -> None:
    """Name the file, and the line, of a config file that cannot be read; accept an empty one.

    Broken: config/configurator.py:149 fails with ``'NoneType' object is not iterable`` for a file of comments only, and
    with PyYAML's traceback for others.
    """

    def _load_config_files(self: Any, file_list: list[str] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list or ():
            merged.update(read_yaml(file))
        return merged

    module.Config._load_config_files = _load_config_files


def name_unknown_models(module: ModuleType) -> None:
    """Say that a model name is unknown, and which is near; import the packages of no other models.

    RecBole imports those that it looks through first, a second and more for each run of a sequential model.

    Broken: ``get_model`` (utils/utils.py:72) imports the package of the tree models before it gives up, so that an
    unknown name is reported as a missing ``lightgbm`` (#2172), and wrong capitals as an ``AttributeError`` (#1883).
    """

    def get_model(model_name: str) -> Any:
        place = HOMES.get(model_name) or model_modules().get(model_name.lower())
        found = getattr(importlib.import_module(place), model_name, None) if place else None
        if found is None:
            hint = did_you_mean(model_name, model_names())
            raise UserError(f"model={model_name!r} is not a model of RecBole or of this plug-in{hint}")
        return found

    replace_function(module.get_model, lambda _: get_model)


def settle_defaults(module: ModuleType) -> None:
    """Give sequential models the defaults that they can run with, once all other defaults are known.

    Broken: RecBole's defaults are those of general models: see :func:`_leave_out_unused_negatives` and
    :func:`_load_times`.
    """
    config_class = module.Config
    original = config_class._get_final_config_dict

    @wraps(original)
    def _get_final_config_dict(self: Any) -> dict[str, Any]:
        _leave_out_unused_negatives(self, self.model_class)
        _load_times(self, self.model_class)
        _require_split(self, self.model_class)
        settings: dict[str, Any] = original(self)
        return settings

    config_class._get_final_config_dict = _get_final_config_dict


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
    """Default to loading the time stamps for sequential models, and for others that are asked to go by time.

    RecBole's default loads users and items alone (properties/dataset/sample.yaml), so that a sequential model fails on
    any data set that has no settings of its own. What the user sets stays.
    """
    defaults, given = config.internal_config_dict, config.external_config_dict
    columns = (defaults.get("load_col") or {}).get("inter")
    asked = given.get("eval_args")
    by_time = model_class.type.name == "SEQUENTIAL" or (isinstance(asked, dict) and asked.get("order") == "TO")
    if not by_time or "load_col" in given or not isinstance(columns, list):
        return
    names = [given.get(key, defaults.get(key)) for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
    added = [name for name in names if name not in columns]
    if columns[:2] == ["user_id", "item_id"] and added:
        defaults["load_col"] = {**defaults["load_col"], "inter": [*columns, *added]}


def _require_split(config: Any, model_class: Any) -> None:
    """Refuse ``eval_args`` of a sequential model that name no split.

    RecBole takes a random one then, which is the default of general models, and says nothing of it.
    """
    given = config.external_config_dict
    asked = given.get("eval_args")
    known = "benchmark_filename" in given or given.get("stage") == PRETRAIN  # ready-made parts, and pretrain_on's
    if model_class.type.name != "SEQUENTIAL" or known or not isinstance(asked, dict) or not asked:
        return
    if "split" not in asked:
        check_eval_args(asked)  # a misspelt split is told as such
        raise UserError(
            f"eval_args={asked}: it names no split, which would be a random one; what sequential models have is "
            "{'split': {'LS': 'valid_and_test'}, 'order': 'TO', 'mode': 'full'}: write all of it"
        )


def prefer_prepared_ml_100k(module: ModuleType) -> None:
    """Use the user's own ``ml-100k`` where there is one.

    Broken: RecBole always takes the copy inside its package for that name, whatever ``data_path`` says
    (config/configurator.py:276). Without a file in ``data_path`` it still does.
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


def obey_use_gpu(module: ModuleType) -> None:
    """Train on the processor where ``use_gpu`` is False.

    Broken: ``_init_device`` (config/configurator.py:475) chooses the GPU whenever there is one, whatever that key says.
    """
    config_class = module.Config
    original = config_class._init_device

    @wraps(original)
    def _init_device(self: Any) -> None:
        if not self.final_config_dict["use_gpu"] and "local_rank" not in self.final_config_dict:
            self.final_config_dict["gpu_id"] = ""
        original(self)

    config_class._init_device = _init_device
