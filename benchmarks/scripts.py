"""The measurements that are scripts of their own, as suites: they run, and what they print goes into the page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import ROOT, STATE
from benchmarks.suite import Options


@dataclass(frozen=True)
class Script:
    """A script in benchmarks/ that prints its figures.

    Attributes:
        TITLE: heading in the page.
        ABOUT: what it measures.
        file: its name.
        arguments: what it is run with.
        quick: what it is run with under ``--quick``.
        sized: whether it takes ``--device``.
        out: its own results in progress go to a folder of this name under build/benchmarks (``--out``), which is
            removed when it has ended.
    """

    TITLE: str
    ABOUT: str
    file: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)
    sized: bool = False
    out: str = ""

    def cells(self, options: Options) -> list[str]:
        """The script is one measurement."""
        return [self.file]

    def measure(self, options: Options, cell: str) -> dict[str, Any]:
        """Run the script.

        Returns:
            ``output``, what it printed; ``bound`` whether its figures keep what it promises (exit 0, not 1).

        Raises:
            RuntimeError: it is not there or ended with another code.
        """
        command = [
            sys.executable,
            str(ROOT / "benchmarks" / self.file),
            *(self.quick if options.quick else self.arguments),
        ]
        command += ["--device", options.device] if self.sized else []
        state = STATE / f"{self.out}.{options.device}{'.quick' if options.quick else ''}"
        command += ["--out", str(state)] if self.out else []
        lines = []
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                sys.stderr.write(f"  {line}")
                lines.append(line)
        if process.returncode not in (0, 1) or not lines:
            raise RuntimeError(f"{self.file} ended with {process.returncode}")
        if self.out:
            shutil.rmtree(state)
        return {"output": "".join(lines), "bound": process.returncode == 0}

    def report(self, found: Mapping[str, dict[str, Any]]) -> str:
        """The output: as it is where it is a Markdown table, else as a block."""
        parts = []
        for result in found.values():
            text = result["output"].strip()
            parts.append(
                re.sub(r"^([^|\n].*)\n\|", r"\1\n\n|", text, flags=re.M) if "\n|" in text else f"```text\n{text}\n```"
            )
            if not result["bound"]:
                parts.append("A figure here misses what the script itself promises.")
        return "\n\n".join(parts)


DATA_PATH = Script(
    "From files to the first batch",
    "`python benchmarks/data_path.py`: building the data set from atomic files, splitting it and taking the first\n"
    "training batch, beside RecBole's own data set on the same files; each in a process of its own.",
    "data_path.py",
)
LOADER = Script(
    "An epoch beside its steps",
    "`python benchmarks/loader.py`: the time of an epoch of `MMM4RecTrainer` over the sum of its training steps, that\n"
    "is what loading and bookkeeping cost. 60,000 made interactions.",
    "loader.py",
)
START_UP = Script(
    "Start-up",
    "`python benchmarks/start_up.py`: from the command to the moment at which the first training step could begin.\n"
    "20,000 made interactions.",
    "start_up.py",
)
CATALOGUE = Script(
    "Losses by the size of the catalogue",
    "`python benchmarks/catalogue.py`: time and memory of a training step by loss and number of items.",
    "catalogue.py",
    arguments=("--quick",),
    sized=True,
    out="catalogue",
)
