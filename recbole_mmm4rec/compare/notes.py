"""What stands below a table of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_mmm4rec.compare.records import Record
from recbole_mmm4rec.compare.results import Cell, Table

TRANSFER = ("pretrained_layers", "frozen", "unfreeze_after", "learning_rates")
"""Settings of what becomes of a pre-trained start."""


def notes(table: Table) -> list[str]:
    """Remarks below a table: what its signs mean, what was searched and pre-trained, what went wrong."""
    found = [*_signs(table), *_seeds(table), *_other_targets(table)]
    places = {_place(record) for cell in table.cells for record in cell.records if "threads" in record}
    if len(places) > 1:
        found.append(f"Runs of this table differ in what they computed on: {'; '.join(sorted(places))}.")
    for cell in table.cells:
        found += _of_row(cell, table)
    return found


def _signs(table: Table) -> list[str]:
    """What †, §, ‡ and ¶ behind the names of rows mean."""
    found = []
    if any(cell.time_up for cell in table.cells):
        limits = sorted({record["max_seconds"] for cell in table.cells for record in cell.records if record["time_up"]})
        spelt = ", ".join(f"{limit:g}" for limit in limits)
        found.append(f"† Training was ended by the limit of {spelt} s: it might still have got better.")
    if any(cell.epochs_up for cell in table.cells):
        limits = sorted(
            {record["epochs"] for cell in table.cells for record in cell.records if record.get("epochs_up")}
        )
        spelt = ", ".join(f"{limit}" for limit in limits)
        found.append(f"§ Training was ended by the limit of {spelt} epochs: it might still have got better.")
    if any(cell.late_source for cell in table.cells):
        found.append(
            "‡ Pre-trained on a source whose last interactions may be later than the moment up to which this table's "
            "rows are trained: it may know of times that it is asked about."
        )
    if any(cell.no_history for cell in table.cells):
        found.append(
            "¶ No sequential model: it knows the interactions it was trained on, and none of those between them and "
            "the target, which the others read."
        )
    return found


def _seeds(table: Table) -> list[str]:
    """What becomes of rows that lack seeds, where others do not."""
    ran = [cell for cell in table.cells if cell.records]
    if all(cell.complete for cell in ran):
        return []
    contenders = table.contenders(table.shop.valid_metric)
    if not contenders:
        return ["No row has all its seeds, and they have different ones: none of them is marked as the best or tested."]
    if len(contenders) < len(ran):
        return ["Rows that lack seeds are not marked as the best or the second best."]
    return []


def _other_targets(table: Table) -> list[str]:
    """Runs on others than those that are counted above the table, and grouped by."""
    targets = table.shop.targets
    if targets is None or all(record["targets"] == targets.mark for cell in table.cells for record in cell.records):
        return []
    untold = ", so nothing is told by length of history and popularity of the target" if table.beyond else ""
    return [f"The runs of this table were tested on other users or targets than those that are counted above{untold}."]


def _of_row(cell: Cell, table: Table) -> list[str]:
    """What was searched for a row, how it was pre-trained, and what of it failed."""
    name, found = cell.row.name, []
    if cell.row.trials and cell.records:
        told = ", ".join(f"{key} {value}" for key, value in cell.trial.items())
        found.append(f"{name}: {told}; the best of {_counted(cell)} by validation, first seed.")
    if cell.pretraining is not None:
        first = cell.pretraining
        ended = f", ended by the limit of {first['max_seconds']:g} s" if first["time_up"] else ""
        ended = ended or (", the last of its `epochs`" if first.get("epochs_up") else "")
        found.append(
            f"{name}: pre-trained on {first['dataset']}, {first['epochs']} epochs, "
            f"{first['train_seconds']:.0f} s, seed {first['seed']}{ended}."
        )
    elif cell.row.pretrained is not None and cell.records:
        found.append(f"{name}: pre-trained on {cell.row.pretrained.dataset}, by a training of which nothing is left.")
    if cell.row.pretrained is not None:
        found += sooner(cell, table)
    return found + [f"Failed: {error}" for error in cell.errors]


def _counted(cell: Cell) -> str:
    """How many trials there were to choose from: ``3 trials``, or ``2 of 3 trials (1 failed)``."""
    count, failed = len(cell.row.trials), cell.failed_trials
    return f"{count - failed} of {count} trials ({failed} failed)" if failed else f"{count} trials"


def sooner(cell: Cell, table: Table) -> list[str]:
    """After how many epochs a pre-trained row was as good on validation as the same row from scratch ever was.

    The same row has the same model and settings, those of the transfer left aside; each has what was searched for it.
    """
    metric, told = table.shop.valid_metric, []
    alike = _from_scratch(cell, table)
    for other in table.cells:
        if other.row.pretrained is not None or _from_scratch(other, table) != alike:
            continue
        goals = dict(zip(other.seeds, other.records, strict=True))
        pairs = [(goals[seed], mine) for seed, mine in zip(cell.seeds, cell.records, strict=True) if seed in goals]
        if pairs:
            needed = [_first_as_good(mine, goal["valid"][metric], metric) for goal, mine in pairs]
            before = ", ".join(f"{goal['best_epoch']:.0f}" for goal, _ in pairs)
            came = "never" if set(needed) == {"never"} else f"after {', '.join(needed)} epochs"
            told.append(
                f"{cell.row.name}: as good on validation as {other.row.name} at its best {came}, "
                f"which took that {before}; seed by seed."
            )
    return told


def _from_scratch(cell: Cell, table: Table) -> tuple[str, Mapping[str, Any]]:
    """The model and what the row would be without a pre-trained start."""
    settings = cell.row.settings_on(table.shop.entry)
    return cell.row.model, {key: value for key, value in settings.items() if key not in TRANSFER}


def _first_as_good(record: Record, goal: float, metric: str) -> str:
    """The first epoch whose validation is at least ``goal``; "never" where none is."""
    found = [entry["epoch"] for entry in record["history"] if entry["result"][metric] >= goal]
    return f"{min(found)}" if found else "never"


def _place(record: Record) -> str:
    """Where a run was computed: under a limit of time, runs are comparable on the same place alone."""
    environment = record.get("environment", {})
    card = environment.get("graphics card", "none") if record["device"] != "cpu" else "no graphics card"
    return f"{record['threads']} threads of {environment.get('processor', 'a processor')}, {card}"
