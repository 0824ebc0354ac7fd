"""Runs what is missing, each run in a process of its own, some at a time."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recbole_mmm4rec.base.machine import cores
from recbole_mmm4rec.base.new_python import running
from recbole_mmm4rec.compare.job import Job
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.records import Record, Records, readable

LOOK_EVERY = 0.1
"""Seconds between two looks at the running processes."""


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[str]
    folder: Path


class Runner:
    """The processes of a comparison.

    Args:
        plan: which runs there are.
        records: those that are done; finished ones are added.
        out: the folder of the comparison.
        jobs: processes at a time.
        retry_failed: run again what failed in an earlier call.
    """

    def __init__(self, plan: Plan, records: Records, out: Path, jobs: int, retry_failed: bool) -> None:
        self.plan, self.records, self.out, self.jobs = plan, records, out, jobs
        self.retry_failed = retry_failed
        self.running: dict[str, _Running] = {}
        self.tried: set[str] = set()

    def run(self) -> None:
        """Run everything that is missing; end every process when interrupted."""
        shutil.rmtree(self.out / "work", ignore_errors=True)  # of runs that a kill cut off
        done, total = self.plan.progress(self.records)
        try:
            with tqdm(total=total, initial=done, unit="run", dynamic_ncols=True) as bar:
                self._run(bar)
        finally:
            for held in self.running.values():
                _end(held.process)
            shutil.rmtree(self.out / "work", ignore_errors=True)

    def _run(self, bar: Any) -> None:
        while True:
            ready = [job for job in self.plan.waiting(self.records, self._is_lost) if self._may_start(job)]
            for job in ready[: self.jobs - len(self.running)]:
                self.running[job.id] = self._start(job)
                self.tried.add(job.id)
            bar.set_description_str("; ".join(held.job.label for held in self.running.values()))
            if not self.running:
                if self.plan.comparison.whole and not self.plan.waiting(self.records):  # nobody asks for them any more
                    shutil.rmtree(self.out / "unfinished", ignore_errors=True)
                return
            ended = self._wait()
            for held in ended:
                record = self._finish(held)
                bar.update()
                if record["status"] == "failed":
                    bar.write(f"failed: {held.job.label}: {record['error']} (log: {self._log(held.job)})", sys.stderr)

    def _may_start(self, job: Job) -> bool:
        if job.id in self.tried:
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
        """The checkpoints of a run that has not ended; under a lower limit it would have ended before."""
        return self.out / "unfinished" / users_file(self.out, job.id, job.max_seconds).stem

    def _is_lost(self, identity: str) -> bool:
        return not self.checkpoint(identity).is_file()

    def _start(self, job: Job) -> _Running:
        folder = self.out / "work" / job.id
        folder.mkdir(parents=True)
        threads = max(1, cores() // self.jobs)
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
                env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
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
        return _Running(job, process, folder)

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
        if record["status"] == "done":  # what was killed or had no room goes on from there when tried again
            shutil.rmtree(self._unfinished(job), ignore_errors=True)
        return record


def users_file(out: Path, identity: str, max_seconds: float | None) -> Path:
    """Where the ranks of a run lie in the folder of a comparison; the same run may be there under several limits."""
    limit = "" if max_seconds is None else f"-{max_seconds:g}s"
    return out / "users" / f"{identity}{limit}.parquet"


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
