"""Runs the blocks of one page in the folder where it stands: ``python page_runner.py STEPS.json``.

Steps are objects with ``language``, ``code``, ``place`` and ``until``. Commands of ``mmm4rec`` are those of this
repository, at small size: ``main_of_small`` is what ``mmm4rec`` means then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

FIXED = {
    "train": {"--epochs": "1", "--show_progress": "False"},
    "tune": {"--epochs": "1", "--show_progress": "False"},
    "prep demo": {"--users": "150", "--items": "120"},
}
"""What is added to a command that does not say it itself."""
FEWER_USERS = ("--user_inter_num_interval", "[0,22]")
"""Of MovieLens 100K, a tenth of the users, those with the fewest ratings: 95 of 943."""


def small(arguments: list[str]) -> list[str]:
    """The arguments of ``mmm4rec`` at small size."""
    given = {argument.partition("=")[0] for argument in arguments}
    added = {}
    for command, options in FIXED.items():
        if arguments[: len(command.split())] == command.split():
            added |= {name: value for name, value in options.items() if name not in given}
    if arguments[:1] in (["train"], ["tune"]) and any("ml-100k" in argument for argument in arguments):
        added |= dict([FEWER_USERS])
    changed = list(arguments)
    if "--max-evals" in changed:
        changed[changed.index("--max-evals") + 1] = "2"
    return [*changed, *(f"{name}={value}" for name, value in added.items())]


def main_of_small() -> int:
    """``mmm4rec`` at small size."""
    from recbole_mmm4rec.commands.__main__ import main

    arguments = small(sys.argv[1:])
    sys.argv = ["mmm4rec", *arguments]
    return main(arguments)


def run(steps: list[dict[str, Any]]) -> None:
    """Run each; ends the process with status 1 at the first that fails."""
    names: dict[str, Any] = {"__name__": "__main__"}
    behind: list[subprocess.Popen[str]] = []
    try:
        for step in steps:
            print(f"--- {step['place']}\n{step['code']}", flush=True)
            if step["until"]:
                behind.append(subprocess.Popen(["bash", "-euc", f"exec {step['code']}"], text=True))
                _answers(step["until"], behind[-1])
            elif step["language"] == "bash":
                done = subprocess.run(["bash", "-euo", "pipefail", "-c", step["code"]], check=False)
                if done.returncode:
                    sys.exit(f"{step['place']}: exit status {done.returncode}")
            else:
                sys.argv = ["page"]
                exec(compile(step["code"], step["place"], "exec"), names)
    finally:
        for process in behind:
            process.send_signal(signal.SIGTERM)
        for process in behind:
            process.wait(30)


def _answers(url: str, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    sys.exit(f"{url} did not answer; the command's status: {process.poll()}")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    run(json.loads(Path(sys.argv[1]).read_text()))
