"""A comparison of seconds on the pattern shop."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pattern_shop import NAME, TINY_MODEL

from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.compare.job import Job
from recbole_mmm4rec.compare.plan import Plan

OURS = {
    key: TINY_MODEL[key]
    for key in ("hidden_size", "inner_size", "d_state", "n_groups", "head_dim", "learning_rate", "train_batch_size")
}
SASREC = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 1, "train_batch_size": 64, "epochs": 1}
SHORT: dict[str, Any] = {
    "title": "Tiny",
    "datasets": [NAME],
    "seeds": [1, 2],
    "protocol": {"MAX_ITEM_LIST_LENGTH": 6, "stopping_step": 2, "topk": [1, 10]},
    "models": ["Pop", {"model": "SASRec", "settings": SASREC}],
}


def write_config(folder: Path, name: str = "tiny", **changes: Any) -> Path:
    """Write ``folder/NAME.yaml``, :data:`SHORT` with changes; None leaves a key out."""
    content = {key: value for key, value in {**SHORT, **changes}.items() if value is not None}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def tiny_plan(folder: Path, **changes: Any) -> Plan:
    """The plan of :func:`write_config` on the data sets in ``folder``."""
    return Plan(read_comparison(write_config(folder, **changes)), folder)


def finished(job: Job, **changes: Any) -> dict[str, Any]:
    """A record as a run that ended well leaves it."""
    metrics = {"hit@10": 0.5}
    result = {
        "status": "done",
        "parameters": 7,
        "best_epoch": 2,
        "epochs": 3,
        "train_seconds": 5.0,
        "time_up": False,
        "valid": metrics,
        "history": [{"epoch": 2, "seconds": 4.0, "result": metrics}],
        "test": metrics,
        "targets": "t",
        "peak_bytes": 2**20,
        "gpu_peak_bytes": None,
        "device": "cpu",
        "threads": 1,
        "environment": {"processor": "p"},
        "date": "2024-05-06T07:08:09+00:00",
    }
    return {"id": job.id, **asdict(job), **result, **changes}
