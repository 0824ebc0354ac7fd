"""What several processes add to a training step: `python -m benchmarks.scaling`, on this machine's processors.

Two processes on the loopback interface sum gradients, gather the rows of in-batch negatives and tell each other their
sample counts, as a training does; each time is shown beside a plain copy of as many bytes in the same process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks import machine
from recbole_mmm4rec.distributed import group, joint, launch

ROUNDS = 15
SUMMED = {
    "network alone, 2 M numbers": (2_000_000,),
    "with ID tables of 2 × 10,000 items": (2_000_000, 2_560_000, 2_560_000),
}
ROWS, WIDTH = 1024, 256


def main() -> int:
    """Measure and print a table."""
    place = launch.placement(2, -1, "localhost", None, 0)
    rows = launch.start(measured, (place,), place)
    print(f"{machine.processor()}, torch {torch.__version__}, 2 processes, gloo on loopback, 1 thread each\n")
    print("| | MB | ms, median (smallest) | ratio to a copy |\n|---|---|---|---|")
    for name, size, took, fastest, copied in rows:
        print(f"| {name} | {size / 1e6:.2f} | {took * 1e3:.2f} ({fastest * 1e3:.2f}) | {took / copied:.1f} |")
    return 0


def measured(number: int, place: dict[str, Any], queue: Any) -> None:
    """One of the processes; process 0 hands over the rows of the table."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    group.join(number, place["world_size"], device, f"{place['ip']}:{place['port']}")
    rows = []
    for name, counts in SUMMED.items():
        weights = [nn.Parameter(torch.zeros(count)) for count in counts]
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        rows.append(
            _row(f"sum of gradients, {name}", 4 * sum(counts), lambda weights=weights: joint.sum_gradients(weights))
        )
    sides = torch.zeros(ROWS // 2, WIDTH, requires_grad=True)

    def gather() -> None:
        with joint.batch_of([ROWS // 2] * 2):
            joint.rows_of_all(sides).sum().backward()

    rows.append(_row(f"in-batch rows, joint batch {ROWS} × {WIDTH}, forward and backward", 4 * ROWS * WIDTH, gather))
    rows.append(_row("sample counts", 8, lambda: group.all_counts([512], device)))
    if group.is_main():
        queue.put(rows)
    group.leave()


def _row(name: str, size: int, work: Callable[[], Any]) -> tuple[str, int, float, float, float]:
    source, target = torch.zeros(max(1, size // 4)), torch.empty(max(1, size // 4))
    times, copies = [], []
    for _ in range(ROUNDS):
        group.barrier()
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        target.copy_(source)
        copies.append(time.perf_counter() - begin)
    return name, size, statistics.median(times), min(times), statistics.median(copies)


if __name__ == "__main__":
    raise SystemExit(main())
