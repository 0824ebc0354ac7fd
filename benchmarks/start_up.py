"""Start-up: seconds from the command to the moment at which the first training step could begin.

    python benchmarks/start_up.py                                             20,000 made interactions
    python benchmarks/start_up.py --data-path dataset --dataset scientific    a data set of your own

Runs ``run_recbole.py``'s command in fresh processes up to the built trainer and prints the median of wall and processor
time by stage, and which large packages were imported. Exits with 1 where the median is above 8 seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import data_path, machine

BOUND = 8.0
STAGES = ("imports", "configuration", "data", "model and trainer")
LARGE = ("sklearn", "scipy", "ray", "pyarrow", "matplotlib", "tensorboard", "sympy", "triton", "torch._dynamo", "thop")

CHILD = """
import json, sys, time

def mark(marks=[]):
    marks.append((time.time(), time.process_time()))
    return marks

sys.path.insert(0, {root!r})
import recbole_mmm4rec
from recbole_mmm4rec.run import cli
from recbole_mmm4rec.run import quick_start
import recbole_mmm4rec.run.build as build

mark()
started, data = quick_start.start_log, build.build_data

def start_log(config):
    mark()
    return started(config)

def build_data(config):
    found = data(config)
    mark()
    return found

def build_all(config):
    build.build(config, count_flops=False)
    print(json.dumps({{"marks": mark(), "modules": [name for name in {large!r} if name in sys.modules]}}))
    raise SystemExit

build.build_data, quick_start.start_log, quick_start.build = build_data, start_log, build_all
cli.main({arguments!r})
"""


def main() -> int:
    """Start several times and print the stages; 1 where the bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", help="the folder that holds the data set (default: made data)")
    parser.add_argument("--dataset", default="scientific", help="its name (default: scientific)")
    parser.add_argument("--repeat", type=int, default=5, help="starts (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one start")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, name = arguments.data_path or folder, arguments.dataset
        if arguments.data_path is None:
            name = "made"
            data_path.write_interactions(Path(folder) / name / f"{name}.inter", 20_000)
        command = ["--model=MMM4Rec", f"--dataset={name}", f"--data_path={Path(root).absolute()}"]
        starts = [start(command, folder) for _ in range(1 if arguments.quick else arguments.repeat)]
    print(f"{machine.processor()}, Python {platform.python_version()}; {name}, {len(starts)} starts")
    print("| stage | wall | processor |")
    print("|---|---|---|")
    for number, stage in enumerate(STAGES):
        wall, cpu = (statistics.median(one["stages"][number][kind] for one in starts) for kind in (0, 1))
        print(f"| {stage} | {wall:.2f} s | {cpu:.2f} s |")
    whole = statistics.median(sum(wall for wall, _ in one["stages"]) for one in starts)
    cpu = statistics.median(sum(cpu for _, cpu in one["stages"]) for one in starts)
    print(f"| all | {whole:.2f} s | {cpu:.2f} s |")
    print(f"\nImported: {', '.join(starts[0]['modules']) or 'none'} of {', '.join(LARGE)}")
    print(f"Median {whole:.2f} s, at most {BOUND:.0f} s: {'yes' if whole <= BOUND else 'NO'}")
    return 0 if whole <= BOUND else 1


def start(command: list[str], folder: str) -> dict[str, Any]:
    """One start in a process of its own.

    Returns:
        ``stages``: wall and processor seconds of each of ``STAGES``; ``modules``: the imported ones of ``LARGE``.
    """
    program = CHILD.format(root=str(machine.ROOT), large=LARGE, arguments=command)
    begin = time.time()
    child = [sys.executable, "-c", program]
    output = subprocess.run(child, check=True, capture_output=True, text=True, cwd=folder).stdout
    found = json.loads(output.splitlines()[-1])
    marks = [(begin, 0.0), *found["marks"]]
    stages = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks)]
    return {"stages": stages, "modules": found["modules"]}


if __name__ == "__main__":
    raise SystemExit(main())
