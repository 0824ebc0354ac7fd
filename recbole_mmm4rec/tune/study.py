"""What a search is: model, data, fixed settings, space; and whether a folder holds the same one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.base.files import file_hash, whole_file
from recbole_mmm4rec.base.json_lines import read_line
from recbole_mmm4rec.run.identity import NOT_RESOLVED, data_mark, resolved
from recbole_mmm4rec.settings.keys import check_setting, read_settings
from recbole_mmm4rec.settings.models import model_names
from recbole_mmm4rec.settings.reading import read_yaml
from recbole_mmm4rec.settings.registry import names, plain_intervals
from recbole_mmm4rec.settings.results import results_of
from recbole_mmm4rec.settings.setting import Counts
from recbole_mmm4rec.tune.space import Parameter, Params, Space, describe


@dataclass(frozen=True)
class Study:
    """A search.

    Attributes:
        model: name of the model.
        dataset: name of the data set.
        fixed: settings that all trials share, from files and the command line.
        space: what is searched.
        data: hash of the data set's files.
        resolved: of the fixed settings with their defaults, of what the training starts from, and of versions.
        valid_metric: the metric that is searched for, in RecBole's spelling.
        bigger: whether more of it is better.
        epochs: upper limit of a trial's epochs.
        results: the number of the last change of results that concerns any of its trials.
    """

    model: str
    dataset: str
    fixed: Mapping[str, Any]
    space: Space
    data: str
    resolved: str
    valid_metric: str
    bigger: bool
    epochs: int
    results: int

    def settings(self, params: Params) -> dict[str, Any]:
        """All settings of a trial, as they would stand in a config file."""
        return {"model": self.model, "dataset": self.dataset, **self.fixed, **params}

    def parts(self) -> dict[str, Any]:
        """Plain values that decide what a trial finds."""
        plain = {
            "model": self.model,
            "dataset": self.dataset,
            "files of the data set": self.data,
            "results of this package's version": self.results,
            "valid_metric": self.valid_metric,
            "fixed settings": dict(self.fixed),
            "space": describe(self.space),
            # last: told where nothing else differs
            "defaults of settings, versions of RecBole and PyTorch, content of pretrained": self.resolved,
        }
        copied: dict[str, Any] = json.loads(json.dumps(plain))
        return copied


def make_study(model: str, dataset: str | None, files: Sequence[str], given: Mapping[str, Any], space: Space) -> Study:
    """Check everything that can be checked before the first trial.

    Args:
        model, dataset: their names; a file's ``dataset`` stands in for a missing one.
        files: YAML files with fixed settings; later ones win.
        given: fixed settings of the command line, which win over the files.
        space: what is searched.

    Raises:
        UserError: an unknown model, key or value, a setting that is searched and fixed, a data set that is not there.
    """
    if model not in model_names():
        raise UserError(f"--model={model}: there is no such model{did_you_mean(model, model_names())}")
    in_files = _read_files(files, model)
    for key, value in given.items():
        check_setting(key, value, model, f"--{key}={value}")
    in_files.pop("model", None)
    dataset = dataset or in_files.get("dataset")
    in_files.pop("dataset", None)
    if not dataset:
        raise UserError("--dataset is missing: give the name of a data set, the folder of that name in data_path")
    for one in space:
        _check_searched(one.key, given, one.where)
    fixed = {key: value for key, value in {**in_files, **given}.items() if key not in {one.key for one in space}}
    for key in (*names(Counts.LAUNCH), "resume"):
        if key in fixed:
            raise UserError(f"{key} cannot be set: a trial is one process; --tool ray runs several trials at a time")
    if fixed.get("stage", "train") != "train":
        raise UserError(f"stage={fixed['stage']!r} cannot be searched: it has no validation; leave stage out")
    return _checked(model, str(dataset), _plain(fixed), space)


def named_model(files: Sequence[str]) -> str | None:
    """The model that config files name, the last one that names any; None where none does."""
    named = [read_yaml(file).get("model") for file in files]
    return next((str(name) for name in reversed(named) if name), None)


def _read_files(files: Sequence[str], model: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for file in files:
        merged |= read_settings(file, model)
    return merged


def _check_searched(key: str, given: Mapping[str, Any], where: str) -> None:
    if key in names(Counts.FIXED):
        raise UserError(f"{where}: {key} cannot be searched: it changes what is measured or where, not the model")
    if key in given:
        raise UserError(f"{where}: {key} is searched, and fixed by --{key}={given[key]}; keep one")


def _plain(fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON and YAML have them, tuples as lists, but for intervals."""
    try:
        copied: dict[str, Any] = json.loads(json.dumps(plain_intervals(fixed)))
    except TypeError as error:
        raise UserError(f"a fixed setting is no plain value: {error}") from None
    return copied


