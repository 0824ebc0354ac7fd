"""What every suite of measurements offers, and the list of them.

A suite is a module (or an object) with

    TITLE, ABOUT                 the heading and the text above its table in docs/benchmarks.md
    cells(options)               the names of its measurements; each runs in a fresh process and is kept when done
    measure(options, cell)       one measurement, as something that JSON holds
    report(found)                Markdown from what was measured: cell name to result
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.machine import ROOT

# the order of docs/benchmarks.md; a module, or a module and a name in it
SUITES = {
    "steps": "benchmarks.steps",
    "busy": "benchmarks.busy",
    "floor": "benchmarks.floor",
    "scan": "benchmarks.scan",
    "data_path": "benchmarks.scripts:DATA_PATH",
    "loader": "benchmarks.scripts:LOADER",
    "start_up": "benchmarks.scripts:START_UP",
    "catalogue": "benchmarks.scripts:CATALOGUE",
    "ann": "benchmarks.ann",
    "peers": "benchmarks.peers",
}
ON_A_GPU = ("steps", "floor", "scan", "catalogue")


@dataclass(frozen=True)
class Options:
    """What a user chose.

    Attributes:
        device: "cpu" or "cuda".
        quick: few repetitions, to see that everything runs; nothing is published.
        against: path of the implementation that the steps are compared with.
        data_path: folder above the prepared data set "scientific".
        max_seconds: seconds of training for each peer.
        rectools_python: the Python of an environment with RecTools.
    """

    device: str = "cpu"
    quick: bool = False
    against: str = str(ROOT / "tests" / "reference" / "padded.py")
    data_path: str = "dataset"
    max_seconds: float = 60.0
    rectools_python: str = str(ROOT / "build" / "rectools" / "bin" / "python")


class Suite(Protocol):
    """See the module's docstring."""

    TITLE: str
    ABOUT: str

    def cells(self, options: Options) -> list[str]:
        """The names of the measurements."""

    def measure(self, options: Options, cell: str) -> Any:
        """One measurement."""

    def report(self, found: Mapping[str, Any]) -> str:
        """Markdown."""


def load(name: str) -> Suite:
    """The suite of that name, one of :data:`SUITES`."""
    module, _, attribute = SUITES[name].partition(":")
    found: Any = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def say(text: str) -> None:
    """Progress, on the error stream."""
    print(f"  {text}", file=sys.stderr, flush=True)
