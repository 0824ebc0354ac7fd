"""What a comparison file says: data sets, models, seeds, protocol."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.file_settings import beyond_of, check_protocol, model_settings, protocols_of, settings_in
from recbole_mmm4rec.compare.located import Located, Place
from recbole_mmm4rec.scoring.beside import named
from recbole_mmm4rec.settings.homes import PRETRAINED
from recbole_mmm4rec.settings.keys import check_setting
from recbole_mmm4rec.settings.kinds import shown
from recbole_mmm4rec.settings.models import model_names

_NEEDED = ("datasets", "models", "seeds")
_LIMITS = ("max_seconds", "pretrain_max_seconds")
_KEYS = (
    "title",
    *_NEEDED,
    *_LIMITS,
    "protocol",
    "published",
    "compare",
    "permutations",
    "anchors",
    "protocols",
    "beyond",
)
_DATA_SET_KEYS = ("name", "folder", "settings", "max_seconds")
_MODEL_KEYS = ("name", "model", "settings", "datasets", "only", "pretrained", "search")
_PRETRAINED_KEYS = ("dataset", "settings", "seed", "max_seconds")


@dataclass(frozen=True)
class DataSet:
    """A data set of the comparison, under one protocol.

    Attributes:
        name: how its table is called: the entry, and behind it a protocol other than leave-one-out.
        entry: how the file calls it.
        folder: in the data path; several entries may have one, each with settings of its own.
        settings: protocol settings of this set, such as filters.
        max_seconds: seconds of training of each run on it; None for no limit.
    """

    name: str
    entry: str
    folder: str
    settings: Mapping[str, Any]
    max_seconds: float | None

    def under(self, protocol: str, settings: Mapping[str, Any]) -> DataSet:
        """The same data set under a protocol that has these settings."""
        name = f"{self.entry}-{protocol}" if settings else self.entry
        return replace(self, name=name, settings={**self.settings, **settings})


@dataclass(frozen=True)
class Pretraining:
    """A training on another data set that comes first.

    Attributes:
        dataset: where.
        settings: of the model.
        seed: of that training, the same for every seed of the row.
        max_seconds: as for :class:`DataSet`.
    """

    dataset: str
    settings: Mapping[str, Any]
    seed: int
    max_seconds: float | None


@dataclass(frozen=True)
class Row:
    """A model of the comparison: one row of its tables.

    Attributes:
        name: what the row is called.
        model: RecBole's name of the model.
        settings: its settings.
        by_dataset: entry of a data set to settings that come on top.
        datasets: entries of the data sets it runs on.
        pretrained: the training that comes first, or None.
        trials: settings that are tried, of which validation chooses; empty where nothing is searched.
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    by_dataset: Mapping[str, Mapping[str, Any]]
    datasets: tuple[str, ...]
    pretrained: Pretraining | None
    trials: tuple[Mapping[str, Any], ...]

    def settings_on(self, dataset: str) -> dict[str, Any]:
        """The settings on a data set, without those of trials."""
        return {**self.settings, **self.by_dataset.get(dataset, {})}


@dataclass(frozen=True)
class ComparisonFile:
    """A comparison file.

    Attributes:
        title: of tables and report.
        datasets, rows: what is compared, those that were chosen.
        all_datasets: those that were not chosen, too: their settings hold for what is pre-trained on them.
        all_rows: those that were not chosen, too: tests are corrected for all of them.
        seeds: of each row; the first one also chooses among trials.
        protocol: settings that all models share.
        published: names of published rows.
        compare: metrics that are tested for differences, lower case; empty for the metric of early stopping.
        permutations: sign flips and bootstrap samples of a test.
        beyond: what is told beyond accuracy, names of RecBole's metrics.
        text: the file.
    """

    title: str
    datasets: tuple[DataSet, ...]
    all_datasets: tuple[DataSet, ...]
    all_rows: tuple[Row, ...]
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    protocol: Mapping[str, Any]
    published: tuple[str, ...]
    compare: tuple[str, ...]
    permutations: int
    beyond: tuple[str, ...]
    text: str

    def dataset(self, name: str) -> DataSet:
        """The data set of a name."""
        return next(found for found in self.datasets if found.name == name)


