"""One run in a process of its own: the job comes as a JSON line, the end of that input ends the process."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.compare.data_files import check_unchanged
from recbole_mmm4rec.compare.environment import environment, peak_resident, resident
from recbole_mmm4rec.compare.targets import mark_of
from recbole_mmm4rec.run.build import build, make_config, one_line
from recbole_mmm4rec.training.beyond import beyond_accuracy, training_popularity
from recbole_mmm4rec.training.history import best_epoch
from recbole_mmm4rec.training.keeping import COUNTED
from recbole_mmm4rec.training.observers import EndTraining, Observer, Training
from recbole_mmm4rec.training.user_ranks import RankWatch


def main() -> None:
    """Run the job and write ``result.json`` where it says."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    sys.argv = sys.argv[:1]  # RecBole would read it as settings
    torch.set_num_threads(job["threads"])
    try:
        result = {"status": "done", **run(job)}
    except Exception as error:  # whatever a model does, the other runs go on
        traceback.print_exc()
        told = one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"
        result = {"status": "failed", "error": told}
    with whole_file("result.json") as file:
        file.write(json.dumps(result).encode())


def _end_with_the_parent() -> None:
    """A parent that was killed must not leave runs behind: its end of the pipe closes with it."""
    sys.stdin.buffer.read()
    os._exit(1)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train and test.

    Args:
        job: what :class:`~recbole_mmm4rec.compare.plan.Job` says, with the places of files.

    Returns:
        the result's part of a record.
    """
    given = {"seed": job["seed"], "data_path": job["data_path"], "show_progress": False}
    # a folder that outlives the process: one that was killed goes on where it was
    given |= {"checkpoint_dir": job["unfinished"], "resume": True}
    if job["kind"] == "pretraining":
        given["stage"] = "pretrain"
    if job["pretrained_file"]:
        given["pretrained"] = job["pretrained_file"]
    if (devices := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        given["gpu_id"] = devices  # RecBole would choose the first one, whatever is visible
    config = make_config(job["model"], job["dataset"], config_dict={**job["protocol"], **job["settings"], **given})
    before = resident()
    check_unchanged(config, job["files"], job["fingerprint"])
    run = build(config, count_flops=False)
    check_unchanged(config, job["files"], job["fingerprint"])  # nothing is trained on what came while it was read
    _check_data(run.dataset, job["expected"])
    # A half-trained state is found by it: what the model does not read, and times of change, make no other run of it.
    # Kept data sets and loaders are read and written by now, under the files' sizes and times.
    config["data_fingerprint"] = job["fingerprint"]
    if config["device"].type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    clock = Clock(job["max_seconds"])
    run.trainer.training.add(clock)
    run.trainer.fit(run.train, run.valid, saved=True, show_progress=False)
    check_unchanged(config, job["files"], job["fingerprint"])
    result = {
        "parameters": sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad),
        "best_epoch": best_epoch(run.trainer),
        "epochs": run.trainer.training.epoch,
        "train_seconds": run.trainer.training.seconds,
        "time_up": clock.time_up,
        "epochs_up": not clock.time_up and _epochs_up(run),
        "valid": _floats(run.trainer.best_valid_result),
        "history": [
            {"epoch": entry.epoch, "seconds": entry.seconds, "result": _floats(entry.result)}
            for entry in run.trainer.valid_history
        ],
    }
    if job["kind"] == "run":
        result |= _test(run, Path(job["users_file"]))
    else:
        with whole_file(job["checkpoint_file"], durable=True) as file, open(run.trainer.saved_model_file, "rb") as best:
            shutil.copyfileobj(best, file)  # a kill before the record is written finds everything as it was
    gpu = torch.cuda.max_memory_allocated() if config["device"].type == "cuda" else None
    return {
        **result,
        "peak_bytes": max(0, peak_resident() - before),
        "gpu_peak_bytes": gpu,
        "device": str(config["device"]),
        "threads": torch.get_num_threads(),
        "environment": environment(),
    }


def _epochs_up(run: Any) -> bool:
    """Whether the last allowed epoch ended a training that early stopping would have let go on."""
    trainer = run.trainer
    if run.config["MODEL_TYPE"].name in COUNTED or not trainer.epochs:
        return False
    return bool(trainer.training.epoch >= trainer.epochs and trainer.cur_step <= trainer.stopping_step)


def _floats(result: dict[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (result or {}).items()}


def _check_data(dataset: Any, expected: dict[str, int]) -> None:
    """The protocol's first promise: every model sees the same users and candidates."""
    found = {"users": dataset.user_num - 1, "items": dataset.item_num - 1}
    for key, count in expected.items():
        if found[key] != count:
            raise UserError(f"this model sees {found[key]:,} {key}, the comparison {count:,}: not the same protocol")


def _test(run: Any, users_file: Path) -> dict[str, Any]:
    """The best model's test, with the ranks of each user's targets, in the order of time, in a file."""
    watch = RankWatch(run.config["USER_ID_FIELD"])
    run.trainer.training.add(watch)
    vars(run.trainer.eval_collector.register)["rec.items"] = True  # the lists themselves, for what they are like
    metrics = _floats(run.trainer.evaluate(run.test, load_best_model=True))
    users = run.dataset.id2token(run.dataset.uid_field, watch.users).astype(str)
    targets = run.dataset.id2token(run.dataset.iid_field, watch.targets).astype(str)
    order = np.argsort(users, kind="stable")
    table = pa.table({"user": pa.array(users[order]), "rank": pa.array(watch.ranks[order].astype(np.int32))})
    with whole_file(users_file, durable=True) as file:
        pq.write_table(table, file)
    told: dict[str, Any] = {"test": metrics, "targets": mark_of(users[order], targets[order])}
    if watch.items is not None:
        popularity = training_popularity(run.train.dataset, (run.valid._dataset, run.test._dataset))
        config = run.config
        told["beyond"] = beyond_accuracy(watch.items, popularity, config["topk"], config["tail_ratio"])
    return told


class Clock(Observer):
    """Ends a training at the end of an epoch, once its seconds are used up.

    Args:
        max_seconds: of training, without validation, those before a kill among them as far as they were noted; None
            for no limit.

    Attributes:
        time_up: whether the limit ended the training.
    """

    place = "time limit"

    def __init__(self, max_seconds: float | None) -> None:
        self.max_seconds = max_seconds
        self.time_up = False

    def epoch_begins(self, training: Training, epoch: int) -> None:
        """Look at the clock.

        Raises:
            EndTraining: time is up.
        """
        trainer = training.trainer
        validates = bool(training.valid_data) and trainer.eval_step > 0
        # the epoch before is validated and kept by now; with `eval_step` above 1 at first perhaps none
        kept = not validates or trainer.valid_history
        if kept and self.max_seconds is not None and training.seconds >= self.max_seconds:
            self.time_up = True
            raise EndTraining


if __name__ == "__main__":
    main()
