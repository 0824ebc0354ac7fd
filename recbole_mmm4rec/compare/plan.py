"""Which runs a comparison consists of, and which of them can start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from recbole.data import create_dataset
from recbole.utils import calculate_valid_score, init_seed

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.origins import origins_of
from recbole_mmm4rec.compare.checks import check_features, check_protocol, check_start, check_users
from recbole_mmm4rec.compare.config import ComparisonFile, Pretraining, Row
from recbole_mmm4rec.compare.data_files import BEGUN_WITH, check_stores, files_of, hash_of, state_of, stores_of
from recbole_mmm4rec.compare.job import Job, Shop
from recbole_mmm4rec.compare.records import Record, Records
from recbole_mmm4rec.compare.targets import targets_of
from recbole_mmm4rec.run.baselines import PROTOCOL, check_comparable, protocol
from recbole_mmm4rec.run.build import check_cut_offs, check_data_files, make_config, refused, same_devices
from recbole_mmm4rec.run.identity import NOT_RESOLVED, OF_THE_MACHINE, resolved
from recbole_mmm4rec.settings.kinds import shown
from recbole_mmm4rec.settings.registry import setting, settings_of
from recbole_mmm4rec.settings.results import results_of
from recbole_mmm4rec.settings.setting import RECBOLE

_SPLIT: dict[str, Any] = {"eval_args": None}
"""What a protocol sets of a data set, and a pre-training has not."""


class Plan:
    """The runs of a comparison on the data sets as they are.

    Args:
        comparison: the file.
        data_path: the folder above the data sets.

    Attributes:
        shops: data set to :class:`Shop`.

    Raises:
        UserError: a data set or a feature store is missing or damaged, a model's settings cannot be used on it, or a
            pre-training would see what is tested.
    """

    def __init__(self, comparison: ComparisonFile, data_path: Path) -> None:
        self.comparison, self.data_path = comparison, data_path
        self._marks: dict[str, dict[str, Any]] = {}
        self._tokens: dict[str, np.ndarray] = {}
        self._read: set[tuple[str, ...]] = set()
        self._origins = cache(partial(origins_of, data_path))
        with same_devices():
            self.shops = {dataset.name: self._shop(dataset.name) for dataset in comparison.datasets}
            self._firsts: dict[str, Any] = {}
            self._sources = {row.name: self._source(row) for row in comparison.rows if row.pretrained}
            for row, dataset in self.cells():
                self._check(row, dataset)

    def cells(self) -> Iterator[tuple[Row, str]]:
        """Every row with each of its data sets, data set by data set."""
        for dataset in self.comparison.datasets:
            yield from ((row, dataset.name) for row in self.comparison.rows if dataset.entry in row.datasets)

    def _given(self, dataset: str) -> dict[str, Any]:
        given = {"data_path": str(self.data_path), "metric_decimal_place": 15}
        listed = sorted(self.comparison.all_datasets, key=lambda found: found.name != dataset)  # the very one first
        meant = [found.settings for found in listed if dataset in (found.name, found.entry, found.folder)]
        own = meant[0] if meant else {}
        if dataset not in {found for one in listed for found in (one.name, one.entry)} and any(
            plain(other) | _SPLIT != plain(own) | _SPLIT for other in meant
        ):
            raise UserError(
                f"pre-training on {dataset!r}: several entries of `datasets` have that folder, with different "
                "settings; give one of them no `folder`, so that its settings are meant"
            )
        settings = plain({**given, **self.comparison.protocol, **own})
        if settings.get("feature_path"):
            settings["feature_path"] = str(Path(settings["feature_path"]).resolve())  # runs start in other folders
        return settings

    def _shop(self, name: str) -> Shop:
        given = self.comparison.dataset(name)
        folder = given.folder
        config = make_config("SASRec", folder, config_dict={**_shared_defaults(), **self._given(name)})
        check_protocol(config, name)
        check_data_files(config)
        init_seed(config["seed"], config["reproducibility"])
        with refused((ValueError, NotImplementedError)):
            dataset = create_dataset(config)
        check_cut_offs(config, dataset)
        self._tokens[name] = dataset.field2id_token[dataset.iid_field]
        rows = [row for row, of in self.cells() if of == name]
        targets = targets_of(dataset, {row.model for row in rows})
        check_users(dataset, name, {row.name: row.model for row in rows})
        counts = {"users": dataset.user_num - 1, "items": dataset.item_num - 1, "interactions": dataset.inter_num}
        shared = {key: value for key, value in protocol(config).items() if key not in OF_THE_MACHINE}
        mark = hash_of(files_of(config))
        offered = [f"{metric.lower()}@{k}" for metric in config["metrics"] for k in config["topk"]]
        for metric in self.comparison.compare:
            if metric not in offered:
                raise UserError(f"compare: {metric!r} is not among the metrics {', '.join(offered)} of {name!r}")
        return Shop(name, mark, counts, plain(shared), str(config["valid_metric"]).lower(), given.entry, targets)

    def _source(self, row: Row) -> dict[str, Any]:
        """What the result of a pre-training depends on; its settings and feature stores are checked."""
        assert row.pretrained is not None
        name, settings = row.pretrained.dataset, plain(row.pretrained.settings)
        targets = {dataset.folder for dataset in self.comparison.datasets if dataset.entry in row.datasets}
        for tested in sorted(targets):
            if self._origins(name) & self._origins(tested):
                raise UserError(
                    f"model {row.name!r}: pre-trained on {name!r}, which holds what is tested on {tested!r}; "
                    "pre-train on other data, or write `only:` with other data sets"
                )
        try:
            config = make_config(row.model, name, config_dict={**self._given(name), **settings, "stage": "pretrain"})
            check_data_files(config)
            check_stores(config, None)
            self._firsts[row.name] = config
            return _marks(config)
        except UserError as error:
            raise UserError(f"model {row.name!r}, pre-training on {name!r}: {error}") from error

    def _check(self, row: Row, dataset: str) -> None:
        """Let RecBole read the settings of a row before anything runs."""
        shared = plain({**self.shops[dataset].protocol, "data_path": str(self.data_path)})
        given = self.comparison.dataset(dataset)
        for trial in row.trials or ({},):
            settings = _found({**row.settings_on(given.entry), **trial})
            missing = [key for key in BEGUN_WITH if settings.get(key) and not Path(settings[key]).is_file()]
            if missing:
                raise UserError(f"model {row.name!r}: {missing[0]}: there is no file {settings[missing[0]]}")
            of_start = {}
            if row.pretrained and "pretrained_layers" in settings_of(row.model):  # it counts beside `pretrained` alone
                of_start = {key: settings.pop(key) for key in ("pretrained_layers",) if key in settings}
            try:
                config = make_config(row.model, given.folder, config_dict={**shared, **settings})
                check_comparable([row.model], config, "")
                if row.pretrained:
                    first = self._firsts[row.name]
                    check_start(first.final_config_dict, {**config.final_config_dict, **of_start})
                    check_features(first, config)
                self._check_stores(config, dataset)
                self._marks[_cell_key(row, dataset, trial)] = _marks(config)
            except UserError as error:
                raise UserError(f"model {row.name!r} on {dataset!r}: {error}") from error

    def _check_stores(self, config: Any, dataset: str) -> None:
        """Those of a data set are read once, however many rows have them."""
        needed = (dataset, *stores_of(config))
        if needed not in self._read:
            check_stores(config, self._tokens[dataset])
            self._read.add(needed)

    def pretraining(self, row: Row) -> Job | None:
        """The training that comes before a row's, or None."""
        first = row.pretrained
        if first is None:
            return None
        return Job(
            label=f"{row.name}: pre-training on {first.dataset}",
            kind="pretraining",
            dataset=first.dataset,
            model=row.model,
            settings=plain(first.settings),
            seed=first.seed,
            max_seconds=first.max_seconds,
            protocol=self._source_protocol(first),
            **self._sources[row.name],
        )

    def _source_protocol(self, first: Pretraining) -> dict[str, Any]:
        own = self._given(first.dataset)
        left_out = (*OF_THE_MACHINE, "eval_args")  # a pre-training splits by `pretrain_on`
        return {key: value for key, value in own.items() if key not in left_out}

    def run(self, row: Row, dataset: str, seed: int, trial: Mapping[str, Any]) -> Job:
        """One run of a row.

        Args:
            row, dataset, seed: which.
            trial: settings on top of the row's.
        """
        first, shop, given = self.pretraining(row), self.shops[dataset], self.comparison.dataset(dataset)
        return Job(
            label=", ".join([f"{row.name} on {dataset}", f"seed {seed}", *(f"{key} {trial[key]}" for key in trial)]),
            kind="run",
            dataset=given.folder,
            model=row.model,
            settings=_found({**row.settings_on(given.entry), **trial}),
            seed=seed,
            max_seconds=given.max_seconds,
            protocol=shop.protocol,
            **self._marks[_cell_key(row, dataset, trial)],
            pretrained=first.id if first else None,
            expected={key: shop.statistics[key] for key in ("users", "items")},
        )

    def trials(self, row: Row, dataset: str) -> list[Job]:
        """The runs among which validation chooses; empty where nothing is searched."""
        return [self.run(row, dataset, self.comparison.seeds[0], trial) for trial in row.trials]

    def chosen(
        self, row: Row, dataset: str, records: Records, again: Callable[[str], bool] = lambda identity: False
    ) -> Mapping[str, Any] | None:
        """The trial that validation found best, the first of equals; None while one of them is missing.

        A trial that failed cannot be chosen; ``again``: whether it is tried again and has not ended yet, by its
        identity.
        """
        if not row.trials:
            return {}
        jobs = self.trials(row, dataset)
        if any(records.tried(job) is None or (records.failed(job) and again(job.id)) for job in jobs):
            return None
        found = [(trial, records.done(job)) for trial, job in zip(row.trials, jobs, strict=True)]
        scored = [(trial, self._score(dataset, record)) for trial, record in found if record is not None]
        return max(scored, key=lambda pair: pair[1])[0] if scored else None

    def _score(self, dataset: str, record: Record) -> float:
        return float(calculate_valid_score(record["valid"], self.shops[dataset].valid_metric))

    def waiting(
        self,
        records: Records,
        lost: Callable[[str], bool] = lambda identity: False,
        again: Callable[[str], bool] = lambda identity: False,
    ) -> list[Job]:
        """The runs that are not done and wait for nothing, each once, failed ones among them.

        Args:
            records: those that are done.
            lost: whether the model of a pre-training that is done, by its identity, is gone: it is needed again
                where a run waits for it.
            again: as for :meth:`chosen`.
        """
        found: dict[str, Job] = {}
        for row, dataset in self.cells():
            first = self.pretraining(row)
            if first is not None and records.done(first) is None:
                found.setdefault(first.id, first)
                continue
            before = first if first is not None and lost(first.id) else None
            trial = self.chosen(row, dataset, records, again)
            jobs = self.trials(row, dataset)
            if trial is not None:
                jobs += [self.run(row, dataset, seed, trial) for seed in self.comparison.seeds]
            missing = [job for job in jobs if records.done(job) is None]
            if missing and before is not None:
                missing = [before]
            for job in missing:
                found.setdefault(job.id, job)
        return list(found.values())

    def progress(self, records: Records) -> tuple[int, int]:
        """How many runs are done, and how many there are, as far as that is known before trials have ended."""
        jobs: dict[str, Job] = {}
        later = 0
        for row, dataset in self.cells():
            first, trial = self.pretraining(row), self.chosen(row, dataset, records)
            listed = [*([first] if first else []), *self.trials(row, dataset)]
            if trial is None:
                later += len(self.comparison.seeds) - 1  # that of the first seed is the best trial itself
            else:
                listed += [self.run(row, dataset, seed, trial) for seed in self.comparison.seeds]
            jobs.update((job.id, job) for job in listed)
        return sum(records.done(job) is not None for job in jobs.values()), len(jobs) + later


def _cell_key(row: Row, dataset: str, trial: Mapping[str, Any]) -> str:
    return json.dumps([row.name, dataset, dict(trial)], sort_keys=True)


def _marks(config: Any) -> dict[str, Any]:
    """What the result of a run depends on beside what its job says."""
    settings, files = config.final_config_dict, files_of(config)
    state = state_of(files.values())  # before the hash: what changes meanwhile is noticed by the run
    return {
        "fingerprint": hash_of(files),
        "resolved": resolved(settings, NOT_RESOLVED),
        "results": results_of(config["model"], settings),
        "files": state,
    }


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of plain values, as JSON keeps them."""
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    except TypeError as error:
        raise UserError(f"{shown(dict(settings))}: {error}; write a date in quotation marks") from error
    return copied


def _found(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Plain settings whose files are found from anywhere: runs start in folders of their own."""
    made = plain(settings)
    return made | {key: str(Path(made[key]).resolve()) for key in BEGUN_WITH if made.get(key)}


def _shared_defaults() -> dict[str, Any]:
    """The protocol of MMM4Rec's defaults, for a model that needs no features to read a data set."""
    defaults = {name: setting(name).default for name in PROTOCOL}
    return {name: default for name, default in defaults.items() if default is not RECBOLE}