def read_comparison(
    path: str | Path, only: Iterable[str] = (), on: Iterable[str] = (), first_seeds: int | None = None
) -> ComparisonFile:
    """Read a comparison file.

    Args:
        path: the YAML file.
        only: names of the rows to keep; all by default.
        on: names of the data sets to keep, as the file calls them; all by default.
        first_seeds: how many of the seeds to keep, in the order of the file; all by default.

    Raises:
        UserError: with file and line, for anything that the command does not understand.
    """
    file = Located(path)
    top = file.mapping((), file.content, _KEYS)
    for key in _NEEDED:
        if not top.get(key):
            raise UserError(f"{file.path}: {key!r} is missing: a comparison needs datasets, models and seeds")
    seeds = tuple(_seed(file, ("seeds", at), seed) for at, seed in enumerate(file.sequence(("seeds",), top["seeds"])))
    if len(set(seeds)) < len(seeds):
        file.fail(("seeds",), f"seeds: {list(seeds)} has one twice")
    limit = _limit(file, ("max_seconds",), top.get("max_seconds"))
    datasets = tuple(
        _data_set(file, ("datasets", at), value, limit)
        for at, value in enumerate(file.sequence(("datasets",), top["datasets"]))
    )
    names = [dataset.name for dataset in datasets]
    _check_twice(file, "datasets", names)
    before = _limit(file, ("pretrain_max_seconds",), top.get("pretrain_max_seconds", limit))
    parts = enumerate(file.sequence(("models",), top["models"]))
    rows = tuple(_row(file, ("models", at), value, names, seeds[0], before) for at, value in parts)
    _check_twice(file, "models", [row.name for row in rows])
    _check_budgets(file, rows, list(top["models"]))
    for name in only:
        if name not in [row.name for row in rows]:
            raise UserError(f"--only {name!r}: {file.path} has no model of that name; it has {_listed(rows)}")
    for name in on:
        if name not in names:
            raise UserError(f"--on {name!r}: {file.path} has no data set of that name; it has {', '.join(names)}")
    if first_seeds is not None and first_seeds > len(seeds):
        raise UserError(f"--seeds {first_seeds}: {file.path} has {len(seeds)}: {', '.join(map(str, seeds))}")
    protocol = settings_in(file, ("protocol",), top.get("protocol"), "MMM4Rec")
    protocols = protocols_of(file, ("protocols",), top.get("protocols"))
    if protocols and any("eval_args" in given for given in (protocol, *(dataset.settings for dataset in datasets))):
        file.fail(("protocols",), "protocols: they are values of eval_args; leave eval_args out elsewhere")
    if protocols:
        datasets = tuple(dataset.under(*given) for dataset in datasets for given in protocols.items())
        _check_twice(file, "datasets", [dataset.name for dataset in datasets], len(protocols))
    check_protocol(file, protocol, ("protocol",))
    kept = set(on) or set(names)
    chosen = tuple(row for row in rows if (not set(only) or row.name in set(only)) and kept & set(row.datasets))
    if not chosen:
        raise UserError(f"--only, --on: no model of {', '.join(only) or 'the file'} runs on {', '.join(on) or 'a set'}")
    kept &= {name for row in chosen for name in row.datasets}  # others have no row here, as what is pre-trained on
    compare = tuple(str(name).lower() for name in file.sequence(("compare",), top.get("compare")))
    _check_twice(file, "compare", list(compare))
    return ComparisonFile(
        title=str(top.get("title") or Path(path).stem),
        datasets=tuple(dataset for dataset in datasets if dataset.entry in kept),
        all_datasets=datasets,
        all_rows=rows,
        rows=chosen,
        seeds=seeds[:first_seeds],
        protocol=protocol,
        published=tuple(
            file.name(("published", at), name)
            for at, name in enumerate(file.sequence(("published",), top.get("published")))
        ),
        compare=compare,
        permutations=file.number(("permutations",), top.get("permutations", 10_000), 10_000),
        beyond=beyond_of(file, ("beyond",), top.get("beyond")),
        text=file.text,
    )


def _listed(rows: Iterable[Row]) -> str:
    return ", ".join(repr(row.name) for row in rows)


def _seed(file: Located, place: Place, value: Any) -> int:
    check_setting("seed", value, "MMM4Rec", file.where(place))
    return int(value)


def _limit(file: Located, place: Place, value: Any) -> float | None:
    return None if value is None else float(file.number(place, value, 1, whole=False))