def _checked(model: str, dataset: str, fixed: dict[str, Any], space: Space) -> Study:
    from recbole_mmm4rec.run.build import check_data_files, same_devices

    with same_devices():
        first = {one.key: one.examples[0] for one in space}
        try:
            config = _config(model, dataset, fixed)
        except UserError:  # a fixed setting may need one that is searched
            config = _config(model, dataset, {**fixed, **first})
        check_data_files(config)
        results = [results_of(model, config.final_config_dict)]
        for one in space:
            for value in one.examples:
                check_setting(one.key, value, model, one.where)
                tried = _tried(model, dataset, {**fixed, **first}, space, one, value)
                results.append(results_of(model, tried.final_config_dict))
        split = config["eval_args"]["split"]
        if not split:
            raise UserError("eval_args: there is no split, hence no validation to choose by")
        (parts,) = split.values()
        if parts == "test_only" or (isinstance(parts, list) and not parts[1]):
            raise UserError(f"eval_args: split {split}: there is no validation to choose by; leave a part for it")
        source, searched = config["pretrained"], _searched_files(model, dataset, {**fixed, **first}, space)
        if config["eval_step"] < 1:
            raise UserError(f"eval_step={config['eval_step']}: there is no validation to choose by; write 1 or more")
    return Study(
        model,
        dataset,
        fixed,
        space,
        data_mark(config),
        resolved({**config.final_config_dict, "pretrained": source and file_hash(source), **searched}, NOT_RESOLVED),
        config["valid_metric"].lower(),
        bool(config["valid_metric_bigger"]),
        int(config["epochs"]),
        max(results),
    )


def _tried(model: str, dataset: str, settings: Mapping[str, Any], space: Space, one: Parameter, value: Any) -> Any:
    """The configuration with a value of a searched setting, beside the first value of the others that it goes with.

    Args:
        settings: the fixed ones, and the first value of each that is searched.
        one: the setting; value: its value.

    Raises:
        UserError: it goes with none.
    """
    others = [{other.key: beside} for other in space if other is not one for beside in other.examples[1:]]
    refused: UserError | None = None
    for changed in ({}, *others):
        try:
            return _config(model, dataset, {**settings, **changed, one.key: value})
        except UserError as error:
            refused = refused or error
    raise UserError(f"{one.where}: {one.key}={value!r}: {refused}")


def _searched_files(model: str, dataset: str, settings: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """What the values of a searched ``pretrained`` or ``feature_path`` hold: another content is another search."""
    found: dict[str, Any] = {}
    for one in space:
        if one.key == "pretrained":
            found["searched pretrained"] = [value and file_hash(value) for value in one.examples]
        elif one.key == "feature_path":
            configs = [_tried(model, dataset, settings, space, one, value) for value in one.examples]
            found["searched feature_path"] = [data_mark(config) for config in configs]
    return found


def _config(model: str, dataset: str, settings: Mapping[str, Any]) -> Any:
    from recbole_mmm4rec.run.build import make_config

    with settings_file(settings) as file:
        return make_config(model, dataset, [file])


@contextmanager
def settings_file(settings: Mapping[str, Any]) -> Iterator[str]:
    """A config file for as long as it is read.

    RecBole reads every text of a dictionary once more as Python, and would change some; a file's it takes as they are.
    """
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        file = Path(folder) / "settings.yaml"
        file.write_text(yaml.safe_dump(dict(settings), allow_unicode=True, sort_keys=False), encoding="utf-8")
        yield str(file)


def claim(study: Study, out: Path) -> None:
    """Note in the folder which search it holds."""
    file = out / "study.json"
    if not file.is_file():
        with whole_file(file, durable=True) as whole:
            whole.write(json.dumps(study.parts(), indent=2, ensure_ascii=False).encode())


def check_same(study: Study, out: Path) -> None:
    """See that the folder holds no other search; before its trials are read, which may be of another space.

    Raises:
        UserError: it holds another one; says what differs.
    """
    file = out / "study.json"
    now = study.parts()
    if not file.is_file():
        if (out / "trials.jsonl").exists():
            raise UserError(f"--out {out}: trials without study.json, which says of what; name another folder")
        return
    try:
        before = read_line(file.read_bytes())
    except ValueError:
        raise UserError(f"{file} cannot be read; name another folder with --out") from None
    if before != now:
        raise UserError(f"--out {out} holds another search: {_difference(before, now)}; name another folder with --out")


def _difference(before: Any, now: Mapping[str, Any]) -> str:
    """The first thing that is not the same, in words."""
    before = before if isinstance(before, dict) else {}
    for name, value in now.items():
        held = before.get(name)
        if held == value:
            continue
        if not (isinstance(held, dict) and isinstance(value, dict)):
            return f"{name}: {held!r} there, {value!r} here"
        key = next(key for key in {**held, **value} if held.get(key, _ABSENT) != value.get(key, _ABSENT))
        return f"{name}, {key}: {held.get(key, _ABSENT)!r} there, {value.get(key, _ABSENT)!r} here"
    return "study.json has entries that this version does not know"


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


_ABSENT = _Absent()
