"""Whether the loader keeps up: the time of an epoch over the sum of its training steps.

    python benchmarks/loader.py                                             60,000 made interactions
    python benchmarks/loader.py --data-path dataset --dataset scientific    a data set of your own
    python benchmarks/loader.py --quick                                     12,000 made interactions, a smaller network

A step is forward pass, loss, backward pass and optimiser; the rest of an epoch gathers batches, counts and draws the
progress bar. Both come from the same epochs of ``MMM4RecTrainer``; the first epoch is not counted. Exits with 1 where
an epoch takes more than 1.08 times its steps.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import data_path, machine
from benchmarks.standing import standing_in

BOUND = 1.08
SMALL = {"hidden_size": 64, "inner_size": 64, "d_state": 16, "n_groups": 2, "head_dim": 32}


def main() -> int:
    """Run the epochs and print their times; 1 where the bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", help="the folder that holds the data set (default: made data)")
    parser.add_argument("--dataset", default="scientific", help="its name (default: scientific)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs that count (default: 2)")
    parser.add_argument("--quick", action="store_true", help="less data and a smaller network")
    arguments = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads the command line, too
    root, name = arguments.data_path and str(Path(arguments.data_path).absolute()), arguments.dataset
    with tempfile.TemporaryDirectory() as folder, standing_in(folder):  # TensorBoard writes where it stands
        root = root or folder
        if arguments.data_path is None:
            name = "made"
            data_path.write_interactions(Path(folder) / name / f"{name}.inter", 12_000 if arguments.quick else 60_000)
        settings = {"data_path": root, "checkpoint_dir": folder, "use_gpu": False, **(SMALL if arguments.quick else {})}
        epochs = measure(name, settings, arguments.epochs)
    print(f"{machine.processor()}, Python {platform.python_version()}; {name}")
    print("| epoch | steps | sum of steps | batch loading | epoch / steps |")
    print("|---|---|---|---|---|")
    for whole, steps, loading in epochs:
        print(
            f"| {whole:.2f} s | {len(steps)} | {sum(steps):.2f} s | {1e3 * loading / len(steps):.2f} ms each "
            f"| {whole / sum(steps):.3f} |"
        )
    ratio = statistics.median(whole / sum(steps) for whole, steps, _ in epochs)
    print(f"\nMedian {ratio:.3f}, at most {BOUND}: {'yes' if ratio <= BOUND else 'NO'}")
    return 0 if ratio <= BOUND else 1


def measure(dataset: str, settings: dict[str, Any], count: int) -> list[tuple[float, list[float], float]]:
    """Train ``count`` epochs after a first one.

    Returns:
        For each epoch its seconds, those of its steps, and those of fetching its batches alone.
    """
    importlib.import_module("recbole_mmm4rec")
    build = importlib.import_module("recbole_mmm4rec.run.build")
    run = build.build(build.make_config("MMM4Rec", dataset, None, settings), count_flops=False)
    steps: list[float] = []
    step = run.trainer._step

    def timed_step(*args: Any) -> Any:
        begin = time.perf_counter()
        result = step(*args)
        steps.append(time.perf_counter() - begin)
        return result

    run.trainer._step = timed_step
    found = []
    for epoch in range(count + 1):
        steps.clear()
        begin = time.perf_counter()
        run.trainer._train_epoch(run.train, epoch, show_progress=True)
        whole = time.perf_counter() - begin
        begin = time.perf_counter()
        for _ in run.train:
            pass
        found.append((whole, list(steps), time.perf_counter() - begin))
    return found[1:]


if __name__ == "__main__":
    raise SystemExit(main())
