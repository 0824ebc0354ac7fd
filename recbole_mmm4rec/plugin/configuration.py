"""What RecBole's configuration takes from us: default settings, and checks of what the user sets."""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any

from recbole_mmm4rec.settings.defaults import properties_dir
from recbole_mmm4rec.settings.homes import HOMES

_METRIC_KEYS = ("metrics", "topk", "valid_metric")


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

    config_class._load_internal_config_dict = _load_internal_config_dict


def _by_label(settings: dict[str, Any]) -> bool:
    """Whether the metrics are of the kind that needs labels, as AUC and LogLoss do."""
    from recbole.evaluator import metric_types
    from recbole.utils import EvaluatorType

    return any(metric_types.get(metric.lower()) == EvaluatorType.VALUE for metric in settings["metrics"])


def refuse_unusable_values(module: ModuleType) -> None:
    """Check keys and values where all of a run's settings are known, whichever way they came."""
    config_class = module.Config
    original = config_class._set_default_parameters

    @wraps(original)
    def _set_default_parameters(self: Any) -> None:
        from recbole_mmm4rec.settings.keys import refuse_other_names
        from recbole_mmm4rec.settings.values import check_values

        refuse_other_names(self.external_config_dict, self.model)
        check_values(self.final_config_dict, self.model)
        original(self)

    config_class._set_default_parameters = _set_default_parameters
