"""What the finished runs of a comparison say, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from recbole.utils import ModelType, get_model

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.parquet_files import arrow_mistakes
from recbole_mmm4rec.compare.config import Row
from recbole_mmm4rec.compare.file_settings import LEAVE_ONE_OUT
from recbole_mmm4rec.compare.job import Job, Shop
from recbole_mmm4rec.compare.moments import is_late, last_moment
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.records import Record, Records
from recbole_mmm4rec.compare.runs import users_file
from recbole_mmm4rec.compare.statistics import holm, sign_flip_test
from recbole_mmm4rec.scoring.intervals import bootstrap_interval
from recbole_mmm4rec.training.user_ranks import mean_by_user, user_metric

_RANKS = pa.schema([("user", pa.string()), ("rank", pa.int32())])


@dataclass(frozen=True)
class Cell:
    """A row of a table: one model on one data set.

    Attributes:
        row: the model.
        seeds: of the runs that ended well.
        wanted: how many seeds there should be.
        records: of these runs, in the order of the seeds.
        errors: what the others complained of.
        trial: the settings that validation chose; empty where nothing was searched.
        pretraining: the record of the training that came first, or None.
        failed_trials: how many of the row's trials failed, so that validation chose among the others.
        late_source: whether its pre-training may have seen later moments than the split lets a row train on.
        no_history: whether it is asked after what it does not see, as other rows do: no sequential model, beside some.
    """

    row: Row
    seeds: tuple[int, ...]
    wanted: int
    records: tuple[Record, ...]
    errors: tuple[str, ...]
    trial: Mapping[str, Any]
    pretraining: Record | None
    failed_trials: int = 0
    late_source: bool = False
    no_history: bool = False

    @property
    def complete(self) -> bool:
        """Whether it has all its seeds."""
        return len(self.records) == self.wanted

    @property
    def marks(self) -> str:
        """What a reader must know wherever the row stands, behind its name or place; empty where there is nothing."""
        missing = "" if self.complete else f" ({len(self.records)} of {self.wanted} seeds)"
        signs = {"†": self.time_up, "§": self.epochs_up, "‡": self.late_source, "¶": self.no_history}
        return missing + "".join(f" {sign}" for sign, holds in signs.items() if holds)

    @property
    def shown(self) -> str:
        """Its name with its marks."""
        return self.row.name + self.marks

    def values(self, metric: str) -> np.ndarray:
        """(seeds,) float64: the test metric of each run."""
        return np.array([record["test"][metric] for record in self.records])

    def mean(self, metric: str) -> float:
        """The mean over seeds; NaN without any run."""
        return float(self.values(metric).mean()) if self.records else float("nan")

    def deviation(self, metric: str) -> float | None:
        """The sample standard deviation over seeds; None of a single one."""
        return float(self.values(metric).std(ddof=1)) if len(self.records) > 1 else None

    def figures(self, of: str) -> list[float]:
        """A number of each run, for example ``best_epoch``."""
        return [float(record[of]) for record in self.records]

    @property
    def time_up(self) -> bool:
        """Whether the time limit ended one of the runs."""
        return any(record["time_up"] for record in self.records)

    @property
    def epochs_up(self) -> bool:
        """Whether the limit of epochs ended one of the runs; False of runs that did not note it."""
        return any(record.get("epochs_up", False) for record in self.records)


@dataclass(frozen=True)
class Comparison:
    """The best model against another.

    Attributes:
        metric: of which.
        best, other: names of the rows.
        difference: mean over users, of the metric averaged over the seeds that both rows have.
        low, high: its bootstrap interval, 95 %.
        p: of the sign-flip test; adjusted: Holm's, over the family.
        family: how many rows it is corrected for: all others that the file has on this data set.
    """

    metric: str
    best: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    family: int


@dataclass(frozen=True)
class Table:
    """All models on one data set.

    Attributes:
        shop: the data set.
        cells: in the order of the file.
        comparisons: metric by metric.
        beyond: what is told beyond accuracy, such as ``giniindex@10``, cut by cut.
    """

    shop: Shop
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    beyond: tuple[str, ...] = ()

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in RecBole's order."""
        config = self.shop.protocol
        return [f"{name.lower()}@{k}" for name in config["metrics"] for k in config["topk"]]

    @property
    def shown(self) -> dict[str, str]:
        """The name of each row to how it is shown."""
        return {cell.row.name: cell.shown for cell in self.cells}

    def ranked(self, metric: str) -> list[Cell]:
        """The rows that have runs, best first."""
        return sorted((cell for cell in self.cells if cell.records), key=lambda cell: -cell.mean(metric))

    def contenders(self, metric: str) -> list[Cell]:
        """The rows that may be the best one, best first: those that have all their seeds.

        Where none has, all that have runs, if these are of the same seeds; else nobody.
        """
        ran = self.ranked(metric)
        complete = [cell for cell in ran if cell.complete]
        return complete or (ran if len({cell.seeds for cell in ran}) == 1 else [])


def collect(plan: Plan, records: Records, out: Path) -> list[Table]:
    """The tables of a comparison, of those runs alone that its file asks for.

    Args:
        plan: which runs belong to it, on the data as they are now.
        records: finished runs, others among them.
        out: the comparison's folder, with the ranks of users.

    Raises:
        UserError: runs of one table were tested on different targets.
    """
    tables = []
    last = cache(last_moment)
    for name, shop in plan.shops.items():
        cells = tuple(_cell(plan, row, dataset, records, last) for row, dataset in plan.cells() if dataset == name)
        cells = _marked(cells, shop)
        _check_same_targets(name, cells)
        beyond = tuple(f"{metric.lower()}@{k}" for metric in plan.comparison.beyond for k in shop.protocol["topk"])
        tables.append(Table(shop, cells, tuple(_compare_all(plan, shop, cells, out)), beyond))
    return tables


