"""From the files of a data set to the first training batch: time and memory, beside RecBole's own data set.

    python benchmarks/data_path.py                  1,000,000 made interactions, ours and RecBole's; 10,000,000, ours
    python benchmarks/data_path.py --all            RecBole's at 10,000,000, too
    python benchmarks/data_path.py --quick          20,000, a trial of this script

Every case runs in a process of its own. Measured is what lies between an existing configuration and the first batch:
``create_dataset`` (reading ``.inter``, filters, ids), ``data_preparation`` (order, samples, leave-one-out split,
loaders) and ``next(iter(train))``. Memory is the peak of the resident set (ru_maxrss) above that of the interpreter
with all imports. RecBole's process does not import this package: it is RecBole as installed, without its warnings.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine

LENGTH = 50
_SCRAMBLE = 2_654_435_761  # odd, so that names of neighbours have nothing in common
PARTS = {
    "_load_data": "read",
    "_data_filtering": "filter",
    "_remap_ID_all": "ids",
    "_change_feat_format": "sort, samples",
    "build": "split",
}
"""Methods of the data set that are timed, without what others of this list do inside them."""

SETTINGS: dict[str, Any] = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "MAX_ITEM_LIST_LENGTH": LENGTH,
    "train_neg_sample_args": None,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "train_batch_size": 1024,
    "loss_type": "CE",
    "use_gpu": False,
}


def main() -> int:
    """Write the data, run every case and print the ratios; 1 where one misses what is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="RecBole's own data set at 10,000,000 interactions, too")
    parser.add_argument("--quick", action="store_true", help="20,000 interactions only")
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of interactions instead of 1 and 10 million")
    parser.add_argument("--folder", type=Path, help="where to write the data (default: a temporary folder)")
    parser.add_argument("--case", nargs=2, metavar=("KIND", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        sys.argv = sys.argv[:1]  # RecBole reads the command line, too
        print(json.dumps(run_case(arguments.case[0], arguments.folder, arguments.case[1])))
        return 0
    sizes = arguments.rows or ([20_000] if arguments.quick else [1_000_000, 10_000_000])
    print(f"{machine.processor()}, Python {platform.python_version()}, NumPy {np.__version__}, L = {LENGTH}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        return max(compare(Path(folder), rows, rows < 5_000_000 or arguments.all) for rows in sizes)


def compare(folder: Path, rows: int, with_recbole: bool) -> int:
    """Measure one size and print it; 1 where ours misses what is promised for that size."""
    name = f"made-{rows}"
    users, items = write_interactions(folder / name / f"{name}.inter", rows)
    print(f"\n{rows:,} interactions, {users:,} users, {items:,} items")
    ours = measure("ours", folder, name, 5 if with_recbole else 1)
    if not with_recbole:
        good = ours["wall"] < 60 and ours["memory"] < 4096
        print(f"  under 60 s and 4,096 MiB: {'yes' if good else 'NO'}")
        return 0 if good else 1
    stock = measure("recbole", folder, name, 2)
    assert ours["samples"] == stock["samples"], "the data sets have different samples"
    speed, cpu, memory = (stock[key] / ours[key] for key in ("wall", "cpu", "memory"))
    print(f"  ratio of medians: {speed:.1f} in wall time, {cpu:.1f} in CPU time, {memory:.1f} in memory")
    return 0 if rows < 1_000_000 or (speed >= 30 and memory >= 10) else 1


def measure(kind: str, folder: Path, name: str, times: int) -> dict[str, Any]:
    """Run one case some times, each in a process of its own, and print its figures; the run of the median wall time."""
    command = [sys.executable, "-W", "ignore", __file__, "--folder", str(folder), "--case", kind, name]
    runs: list[dict[str, Any]] = []
    for _ in range(times):
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        runs.append(json.loads(output.splitlines()[-1]))
    runs.sort(key=lambda run: run["wall"])
    found = runs[(times - 1) // 2]
    parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in found["parts"].items())
    spread = f"median of {times}, {runs[0]['wall']:.2f} to {runs[-1]['wall']:.2f} s; " if times > 1 else ""
    print(
        f"  {kind:<8}{found['wall']:8.2f} s, {found['cpu']:8.2f} CPU s, {found['memory']:7.0f} MiB   ({spread}{parts})"
    )
    return found


def run_case(kind: str, folder: Path, name: str) -> dict[str, Any]:
    """Build, split and take the first batch in this process.

    Returns:
        Seconds of wall and processor, MiB above the imports, seconds of each part, and the samples of the three parts.
    """
    model = "SASRec"
    if kind == "ours":
        importlib.import_module("recbole_mmm4rec")
        for module in ("recbole_mmm4rec.data.dataset", "pyarrow.csv", "pyarrow.compute"):
            importlib.import_module(module)
        model = "MMM4Rec"
    data = importlib.import_module("recbole.data")
    config = importlib.import_module("recbole.config").Config(
        model=model, dataset=name, config_dict={**SETTINGS, "data_path": str(folder), "checkpoint_dir": str(folder)}
    )
    dataset_module = importlib.import_module("recbole.data.dataset")
    kind_of_data = dataset_module.MMM4RecDataset if kind == "ours" else dataset_module.SequentialDataset
    parts: dict[str, float] = {}
    clock = Clock(parts)
    for method, part in PARTS.items():
        setattr(kind_of_data, method, clock.timed(part, getattr(kind_of_data, method)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, begin = time.process_time(), time.perf_counter()
    with clock.part("rest"):
        dataset = data.create_dataset(config)
        str(dataset)  # what every run writes to its log
        loaders = data.data_preparation(config, dataset)
    with clock.part("first batch"):
        batch = next(iter(loaders[0]))
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert batch["item_id_list"].shape == (SETTINGS["train_batch_size"], LENGTH)
    samples = [len(loader._dataset) for loader in loaders]
    return {"wall": wall, "cpu": cpu, "memory": (peak - before) / 1024, "parts": parts, "samples": samples}


class Clock:
    """Seconds by part, each without the parts inside it.

    Args:
        seconds: part to its seconds, added to.
    """

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self._running: list[str] = []
        self._since = 0.0

    def part(self, name: str) -> Clock:
        """A context whose time counts for ``name``."""
        self._next = name
        return self

    def __enter__(self) -> None:
        self._switch()
        self._running.append(self._next)

    def __exit__(self, *_: object) -> None:
        self._switch()
        self._running.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] = self.seconds.get(self._running[-1], 0.0) + now - self._since
        self._since = now

    def timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """``method``, whose time counts for ``name``."""

        def timed_method(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return method(*args, **kwargs)

        return timed_method


def write_interactions(path: Path, rows: int, seed: int = 0) -> tuple[int, int]:
    """Write made interactions in the order of time, as a shop's log has them, and vectors of their items.

    Users' activity and items' popularity have long tails (about ten interactions a user, twenty an item); ids look like
    Amazon's, stamps are milliseconds of 2005 to 2023, which float32 rounds to steps of two minutes.

    Returns:
        How many users and items occur.
    """
    random = np.random.default_rng(seed)
    users = (rows // 10 * random.random(rows) ** 1.6).astype(np.int64)
    items = (rows // 20 * random.random(rows) ** 2.5).astype(np.int64)
    times = np.sort(random.integers(1_104_537_600_000, 1_696_118_400_000, size=rows))
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for at in range(0, rows, 100_000):
            part = zip(users[at : at + 100_000], items[at : at + 100_000], times[at : at + 100_000], strict=True)
            file.writelines(f"{_user_token(u)}\t{_item_token(i)}\t{t}\n" for u, i, t in part)
    taken = np.unique(items)
    write_vectors(path.parent, [_item_token(item) for item in taken])
    return len(np.unique(users)), len(taken)


def _item_token(item: int) -> str:
    return f"B{int(item) * _SCRAMBLE % 2**36:09X}"


def _user_token(user: int) -> str:
    return f"A{int(user) * _SCRAMBLE % 2**40:013X}"


def write_vectors(folder: Path, tokens: list[str]) -> None:
    """A store of four-dimensional text vectors of all items: MMM4Rec's data set needs one."""
    from recbole_mmm4rec.features.store import (  # not at the top: RecBole's process must not see it
        store_path,
        write_store,
    )

    write_store(
        store_path(folder, "text"),
        modality="text",
        encoder="made",
        encoder_hash=None,
        encoder_version=None,
        settings={},
        dim=4,
        dtype="float32",
        normalized=False,
        input_hash=None,
        dataset=folder.name,
        items=tokens,
        present=np.ones(len(tokens), dtype=bool),
        chunks=[np.random.default_rng(0).random((len(tokens), 4), dtype=np.float32)],
    )


if __name__ == "__main__":
    raise SystemExit(main())
