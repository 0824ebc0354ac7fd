"""Runs what is missing, each run in a process of its own, some at a time."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from math import inf
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from recbole_mmm4rec.base.machine import cores
from recbole_mmm4rec.base.new_python import running
from recbole_mmm4rec.compare.job import Job
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.records import Record, Records, readable

LOOK_EVERY = 0.1
"""Seconds between two looks at the running processes."""
_CARDS = "CUDA_VISIBLE_DEVICES"


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[str]
    folder: Path
    card: str | None


class Runner:
    """The processes of a comparison.

    Args:
        plan: which runs there are.
        records: those that are done; finished ones are added.
        out: the folder of the comparison.
        jobs: processes at a time.
        retry_failed: run again what failed in an earlier call.
        claimed: whether no other command can be at work in the folder.
    """

    def __init__(
        self, plan: Plan, records: Records, out: Path, jobs: int, retry_failed: bool, claimed: bool = True
    ) -> None:
        self.plan, self.records, self.out, self.jobs = plan, records, out, jobs
        self.retry_failed, self.claimed = retry_failed, claimed
        self.work = out / "work" / f"{platform.node()}-{os.getpid()}"
        self.cards = visible_cards(os.environ, torch.cuda.device_count) if jobs > 1 else []
        self.running: dict[str, _Running] = {}
        self.tried: set[tuple[str, float | None]] = set()  # with the limit, which is no part of a run's identity

    def run(self) -> None:
        """Run everything that is missing; end every process when interrupted."""
        # of runs that a kill cut off: all where no other command is at work, else those of a process called as this one
        shutil.rmtree(self.out / "work" if self.claimed else self.work, ignore_errors=True)
        self._forget_lost()
        done, total = self.plan.progress(self.records)
        try:
            with tqdm(total=total, initial=done, unit="run", dynamic_ncols=True) as bar:
                self._run(bar)
        finally:
            for held in self.running.values():
                _end(held.process)
            shutil.rmtree(self.work, ignore_errors=True)
            _remove_empty(self.out / "work")

    def _forget_lost(self) -> None:
        """Take for one that was not made, so that it is made again: a run whose ranks are gone, and that a table asks
        for; a pre-training whose model is gone, and that a run waits for.
        """
        for row, dataset in self.plan.cells():
            trial = self.plan.chosen(row, dataset, self.records)
            for seed in self.plan.comparison.seeds if trial is not None else ():
                job = self.plan.run(row, dataset, seed, trial or {})
                lost = []
                while (record := self.records.done(job)) is not None and not has_ranks(self.out, record):
                    self.records.forget(record)
                    lost.append(users_file(self.out, job.id, record["max_seconds"]))
                if lost and self.records.done(job) is None and self._may_start(job):
                    tqdm.write(f"{job.label}: {lost[0]} is gone, so it is run again", sys.stderr)
        for job in self.plan.waiting(self.records, self._is_lost, self._again):
            while (record := self.records.done(job)) is not None:
                self.records.forget(record)

    def _run(self, bar: Any) -> None:
        while True:
            ready = [job for job in self.plan.waiting(self.records, self._is_lost, self._again) if self._may_start(job)]
            for job in ready[: self.jobs - len(self.running)]:
                self.running[job.id] = self._start(job)
                self.tried.add((job.id, job.max_seconds))
            bar.set_description_str("; ".join(held.job.label for held in self.running.values()))
            if not self.running:
                return
            ended = self._wait()
            for held in ended:
                record = self._finish(held)
                bar.update()
                if record["status"] == "failed":
                    bar.write(f"failed: {held.job.label}: {record['error']} (log: {self._log(held.job)})", sys.stderr)

    def _may_start(self, job: Job) -> bool:
        if (job.id, job.max_seconds) in self.tried or job.id in self.running:
            return False
        return self.retry_failed or self.records.failed(job) is None

    def _wait(self) -> list[_Running]:
        """Wait until some process has ended."""
        while True:
            ended = [held for held in self.running.values() if held.process.poll() is not None]
            if ended:
                return ended
            time.sleep(LOOK_EVERY)

    def _log(self, job: Job) -> Path:
        return self.out / "logs" / f"{job.id}.log"

    def checkpoint(self, identity: str) -> Path:
        """Where a pre-training's model lies."""
        return self.out / "pretrained" / f"{identity}.safetensors"

    def _unfinished(self, job: Job) -> Path:
        """The checkpoints of a run that has not ended by itself; under a lower limit it would have ended before."""
        return self.out / "unfinished" / users_file(self.out, _without_limit(job), job.max_seconds).stem

    def _take_over(self, job: Job) -> None:
        """Go on where the run was under a lower limit: under a higher one it would have come by there.

        Not where another command may be at that run just now.
        """
        place = self._unfinished(job)
        if not self.claimed or place.exists():
            return
        of_others = {self._unfinished(held.job) for held in self.running.values()}
        limit = inf if job.max_seconds is None else job.max_seconds
        name = _without_limit(job)
        found = {state: _seconds(state.name[len(name) + 1 : -1]) for state in place.parent.glob(f"{name}-*s")}
        lower = {state: under for state, under in found.items() if under < limit and state not in of_others}
        if lower:
            max(lower, key=lambda state: lower[state]).rename(place)

    def _again(self, identity: str) -> bool:
        """Whether a run that failed is tried again by this call, and has not ended yet."""
        tried = identity in {known for known, _ in self.tried}
        return self.retry_failed and (not tried or identity in self.running)

    def _is_lost(self, identity: str) -> bool:
        return not self.checkpoint(identity).is_file()

    def _start(self, job: Job) -> _Running:
        folder = self.work / job.id
        folder.mkdir(parents=True)
        self._take_over(job)
        threads = max(1, cores() // self.jobs)
        card = free_card(self.cards, [held.card for held in self.running.values()])
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        order = {
            **asdict(job),
            "data_path": str(self.plan.data_path),
            "threads": threads,
            "users_file": str(users_file(self.out, job.id, job.max_seconds)),
            "checkpoint_file": str(self.checkpoint(job.id)),
            "unfinished": str(self._unfinished(job)),
            "pretrained_file": str(self.checkpoint(job.pretrained)) if job.pretrained else None,
        }
        self._log(job).parent.mkdir(exist_ok=True)
        with self._log(job).open("wb") as log:
            process = subprocess.Popen(
                running("recbole_mmm4rec.compare.worker"),
                cwd=folder,  # RecBole's own logs go there, and go with it
                env=environment if card is None else {**environment, _CARDS: card},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # Ctrl-C is for this process, which then ends the others
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended at once; its exit tells
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()  # and stays open: its end is the end of the process
        return _Running(job, process, folder, card)

    def _finish(self, held: _Running) -> Record:
        """Take an ended run into the records."""
        job, code = held.job, held.process.returncode
        del self.running[job.id]
        assert held.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            held.process.stdin.close()
        result = held.folder / "result.json"
        if result.is_file():
            told = json.loads(result.read_text(encoding="utf-8"))
        else:
            told = {"status": "failed", "error": f"the process ended with {_exit(code)}{_last_line(self._log(job))}"}
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        record = readable({"id": job.id, **asdict(job), **told, "date": date})
        self.records.add(record)
        shutil.rmtree(held.folder, ignore_errors=True)
        if record["status"] == "done" and not record["time_up"]:  # others, tried again or given more time, go on there
            shutil.rmtree(self._unfinished(job), ignore_errors=True)
            _remove_empty(self.out / "unfinished")
        return record


def visible_cards(environment: Mapping[str, str], count: Callable[[], int]) -> list[str]:
    """The graphics cards that runs may take, each by what ``CUDA_VISIBLE_DEVICES`` calls it.

    Args:
        environment: names them; where it does not, all of the machine may be taken.
        count: how many the machine has.
    """
    named = environment.get(_CARDS)
    if named is None:
        return [str(number) for number in range(count())]
    # CUDA looks no further than the first one that is none, such as -1
    return list(takewhile(lambda name: name and not name.startswith("-"), map(str.strip, named.split(","))))


def free_card(cards: Sequence[str], taken: Iterable[str | None]) -> str | None:
    """The card for one run more: the first of those that fewest runs have; None where there is nothing to deal out.

    Args:
        cards: that may be taken.
        taken: that of each run under way.
    """
    return min(cards, key=list(taken).count, default=None)


def has_ranks(out: Path, record: Record) -> bool:
    """Whether the ranks of a run are there; an empty file is what a loss of power has left."""
    file = users_file(out, record["id"], record["max_seconds"])
    return file.is_file() and file.stat().st_size > 0


def users_file(out: Path, identity: str, max_seconds: float | None) -> Path:
    """Where the ranks of a run lie in the folder of a comparison; the same run may be there under several limits."""
    limit = "" if max_seconds is None else f"-{max_seconds:g}s"
    return out / "users" / f"{identity}{limit}.parquet"


def _without_limit(job: Job) -> str:
    """The identity of a training however long it may take; that of a pre-training has the limit in it."""
    return replace(job, max_seconds=None).id


def _seconds(text: str) -> float:
    """The limit in a name; NaN of a folder that somebody else has put there."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _exit(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"status {code}"
    return f"signal {signal.Signals(-code).name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")


def _last_line(log: Path) -> str:
    """What a process said last, behind a colon."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((f": {line.strip()[:300]}" for line in reversed(lines) if line.strip()), "")


def _end(process: subprocess.Popen[str]) -> None:
    """End a run with everything that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