def _marked(cells: tuple[Cell, ...], shop: Shop) -> tuple[Cell, ...]:
    """The same, where some know less of the history before a target than the others do."""
    sequential = [get_model(cell.row.model).type == ModelType.SEQUENTIAL for cell in cells]
    if not any(sequential) or shop.split[0] not in (LEAVE_ONE_OUT, "global_time"):
        return cells
    return tuple(replace(cell, no_history=not has) for cell, has in zip(cells, sequential, strict=True))


def chosen_jobs(plan: Plan, row: Row, dataset: str, records: Records) -> list[Job]:
    """The runs whose results stand in the table; none while trials are missing."""
    trial = plan.chosen(row, dataset, records)
    return [] if trial is None else [plan.run(row, dataset, seed, trial) for seed in plan.comparison.seeds]


def _cell(plan: Plan, row: Row, dataset: str, records: Records, last: Callable[..., float]) -> Cell:
    jobs = chosen_jobs(plan, row, dataset, records)
    done = [(job.seed, record) for job in jobs if (record := records.done(job)) is not None]
    first = plan.pretraining(row)
    trials = plan.trials(row, dataset)
    every = [*jobs, *trials, *([first] if first else [])]
    errors = {f"{job.label}: {record['error']}" for job in every if (record := records.failed(job)) is not None}
    return Cell(
        row=row,
        seeds=tuple(seed for seed, _ in done),
        wanted=len(plan.comparison.seeds),
        records=tuple(record for _, record in done),
        errors=tuple(sorted(errors)),
        trial=plan.chosen(row, dataset, records) or {},
        pretraining=records.done(first) if first else None,
        failed_trials=sum(records.failed(job) is not None for job in trials),
        late_source=first is not None and is_late(first, plan.shops[dataset], plan.data_path, last),
    )


def _check_same_targets(dataset: str, cells: Sequence[Cell]) -> None:
    found = {record["targets"]: cell.row.name for cell in cells for record in cell.records}
    if len(found) > 1:
        names = ", ".join(repr(name) for name in found.values())
        raise UserError(f"{dataset!r}: {names} were tested on different targets and cannot stand in one table")


def read_ranks(out: Path, record: Record) -> pa.Table:
    """Users (by token) and ranks of a run: ``user`` text, ``rank`` int32.

    Raises:
        UserError: the file is gone, or damaged.
    """
    file = users_file(out, record["id"], record["max_seconds"])
    if not file.is_file():
        raise UserError(f"{file}: missing, though runs.jsonl has its run; without --no-run it is made again")
    way_out = "damaged; remove it, and the same command makes its run again"
    with arrow_mistakes(file, way_out):
        found = pq.ParquetFile(file).read()
        found.validate(full=True)
        if not found.schema.equals(_RANKS) or found["user"].null_count or found["rank"].null_count:
            raise ValueError("other columns than user and rank")
    return found


def user_values(out: Path, cell: Cell, metric: str, seeds: tuple[int, ...] | None = None) -> np.ndarray:
    """(U,) float64: the metric of each user, averaged over the user's targets and over seeds, in the order of user
    tokens; ``seeds``: as for :func:`target_values`."""
    found = read_ranks(out, cell.records[0])["user"].to_numpy(zero_copy_only=False).astype(str)
    return mean_by_user(target_values(out, cell, metric, seeds), found)


def target_values(out: Path, cell: Cell, metric: str, seeds: tuple[int, ...] | None = None) -> np.ndarray:
    """(T,) float64: the metric of each target, averaged over seeds, in the order of users' files.

    Args:
        out: the comparison's folder.
        cell: the row; metric: which.
        seeds: some of the row's; all of them by default.
    """
    chosen = [record for seed, record in zip(cell.seeds, cell.records, strict=True) if seeds is None or seed in seeds]
    values = [user_metric(read_ranks(out, record)["rank"].to_numpy(), metric) for record in chosen]
    mean: np.ndarray = np.mean(values, axis=0)
    return mean


def _compare_all(plan: Plan, shop: Shop, cells: tuple[Cell, ...], out: Path) -> list[Comparison]:
    table = Table(shop, cells, ())
    entry = plan.comparison.dataset(shop.name).entry
    family = sum(entry in row.datasets for row in plan.comparison.all_rows) - 1
    found = []
    for metric in plan.comparison.compare or (shop.valid_metric,):
        found += _compare(table, metric, plan.comparison.permutations, family, out)
    return found


def _compare(table: Table, metric: str, permutations: int, family: int, out: Path) -> list[Comparison]:
    """The best row against every other one, best first, each on the seeds that both have."""
    best = next(iter(table.contenders(metric)), None)
    if best is None:
        return []
    mine = cache(lambda seeds: user_values(out, best, metric, seeds))
    others, differences = [], []
    for other in table.ranked(metric):
        shared = tuple(seed for seed in best.seeds if seed in other.seeds)
        if shared and other is not best:
            others.append(other.row.name)
            differences.append(mine(shared) - user_values(out, other, metric, shared))
    p_values = [sign_flip_test(difference, permutations) for difference in differences]
    intervals = [bootstrap_interval(difference, permutations) for difference in differences]
    return [
        Comparison(metric, best.row.name, other, float(difference.mean()), *interval, p, adjusted, family)
        for other, difference, interval, p, adjusted in zip(
            others, differences, intervals, p_values, holm(p_values, family), strict=True
        )
    ]