def _check_twice(file: Located, key: str, names: list[str], protocols: int = 1) -> None:
    told = "stands there twice" if protocols == 1 else "would be the name of two tables; rename one of the entries"
    for at, name in enumerate(names):
        if name in names[:at]:
            file.fail((key, at // protocols), f"{key}: {name!r} {told}")


def _data_set(file: Located, place: Place, value: Any, limit: float | None) -> DataSet:
    part = {"name": value} if isinstance(value, str) else file.mapping(place, value, _DATA_SET_KEYS)
    name = file.name((*place, "name"), part.get("name"))
    settings = settings_in(file, (*place, "settings"), part.get("settings"), "MMM4Rec")
    check_protocol(file, settings, (*place, "settings"))
    folder = file.name((*place, "folder"), part.get("folder", name))
    return DataSet(name, name, folder, settings, _limit(file, (*place, "max_seconds"), part.get("max_seconds", limit)))


def _row(file: Located, place: Place, value: Any, datasets: list[str], seed: int, limit: float | None) -> Row:
    part = {"model": value} if isinstance(value, str) else file.mapping(place, value, _MODEL_KEYS)
    model = file.name((*place, "model"), part.get("model"), model_names())
    by_dataset = file.mapping((*place, "datasets"), part.get("datasets"), datasets)
    only = file.sequence((*place, "only"), part.get("only", datasets))
    if not only:
        file.fail((*place, "only"), "only: it names no data set; leave it out for all of them")
    settings = model_settings(file, (*place, "settings"), part.get("settings"), model)
    changed = {
        name: model_settings(file, (*place, "datasets", name), changes, model) for name, changes in by_dataset.items()
    }
    trials = _trials(file, (*place, "search"), part.get("search"), model)
    for name, changes in changed.items():
        for key in (key for key in changes if any(key in trial for trial in trials)):
            file.fail(
                (*place, "datasets", name, key), f"{key}: `search` sets it, too, and this would count for nothing"
            )
    return Row(
        name=file.name((*place, "name"), part.get("name", named(model, settings))),
        model=model,
        settings=settings,
        by_dataset=changed,
        datasets=tuple(file.name((*place, "only", at), name, datasets) for at, name in enumerate(only)),
        pretrained=_pretraining(file, (*place, "pretrained"), part.get("pretrained"), model, seed, limit),
        trials=trials,
    )


def _pretraining(
    file: Located, place: Place, value: Any, model: str, seed: int, limit: float | None
) -> Pretraining | None:
    if value is None:
        return None
    part = file.mapping(place, value, _PRETRAINED_KEYS)
    if model not in PRETRAINED:
        file.fail(place, f"pretrained: {model} cannot be pre-trained, only {' and '.join(PRETRAINED)} can")
    return Pretraining(
        dataset=file.name((*place, "dataset"), part.get("dataset")),
        settings=model_settings(file, (*place, "settings"), part.get("settings"), model),
        seed=_seed(file, (*place, "seed"), part.get("seed", seed)),
        max_seconds=_limit(file, (*place, "max_seconds"), part.get("max_seconds", limit)),
    )


def _trials(file: Located, place: Place, value: Any, model: str) -> tuple[Mapping[str, Any], ...]:
    """A list of settings as it is, or every combination of a mapping from keys to lists of values."""
    if value is None or value == "none":
        return ()
    trials = _all_trials(file, place, value, model)
    if not trials:
        file.fail(place, "search: there is nothing to try; write `search: none`, or leave it out")
    for at, trial in enumerate(trials):
        if trial in trials[:at]:
            file.fail(place, f"search: {shown(trial)} stands there twice, and would be one run")
    return trials


def _all_trials(file: Located, place: Place, value: Any, model: str) -> tuple[Mapping[str, Any], ...]:
    if isinstance(value, dict):
        grid = {key: file.sequence((*place, key), values) for key, values in file.mapping(place, value).items()}
        trials = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        for trial in trials:
            model_settings(file, place, trial, model)
        return tuple(trials)
    return tuple(
        model_settings(file, (*place, at), trial, model) for at, trial in enumerate(file.sequence(place, value))
    )


def _check_budgets(file: Located, rows: tuple[Row, ...], values: list[Any]) -> None:
    """Every model is searched with the same number of trials, or says that there is nothing to search."""
    counts = {len(row.trials) for row in rows if row.trials}
    if not counts:
        return
    wanted = max(counts)
    for at, row in enumerate(rows):
        nothing = isinstance(values[at], dict) and values[at].get("search") == "none"
        if len(row.trials) != wanted and not nothing:
            file.fail(
                ("models", at, "search"),
                f"{row.name!r} has {len(row.trials)} trials, others {wanted}: all models get the same number; "
                "write `search: none` for a model that has nothing to choose",
            )
