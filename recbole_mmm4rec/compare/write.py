"""The folder of a comparison: tables, per-user metrics, plots, report."""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.compare.groups import Groups
from recbole_mmm4rec.compare.job import Job
from recbole_mmm4rec.compare.latex import latex
from recbole_mmm4rec.compare.orders import Order
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.plots import by_groups, convergence
from recbole_mmm4rec.compare.published_rows import Published
from recbole_mmm4rec.compare.records import Record, Records
from recbole_mmm4rec.compare.report import Section, page
from recbole_mmm4rec.compare.results import Table, chosen_jobs, read_ranks
from recbole_mmm4rec.compare.tables import markdown, orders_markdown
from recbole_mmm4rec.training.user_ranks import user_metric

Found = Sequence[tuple[Table, Sequence[Groups]]]
TIMES = ("train_seconds", "seconds_per_epoch", "peak_bytes", "gpu_peak_bytes", "date")
"""Columns that differ from run to run."""
_FACTS = ("best_epoch", "epochs", "time_up", "epochs_up", "parameters", "targets", "error")


def write_text(path: Path, text: str) -> None:
    """Write a whole file of text."""
    with whole_file(path) as file:
        file.write(text.encode())


def write_results(
    plan: Plan,
    records: Records,
    tables: Found,
    quoted: Mapping[str, list[Published]],
    changes: Sequence[Order],
    out: Path,
) -> None:
    """Write results.csv, users.parquet, table.md and table.tex.

    Args:
        plan, records: the comparison.
        tables: what came of it, each table with its groups of targets.
        quoted: data set to published rows.
        changes: of the order of models between protocols.
        out: the folder.
    """
    write_text(out / "results.csv", results_csv(plan, records))
    with whole_file(out / "users.parquet") as file:
        pq.write_table(users_table(plan, records, out), file)
    title = f"# {plan.comparison.title}\n\n"
    parts = [markdown(table, quoted[table.shop.name], groups) for table, groups in tables]
    write_text(out / "table.md", title + "\n".join([*parts, *([orders_markdown(changes)] if changes else [])]))
    write_text(out / "table.tex", "\n".join(latex(table, quoted[table.shop.name]) for table, _ in tables))


def write_report(
    plan: Plan,
    tables: Found,
    quoted: Mapping[str, list[Published]],
    changes: Sequence[Order],
    out: Path,
    command: str,
) -> None:
    """Write report.html and the plots.

    Args:
        plan, tables, quoted, changes, out: as for :func:`write_results`.
        command: what was typed.
    """
    plots = {table.shop.name: convergence(table, out / "plots")["svg"] for table, _ in tables}
    by_group = {
        table.shop.name: drawn for table, groups in tables if (drawn := by_groups(table, groups, out / "plots"))
    }
    named = {*(f"convergence-{name}" for name in plots), *(f"groups-{name}" for name in by_group)}
    for file in (out / "plots").glob("*.*"):  # of data sets and groups that this call does not show
        if file.stem not in named and file.stem.startswith(("convergence-", "groups-")):
            file.unlink()
    made = {"made": _spelt(datetime.datetime.now(datetime.timezone.utc)), "command": command}
    facts = {**made, **_machines([table for table, _ in tables])}
    sections = [
        Section(table, groups, quoted[name], plots.get(name), by_group.get(name))
        for table, groups in tables
        for name in [table.shop.name]
    ]
    write_text(out / "report.html", page(plan.comparison.title, sections, changes, facts, plan.comparison.text))


def _machines(tables: list[Table]) -> dict[str, str]:
    """Where the runs took place, and when; several values where they differ."""
    records = [record for table in tables for cell in table.cells for record in cell.records]
    found: dict[str, dict[str, None]] = {}
    for record in records:
        told = {**record["environment"], "device": record["device"], "threads of a run": str(record["threads"])}
        for name, value in told.items():
            found.setdefault(name, {})[value] = None
    facts = {name: "; ".join(values) for name, values in found.items()}
    dates = sorted(datetime.datetime.fromisoformat(record["date"]) for record in records)
    return {**facts, "runs": f"{len(records)}, {_spelt(dates[0])} to {_spelt(dates[-1])}"} if records else {}


def _spelt(date: datetime.datetime) -> str:
    """A date as it is read, in UTC."""
    return date.strftime("%d %B %Y, %H:%M UTC")


def runs_of(plan: Plan, records: Records) -> Iterator[tuple[str, str, str, Job]]:
    """Every run as (table, row, role, job): pre-trainings, each once; trials; those that stand in the table.

    A trial that was chosen is also the result of its seed.
    """
    before = set()
    for row, dataset in plan.cells():
        first = plan.pretraining(row)
        if first is not None and first.id not in before:
            before.add(first.id)
            yield first.dataset, row.name, "pretraining", first
        for job in plan.trials(row, dataset):
            yield dataset, row.name, "trial", job
        for job in chosen_jobs(plan, row, dataset, records):
            yield dataset, row.name, "result", job


def results_csv(plan: Plan, records: Records) -> str:
    """One line a run; a metric of validation has the prefix ``valid_``."""
    found = [(run, records.tried(run[-1])) for run in runs_of(plan, records)]
    lines = [_line(*run, record) for run, record in found if record is not None]
    columns = list(dict.fromkeys(key for line in lines for key in line if key not in TIMES))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *TIMES], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(name: str, row: str, role: str, job: Job, record: Record) -> dict[str, Any]:
    line: dict[str, Any] = {
        "dataset": name,
        "row": row,
        "role": role,
        "seed": job.seed,
        "status": record["status"],
        "model": job.model,
        "settings": json.dumps(job.settings, sort_keys=True),
        "id": job.id,
        "fingerprint": job.fingerprint,
    }
    line |= {**record.get("test", {}), **record.get("beyond", {})}
    line |= {f"valid_{metric}": value for metric, value in record.get("valid", {}).items()}
    line |= {key: record.get(key, "") for key in (*_FACTS, *TIMES)}
    if record["status"] == "done":
        line["seconds_per_epoch"] = record["train_seconds"] / max(1, record["epochs"])
    return line


def users_table(plan: Plan, records: Records, out: Path) -> pa.Table:
    """Every target of every run in the tables: data set, row, seed, user, rank (null below the cut) and metrics."""
    parts = []
    for name, row, role, job in runs_of(plan, records):
        record = records.done(job)
        if role != "result" or record is None:
            continue
        users = read_ranks(out, record)
        ranks = users["rank"].to_numpy()
        columns = {
            "dataset": pa.array(np.repeat(name, len(ranks))),
            "row": pa.array(np.repeat(row, len(ranks))),
            "seed": pa.array(np.repeat(job.seed, len(ranks))),
            "user": users["user"],
            "rank": pa.array(ranks, mask=ranks == 0),
            **{metric: pa.array(user_metric(ranks, metric)) for metric in record["test"]},
        }
        parts.append(pa.table(columns))
    return pa.concat_tables(parts, promote_options="default") if parts else pa.table({})
