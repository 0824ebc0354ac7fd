"""A run beside other models: same data, split, candidates and metrics, one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from recbole.data import create_dataset
from recbole.utils import ModelType, get_model

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.protocols import short_histories
from recbole_mmm4rec.run.build import make_config
from recbole_mmm4rec.settings.registry import names, plain_intervals
from recbole_mmm4rec.settings.setting import Counts
from recbole_mmm4rec.settings.stage import is_pretraining

PROTOCOL = names(Counts.PROTOCOL | Counts.COMMAND)
"""What decides the data and how models are judged; a model's own sizes and training settings are not among them."""

logger = logging.getLogger(__name__)


def check_comparable(names: Sequence[str], config: Any, begin: str = "--baselines={}: ") -> None:
    """Refuse a comparison over different candidates, or of models that rank different targets.

    Args:
        names: the baselines.
        config: RecBole's configuration of the run.
        begin: of a message; the name stands for ``{}``.

    Raises:
        UserError: a baseline that is no sequential model, whose candidates are the items with interactions alone,
            beside a run that ranks more, or which ranks all targets of a user together where a sequential model ranks
            one at a time; or a pre-training, which has no test.
    """
    if is_pretraining(config):
        raise UserError(f"{begin.format(','.join(names))}a pre-training has no test to compare; leave baselines out")
    split = config["eval_args"]["split"]
    for name in _without_histories(names):
        if (config["candidates"] or "interactions") != "interactions":
            raise UserError(
                f"{begin.format(name)}it ranks items with interactions alone, the run candidates: "
                f"{config['candidates']}; leave candidates out, or {name}"
            )
        if split and not config["benchmark_filename"] and next(iter(split)) in ("RS", "TS"):
            raise UserError(
                f"{begin.format(name)}under split {split} it ranks all targets of a user together, and "
                f"{config['model']} one at a time; write {{'LS': 'valid_and_test'}} or {{'global_time': [8, 1, 1]}}, "
                f"or leave {name} out"
            )


def _without_histories(names: Sequence[str]) -> list[str]:
    """Those of some models that are no sequential ones."""
    return [name for name in names if get_model(name).type != ModelType.SEQUENTIAL]


def unlike_users(names: Sequence[str], settings: Mapping[str, Any]) -> str:
    """What a reader of the table must know of users whom only some of the models are tested on; empty where all are.

    Args:
        names: the baselines.
        settings: of :func:`protocol`.
    """
    others = _without_histories(names)
    if not others or settings["benchmark_filename"] or "LS" not in (settings["eval_args"]["split"] or {}):
        return ""
    dataset = create_dataset(make_config(others[0], settings["dataset"], config_dict=_plain(settings)))
    count = short_histories(dataset)
    if not count:
        return ""
    return (
        f"{' and '.join(others)}: {count:,} users have two or three interactions, which sequential models divide "
        'otherwise; alike for all is --user_inter_num_interval="[4,inf)"'
    )


def protocol(config: Any) -> dict[str, Any]:
    """The settings that another model must share to be comparable.

    Args:
        config: RecBole's configuration of a finished run of a sequential model. ``repeatable`` is among them: a
            general model such as Pop then ranks the items of the history, too, as sequential models do.
    """
    shared = {key: config[key] for key in PROTOCOL if key in config}
    columns = {"inter": (config["load_col"] or {}).get("inter", "*")}  # item files add candidates to general models
    return {**shared, "load_col": columns, "data_path": str(Path(config["data_path"]).parent)}


def run_baselines(
    names: Sequence[str], model: str, dataset: str, config_files: Sequence[str], config_dict: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Train and test other models under the protocol of a run.

    Args:
        names: models of RecBole or ours, with their default sizes and training settings.
        model, dataset, config_files, config_dict: the run's own arguments.

    Returns:
        name to the result of :func:`.quick_start.run_recbole`; of a model that failed, its ``error``.
    """
    from recbole_mmm4rec.run.quick_start import run_recbole

    settings = {**protocol(make_config(model, dataset, config_files, dict(config_dict))), "dataset": dataset}
    results = {}
    for name in names:
        try:
            results[name] = run_recbole(name, dataset, config_dict=_plain(settings))
        except Exception as error:  # the run's own result must not be lost
            logger.exception("baseline %s failed", name)
            results[name] = {
                "best_valid_result": None,
                "test_result": None,
                "error": f"{type(error).__name__}: {error}",
            }
    ran = [name for name in names if not results[name].get("error")]
    try:
        note = unlike_users(ran, settings)
    except Exception:  # as above
        logger.exception("users of two and three interactions were not counted")
    else:
        for name in ran[-1:]:
            results[name]["note"] = note
    return results


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of plain values, because RecBole changes dictionaries that it is given."""
    copied: dict[str, Any] = yaml.safe_load(yaml.safe_dump(plain_intervals(settings)))
    return copied


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Validation and test metrics of several runs, one model a row.

    Args:
        results: name to the result of :func:`~recbole_mmm4rec.run.quick_start.run_recbole`.
    """
    names = max(len("validation"), *(len(name) for name in results))
    lines = []
    for split, key in (("validation", "best_valid_result"), ("test", "test_result")):
        metrics = list(next(iter(results.values()))[key] or {})
        if not metrics:
            continue  # a pre-training tests nothing
        width = max((len(metric) + 2 for metric in metrics), default=0)
        lines.append(f"{split:<{names + 2}}" + "".join(f"{metric:>{width}}" for metric in metrics))
        for name, result in results.items():
            row = "".join(f"{float((result[key] or {}).get(metric, float('nan'))):>{width}.4f}" for metric in metrics)
            lines.append(f"  {name:<{names}}{row}")
        lines.append("")
    lines += [result["note"] for result in results.values() if result.get("note")]
    lines += [f"{name} failed: {result['error']}" for name, result in results.items() if result.get("error")]
    return "\n".join(lines).rstrip()
