"""docs/benchmarks.md, from the last finished results of every suite and from what was written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import results_log, suite

HEAD = """\
# Benchmarks

`python -m benchmarks` measures, each time against a baseline of the same run, and writes this page; `--only NAME …`
chooses, and what is left out keeps its last figures. Interrupted, the same command goes on where it was. Every section
says on which machine, with which versions and when its figures were measured. The page is written from
`benchmarks/results/` and, from "Losses up to five million items" on, from `benchmarks/by_hand.md`. Your own
implementation of the network can be measured beside it: `python -m benchmarks --contract` says what it has to offer.
"""
NOT_ON_A_GPU = """\
## On a GPU

{names}: not run on a GPU yet, so nothing here says how the package does there.
`benchmarks/gpu.sh` runs them, the comparison with the published program's tensors and a short training on a machine
that has PyTorch and a GPU and no network; `benchmarks/gpu.sh pack` collects the rest for it. The script itself has run
on a processor alone (`DEVICE=cpu`).
"""


def page(results: Path, by_hand: Path) -> str:
    """The whole page.

    Args:
        results: folder of the finished results.
        by_hand: Markdown that goes to the end as it is.
    """
    parts = [HEAD]
    missing = []
    for name in suite.SUITES:
        for device in ("cpu", "cuda"):
            entries = results_log.published(results, name, device)
            if entries:
                parts.append(section(name, device, entries))
            elif device == "cuda" and name in suite.ON_A_GPU:
                missing.append(name)
    if missing:
        parts.append(NOT_ON_A_GPU.format(names=", ".join(f"`{name}`" for name in missing)))
    if by_hand.is_file():
        parts.append(by_hand.read_text(encoding="utf-8"))
    return "\n".join(parts)


def section(name: str, device: str, entries: list[dict[str, Any]]) -> str:
    """The section of one suite on one kind of device."""
    found = suite.load(name)
    heading = f"## {found.TITLE}" + (", on a GPU" if device == "cuda" else "")
    results = {entry["cell"]: entry["result"] for entry in entries}
    failed = [cell for cell, result in results.items() if isinstance(result, dict) and "failed" in result]
    table = found.report({cell: result for cell, result in results.items() if cell not in failed})
    lines = [heading, "", found.ABOUT, "", *_stamps(entries), "", table, ""]
    lines += [f"Failed, and therefore not in the table: {cell} ({results[cell]['failed']}).\n" for cell in failed]
    return "\n".join(lines)


def _stamps(entries: list[dict[str, Any]]) -> list[str]:
    """A line for each machine, set of versions and day."""
    stamps = {tuple(sorted(entry["stamp"].items())): entry["stamp"] for entry in entries}
    return [
        f"{stamp['hardware']}; {stamp['software']}; commit {stamp['commit']}; {stamp['date']}."
        for stamp in stamps.values()
    ]
