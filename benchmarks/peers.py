"""MMM4Rec beside RecBole's SASRec and GRU4Rec and RecTools' UniSRec: same data, same validation, same machine."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import figures
from benchmarks.machine import ROOT, version
from benchmarks.race import PATIENCE, K, Race
from benchmarks.suite import Options, say
from recbole_mmm4rec.base.errors import UserError

TITLE = "Peers"
ABOUT = f"""\
`python -m benchmarks --only peers --data-path FOLDER`: Amazon Scientific (8,442 users, 4,385 items, texts alone;
without it MovieLens 100K, both prepared as in [results](results.md)), leave-one-out. Each model trains in a
process of its own until {PATIENCE} epochs bring no better validation Hit@{K} or its seconds are used up ("≥": it
might still have got better). Validation is the same for all: the last item but one of every user against all
items, no history masked, ranks counted by one function (`benchmarks/race.py`). L = 20. MMM4Rec, SASRec and
GRU4Rec learn from batches of 1,024 prefixes with their last item as target, an epoch being every prefix once;
UniSRec from batches of 128 users, at every position of a history at once. MMM4Rec and UniSRec read the same 384-d
text vectors, the other two ids alone. Everything else is as each package sets it: the table tells what a user
gets without tuning, not what each model can do. Seconds are of training; peak memory is that of the whole
process, imports included; scoring is encoding, scores of all items, ranks."""
SETTINGS: dict[str, Any] = {
    "MAX_ITEM_LIST_LENGTH": 20,
    "train_batch_size": 1024,
    "eval_batch_size": 1024,
    "epochs": 10_000,
    "seed": 2020,
    "show_progress": False,
    "use_gpu": False,
}
LEAVE_ONE_OUT = {
    "split": {"LS": "valid_and_test"},
    "order": "TO",
    "group_by": "user",
    "mode": {"valid": "full", "test": "full"},
}
OF_RECBOLE = ("MMM4Rec", "SASRec", "GRU4Rec")
UNISREC = "UniSRec (RecTools)"


def cells(options: Options) -> list[str]:
    """One measurement a model."""
    return [*OF_RECBOLE, UNISREC]


def measure(options: Options, cell: str) -> dict[str, Any]:
    """Train one model.

    Args:
        options: ``data_path``, ``max_seconds``, ``rectools_python`` and ``quick`` (10 seconds) count.
        cell: the model.

    Returns:
        see :meth:`Race.result`; ``{"absent": why}`` where RecTools is not installed.

    Raises:
        UserError: no prepared data set.
    """
    folder = dataset_folder(options)
    seconds = 10.0 if options.quick else options.max_seconds
    with tempfile.TemporaryDirectory() as scratch:
        if cell == UNISREC:
            found = run_rectools(folder, Path(options.rectools_python), Path(scratch), seconds)
        else:
            os.chdir(scratch)  # RecBole's trainers leave logs where they stand
            found = run_recbole_model(cell, folder, seconds)
    return {**found, "dataset": folder.name}


def dataset_folder(options: Options) -> Path:
    """The data set "scientific", or "ml-100k" where that is not there.

    Raises:
        UserError: neither is there with text vectors.
    """
    for name in ("scientific", "ml-100k"):
        folder = Path(options.data_path) / name
        if (folder / f"{name}.inter").is_file() and (folder / "features" / "text").is_dir():
            return folder
    raise UserError(
        f"--data-path {options.data_path}: neither 'scientific' nor 'ml-100k' lies there with text vectors; "
        "`mmm4rec prep recbole ml-100k` and `mmm4rec prep embed ml-100k` make the latter"
    )


def run_recbole_model(name: str, folder: Path, max_seconds: float) -> dict[str, Any]:
    """Train a model of RecBole's, or ours, through the plug-in."""
    from recbole_mmm4rec.run import build

    logging.disable(logging.WARNING)
    settings = {**SETTINGS, "data_path": str(folder.parent), "checkpoint_dir": ".", "eval_args": LEAVE_ONE_OUT}
    run = build.build(build.make_config(name, folder.name, config_dict=settings), count_flops=False)
    race = Race(max_seconds, name)
    goes_on = True
    while goes_on:
        begin = time.perf_counter()
        run.trainer._train_epoch(run.train, len(race.epochs))
        goes_on = race.epoch(time.perf_counter() - begin, lambda: recbole_batches(run.model, run.valid))
    return race.result(sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad))


