"""Time and memory of a training step by loss and size of the catalogue.

    python benchmarks/catalogue.py                          10,000, 100,000, 1,000,000 and 5,000,000 items
    python benchmarks/catalogue.py --quick                  10,000 and 100,000 items, fewer repetitions
    python benchmarks/catalogue.py --device cuda --precision bfloat16

A step is forward pass, loss, backward pass and NAdam, of the paper's network on one modality: D 256, 1,024 histories of
at most 20 items, 384-d text features in half precision mapped from disk, without and with ID tables. Every cell runs in
a process of its own. Memory is what the process itself holds at the peak (RssAnon; pages of the mapped features are the
kernel's cache) above what it held before its first step: gradients and optimiser states are in it, the tables are not.
On a GPU it is PyTorch's allocated memory. A cell that would not fit says so. Beside the losses of this program, those
of cut-cross-entropy, Liger and PyTorch (2.13 or later) are measured on a GPU where they are installed; none of these,
nor ours on a GPU, has run yet.

Results are kept cell by cell in OUT/catalogue-DEVICE-PRECISION.jsonl: a run that was interrupted goes on where it was;
--fresh begins anew, and so does another machine or version. The table goes to the output and to a file beside them
(.md), the plot to two (.svg, .png; matplotlib needed).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import figures, machine
from benchmarks.catalogue_step import GIB, LOSSES, NO_FIT, RIVALS, USERS, WIDTH, Cell, available, run_cell, say
from benchmarks.results_log import RunLog

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000, 5_000_000), (10_000, 100_000)


def main() -> int:
    """Run what is missing, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", metavar="I", help="numbers of items")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, metavar="LOSS", help=f"some of: {', '.join(LOSSES)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="bfloat16: autocast")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: one a core)")
    parser.add_argument("--quick", action="store_true", help="10,000 and 100,000 items, 2 s of steps a cell")
    parser.add_argument("--out", type=Path, default=machine.ROOT / "build" / "catalogue", help="folder of the results")
    parser.add_argument("--folder", type=Path, help="where to put the features (default: a temporary folder)")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        return run_cell(Cell(**json.loads(arguments.cell)), arguments.folder, arguments.result)
    sizes = tuple(arguments.sizes or (QUICK_SIZES if arguments.quick else SIZES))
    if min(sizes) < 100:
        parser.error(f"--sizes: at least 100 items, not {min(sizes)}")
    why = machine.unwritable(arguments.out / "table")
    if why:
        parser.error(f"--out {arguments.out}: nothing can be written there ({why})")
    chosen = arguments.losses or (LOSSES if arguments.device == "cuda" else LOSSES[: -len(RIVALS)])
    common = (arguments.device, arguments.precision, arguments.threads or 0, 2.0 if arguments.quick else 20.0)
    cells = [Cell(loss, ids, items, *common) for items in sizes for ids in (False, True) for loss in chosen]
    kind = f"{arguments.device}-{arguments.precision}{'-quick' if arguments.quick else ''}"
    out = arguments.out / f"catalogue-{kind}"
    if arguments.fresh:
        out.with_suffix(".jsonl").unlink(missing_ok=True)
    found = measure(cells, out.with_suffix(".jsonl"), arguments.folder)
    text = report(cells, found)
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    draw(cells, found, out)
    return 0


def measure(cells: list[Cell], kept: Path, folder: Path | None) -> dict[str, dict[str, Any]]:
    """Results by the cell's name: those in the file ``kept``, and the others measured now, in order."""
    first = cells[0]
    where = machine.stamp(first.device)
    run = {"hardware": where["hardware"], "software": where["software"], "users": USERS}
    log = RunLog(kept, {**run, "precision": first.precision, "threads": first.threads, "seconds": first.seconds})
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for number, cell in enumerate(cells, 1):
            line = f"{number} of {len(cells)}: {cell.name}"
            if ("catalogue", cell.name) in log.found:
                say(f"{line}: kept")
                continue
            say(line)
            result = in_a_process(cell, Path(scratch))
            say(f"  {result.get('failed') or describe(result)}")
            log.add("catalogue", cell.name, where, result)
    return {name: entry["result"] for (_, name), entry in log.found.items()}


def in_a_process(cell: Cell, scratch: Path) -> dict[str, Any]:
    """Measure a cell in a fresh interpreter, if it can fit at all."""
    free = available(cell.device)
    if cell.needs() > free:
        return {"failed": f"does not fit: at least {cell.needs() / GIB:.1f} GiB of {free / GIB:.1f}"}
    result = scratch / "result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--cell", json.dumps(asdict(cell)), "--folder", str(scratch)]
    code = subprocess.run([*command, "--result", str(result)]).returncode
    if code == 0:
        measured: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return measured
    return {"failed": "does not fit: ran out of memory" if code in (NO_FIT, -9) else f"ended with {code}"}


def describe(result: Mapping[str, Any]) -> str:
    """A result in words."""
    return f"{statistics.median(result['seconds']):.2f} s, {result['peak'] / GIB:.2f} GiB"


def report(cells: list[Cell], found: Mapping[str, Mapping[str, Any]]) -> str:
    """The Markdown table, one row a loss and size."""
    rows = []
    for cell in cells:
        result = found[cell.name]
        row = [f"{cell.items:,}", "with" if cell.ids else "without", cell.loss]
        if "failed" in result:
            rows.append([*row, result["failed"], "", ""])
            continue
        spread = f"{min(result['seconds']):.3f}–{max(result['seconds']):.3f}"
        memory = [f"{result[key] / GIB:.3f}" for key in ("peak", "kept")]
        rows.append([*row, f"{statistics.median(result['seconds']):.3f} ({spread})", *memory])
    where = machine.stamp(cells[0].device)
    head = ["items", "ID tables", "loss", "step, s: median (range)", "peak, GiB", "of it gradients, states"]
    about = (
        f"{where['hardware']}; {where['software']}; {where['date']}; {cells[0].precision}, B = {USERS}, D = {WIDTH}."
    )
    return f"{figures.table(head, rows)}\n\n{about}\n"


def draw(cells: list[Cell], found: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Step time and peak memory against the number of items, one line a loss, without and with ID tables."""
    try:
        import matplotlib
    except ImportError:
        say("no plot: matplotlib is not installed (`pip install matplotlib`, then the same command again)")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    measured = [(cell, found[cell.name]) for cell in cells if "failed" not in found[cell.name]]
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7.5), sharex=True, sharey="row", layout="constrained")
    for column, ids in enumerate((False, True)):
        axes[0, column].set_title("with ID tables" if ids else "without ID tables")
        axes[1, column].set_xlabel("items")
        for colour, loss in enumerate(LOSSES):
            points = [(cell.items, result) for cell, result in measured if (cell.loss, cell.ids) == (loss, ids)]
            values: list[Callable[[Mapping[str, Any]], float]] = [
                lambda result: statistics.median(result["seconds"]),
                lambda result: max(result["peak"], 2**20) / GIB,
            ]
            for axis, value in zip(axes[:, column], values, strict=True):
                if points:
                    sizes = [items for items, _ in points]
                    axis.plot(sizes, [value(result) for _, result in points], "o-", color=f"C{colour}", label=loss)
    for axis, label in zip(axes[:, 0], ("training step, s", "peak above the tables, GiB"), strict=True):
        axis.set_ylabel(label)
    for axis in axes.flat:
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    for ending in ("svg", "png"):
        figure.savefig(out.with_suffix(f".{ending}"))
    say(f"plot: {out}.svg and .png")


if __name__ == "__main__":
    sys.exit(main())
