"""What ``stage: pretrain`` changes in a configuration, and what of stages and transfer is refused there."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.settings.defaults import default_settings, properties_dir
from recbole_mmm4rec.settings.homes import PRETRAINED, STARTS
from recbole_mmm4rec.settings.parts import check_names
from recbole_mmm4rec.settings.registry import settings_of
from recbole_mmm4rec.settings.stage import PRETRAIN

SPLITS = {"all_but_last": {"LS": "valid_only"}, "all": {"RS": [1, 0, 0]}}
"""``pretrain_on`` → RecBole's split: each user's last item validates, or nothing is held out."""


def settle_stages(module: ModuleType) -> None:
    """Let RecBole's configuration know the defaults and the split of pre-training.

    The defaults are those of properties/model/MMM4Rec-pretrain.yaml; the user's files, dictionaries and command line
    are merged later and win. The split is ``pretrain_on``'s, whatever ``eval_args`` say.
    """
    config_class = module.Config
    load, settle = config_class._load_internal_config_dict, config_class._set_default_parameters

    @wraps(load)
    def _load_internal_config_dict(self: Any, model: str, model_class: Any, dataset: str) -> None:
        load(self, model, model_class, dataset)
        if model in PRETRAINED and self.external_config_dict.get("stage") == PRETRAIN:
            self._update_internal_config_dict(str(properties_dir() / "model" / f"{model}-pretrain.yaml"))

    @wraps(settle)
    def _set_default_parameters(self: Any) -> None:
        settings = self.final_config_dict
        _refuse(self.model, settings)
        if settings.get("stage") == PRETRAIN and settings.get("pretrain_on") in SPLITS:
            given = settings.get("eval_args")
            kept = given if isinstance(given, dict) else {}
            settings["eval_args"] = {**kept, "split": SPLITS[settings["pretrain_on"]], "order": "TO"}
        settle(self)
        if self.model in PRETRAINED:
            check_names(self.model, settings)

    config_class._load_internal_config_dict = _load_internal_config_dict
    config_class._set_default_parameters = _set_default_parameters


def _refuse(model: str, settings: dict[str, Any]) -> None:
    """Refuse what would be ignored silently.

    Raises:
        UserError: pre-training or transfer of a model that has neither, or keys that contradict each other.
    """
    pretraining = settings.get("stage") == PRETRAIN
    for key in (*STARTS, *(["stage"] if pretraining else [])):
        having = [name for name in PRETRAINED if key in settings_of(name)]
        if settings.get(key) and model not in having:
            raise UserError(
                f"{key}={settings[key]!r}: {model} has no such thing, only {', '.join(having)}; leave it out"
            )
    for key in ("pretrain_on", "pretrain_checkpoint_every") if model in PRETRAINED and not pretraining else ():
        if settings.get(key) not in (None, default_settings(model).get(key)):
            raise UserError(f"{key}={settings[key]!r}: it needs stage=pretrain, which is not set")
    source = settings.get("pretrained")
    if isinstance(source, str) and source and not Path(source).is_file():  # told before data are read for minutes
        raise UserError(f"pretrained={source!r}: there is no such file")
    if pretraining and settings.get("benchmark_filename"):
        raise UserError(
            f"benchmark_filename={settings['benchmark_filename']!r}: pre-training splits by itself (pretrain_on); "
            "put the interactions into one file"
        )
    for key in ("pretrained_layers", "unfreeze_after"):
        needed = {"pretrained_layers": "pretrained", "unfreeze_after": "frozen"}[key]
        if settings.get(key) and not settings.get(needed):
            raise UserError(f"{key}={settings[key]}: it needs {needed}, which is not set")