@torch.no_grad()
def recbole_batches(model: Any, valid: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores and targets of all validation users."""
    model.eval()
    for interaction, _, rows, targets in valid:
        assert torch.equal(rows, torch.arange(len(interaction))), "one target a user"
        scores = model.full_sort_predict(interaction).view(len(interaction), -1)
        scores[:, 0] = float("-inf")
        yield scores, targets


def run_rectools(folder: Path, python: Path, scratch: Path, max_seconds: float) -> dict[str, Any]:
    """Train RecTools' UniSRecModel with another Python."""
    probe = "import rectools; print(rectools.__version__)"
    try:
        asked = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        say(f"{python} has no RecTools; this peer is left out")
        wanted = f"'rectools[torch]==0.19.0' torch=={version('torch')}"
        make = f"python -m venv build/rectools && build/rectools/bin/pip install {wanted}"
        return {"absent": f"RecTools was not installed (`{make}`, or --rectools-python)"}
    given, out = scratch / "given.npz", scratch / "out.json"
    np.savez(given, **arrays(folder, SETTINGS["MAX_ITEM_LIST_LENGTH"]))
    job = [str(part) for part in (python, "-m", "benchmarks.peer_rectools", given, out, max_seconds)]
    subprocess.run(job, check=True, cwd=scratch, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    return {**json.loads(out.read_text(encoding="utf-8")), "version": asked.stdout.strip()}


def arrays(folder: Path, length: int) -> dict[str, np.ndarray]:
    """Training interactions, validation histories and features, without RecBole.

    Args:
        folder: a prepared data set.
        length: L, the longest history.

    Returns:
        what :mod:`benchmarks.peer_rectools` reads.
    """
    import pandas as pd

    from recbole_mmm4rec.features.store import FeatureStore, store_path

    table = pd.read_csv(folder / f"{folder.name}.inter", sep="\t", dtype={"user_id:token": str, "item_id:token": str})
    table.columns = [name.partition(":")[0] for name in table.columns]
    table = table.sort_values(["timestamp"], kind="stable").reset_index(drop=True)
    users, _ = pd.factorize(table["user_id"])
    items, tokens = pd.factorize(table["item_id"])
    after = table.groupby("user_id").cumcount(ascending=False).to_numpy()  # 0 the test item, 1 the validation item
    kept = after >= 2
    vectors, _ = FeatureStore.open(store_path(folder, "text")).align([str(token) for token in tokens])
    features = np.zeros((len(tokens) + 1, vectors.shape[1]), np.float32)
    features[1:] = vectors
    history = pd.Series(items[kept] + 1).groupby(users[kept]).agg(list)
    targets = pd.Series(items[after == 1] + 1, index=users[after == 1]).reindex(history.index)
    padded = np.zeros((len(history), length), np.int64)
    for row, part in enumerate(history):
        part = part[-length:]
        padded[row, length - len(part) :] = part
    return {
        "users": users[kept].astype(np.int64) + 1,
        "items": items[kept].astype(np.int64) + 1,
        "times": np.flatnonzero(kept).astype(np.int64),  # the order in time
        "features": features,
        "histories": padded,
        "targets": targets.to_numpy(np.int64),
    }


def report(found: Mapping[str, dict[str, Any]]) -> str:
    """The Markdown table, and what must be said about it."""
    rows, notes = [], []
    for name, result in found.items():
        if "absent" in result:
            notes.append(f"{name} did not run: {result['absent']}.")
            continue
        rows.append(row(name, result))
        if result["note"]:
            notes.append(f"{name}: {result['note']}.")
        if "version" in result:
            notes.append(f"RecTools {result['version']}.")
    ran = [result for result in found.values() if "absent" not in result]
    sets = sorted({f"{result['dataset']}, at most {result['max_seconds']:.0f} s of training each" for result in ran})
    head = [
        "",
        "parameters",
        "s an epoch",
        "epochs",
        f"best validation Hit@{K}",
        "s to it",
        "peak GiB",
        "users scored a second",
    ]
    return "\n\n".join([f"Data set: {'; '.join(sets) or 'none'}.", figures.table(head, rows), *notes])


def row(name: str, result: dict[str, Any]) -> list[str]:
    """One model's line; "≥" where it was still getting better when its time was up."""
    epochs = result["epochs"]
    hit = [entry["hit"] for entry in epochs]
    best = hit.index(max(hit))
    stopped = len(epochs) - 1 - best >= PATIENCE
    seconds = _range([entry["seconds"] for entry in epochs])
    speed = _range([entry["users"] / entry["scoring"] for entry in epochs], "{:,.0f}")
    to_best = sum(entry["seconds"] for entry in epochs[: best + 1])
    mark = "" if stopped else "≥ "
    return [
        name,
        f"{result['parameters'] / 1e6:.2f} M",
        seconds,
        str(len(epochs)),
        f"{mark}{hit[best]:.4f} (epoch {best + 1})".replace("0.", "."),
        f"{mark}{to_best:.0f}",
        f"{result['peak'] / 2**30:.2f}",
        speed,
    ]


def _range(values: Iterable[float], form: str = "{:.1f}") -> str:
    """Median (smallest–largest)."""
    kept = list(values)
    low, middle, high = (form.format(value) for value in (min(kept), float(np.median(kept)), max(kept)))
    return f"{middle} ({low}–{high})"
