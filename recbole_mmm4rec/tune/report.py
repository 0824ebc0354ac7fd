"""What comes out of a search: trials.csv, best.yaml, plots, report.md."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recbole_mmm4rec.base.command_names import called
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.base.json_lines import check_fields, is_count, is_number, is_text, read_line, table_of
from recbole_mmm4rec.tune.importance import FEWEST, Importance, importance
from recbole_mmm4rec.tune.study import Study
from recbole_mmm4rec.tune.trials import Record, best, loss, scored

SHOWN = 10
"""Trials in the report's table, and failures in its list."""
_FACTS = ("best_epoch", "epochs", "seconds", "date", "error")


def write_results(study: Study, records: Sequence[Record], out: Path) -> Record | None:
    """Write everything but the trials themselves, which are on disk already.

    Args:
        study: the search.
        records: its trials, in their order.
        out: its folder.

    Returns:
        the best trial, None where none has a score.
    """
    judged, leader = scored(records), best(records)
    _write(out / "trials.csv", trials_csv(study, records))
    found = None
    if leader is not None:
        from recbole_mmm4rec.tune.plots import plot_importance, plot_parallel

        _write(out / "best.yaml", best_yaml(study, leader))
        plot_parallel(study.space, judged, study.valid_metric, out)
        found = importance(study.space, judged)
        if found is not None:
            plot_importance(found, study.valid_metric, out)
    _write(out / "report.md", report(study, records, found, read_test(out / "test.json"), out))
    return leader


def read_test(file: Path) -> Record | None:
    """What the test of the best trial has found; None where there is no such file, or none that can be read."""
    try:
        found = read_line(file.read_bytes())
        check_fields(found, {"trial": is_count, "test": table_of(is_number), "model_file": is_text})
    except (FileNotFoundError, ValueError):
        return None
    return found


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())


def trials_csv(study: Study, records: Sequence[Record]) -> str:
    """One line a trial: settings, metrics of the validation with the prefix ``valid_``, and how it went."""
    metrics = list(dict.fromkeys(metric for record in records for metric in record.get("valid", {})))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [one.key for one in study.space]
    writer.writerow(["trial", "status", *keys, *(f"valid_{metric}" for metric in metrics), *_FACTS])
    for record in records:
        values = [_cell(record["params"][key]) for key in keys]
        found = [record.get("valid", {}).get(metric, "") for metric in metrics]
        facts = [record.get(fact, "") for fact in _FACTS]
        writer.writerow([record["trial"], record["status"], *values, *found, *facts])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def best_yaml(study: Study, record: Record) -> str:
    """A config file with what was searched and what was fixed."""
    reached = f"{study.valid_metric} {record['score']:.4f} in validation, best epoch {record['best_epoch']}"
    head = f"# Trial {record['trial']}: {reached}.\n"
    text: str = yaml.safe_dump(study.settings(record["params"]), sort_keys=False, allow_unicode=True)
    return head + text


def report(
    study: Study, records: Sequence[Record], found: Importance | None, tested: dict[str, Any] | None, out: Path
) -> str:
    """The report, in Markdown."""
    counts = {status: sum(record["status"] == status for record in records) for status in ("done", "stopped", "failed")}
    lines = [
        f"# {study.model} on {study.dataset}: search for {study.valid_metric}",
        "",
        f"{len(records)} trials: {counts['done']} trained to the end, {counts['stopped']} ended early, "
        f"{counts['failed']} failed. Chosen by validation; no trial has seen the test set.",
        "",
    ]
    leader = best(records)
    if leader is None:
        return "\n".join([*lines, "No trial has a score yet.", "", *_failures(records)])
    lines += _ranking(study, records)
    lines += ["", "Use the best settings:", "", f"    {called('train')} --config_files {out / 'best.yaml'}", ""]
    if tested is not None:
        lines += _tested(tested)
    lines += ["![trials](parallel.png)", "", *_importance(found), *_failures(records)]
    return "\n".join(lines)


def _ranking(study: Study, records: Sequence[Record]) -> list[str]:
    keys = [one.key for one in study.space]
    head = ["trial", study.valid_metric, *keys, "best epoch", "seconds"]
    rows = [
        [
            record["trial"],
            f"{record['score']:.4f}",
            *(_shown(record["params"][key]) for key in keys),
            record["best_epoch"],
            f"{record['seconds']:.0f}",
        ]
        for record in sorted(scored(records), key=loss)[:SHOWN]
    ]
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _shown(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _tested(tested: dict[str, Any]) -> list[str]:
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in tested["test"].items())
    return [f"Test set, trial {tested['trial']} trained once more: {metrics}.", f"Model: `{tested['model_file']}`.", ""]


def _importance(found: Importance | None) -> list[str]:
    if found is None:
        return [f"Importance of the settings: from {FEWEST} trials with different scores on.", ""]
    order = sorted(found.share.items(), key=lambda pair: -pair[1])
    return [
        "## What matters",
        "",
        "Permutation importance of a random forest: the share of its R² that is lost when a setting's values are",
        "shuffled among the trials. On trials that its trees had not seen the forest explains "
        f"R² = {found.explained:.2f}; near 0 or below, the shares mean little.",
        "",
        _row(["setting", "share"]),
        _row(["---", "---"]),
        *(_row([key, f"{share:.2f}"]) for key, share in order),
        "",
        "![importance](importance.png)",
        "",
    ]


def _failures(records: Sequence[Record]) -> list[str]:
    failed = [record for record in records if record["status"] == "failed"]
    if not failed:
        return []
    rest = [f"- and {len(failed) - SHOWN} more, in trials.csv"] if len(failed) > SHOWN else []
    return ["## Failed", "", *(f"- trial {one['trial']}: {one['error']}" for one in failed[:SHOWN]), *rest, ""]
