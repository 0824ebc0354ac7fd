"""Memory and time of a large feature store: writing it, opening it, aligning a sample, reading all of it.

Each step runs in a process of its own. Its memory is the peak of RssAnon in /proc/self/status, sampled every 5 ms: what
the process itself holds. Pages of the mapped table (RssFile) are the kernel's cache: it drops them when anybody needs
the memory. The peak of everything together (VmHWM) is printed beside it.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import processor
from recbole_mmm4rec.features.store import FeatureStore, store_path, write_store

LIMIT_MIB = 1024
STEPS = ("write", "align", "stream")
CHUNK = 8_192


def main() -> int:
    """Runs the steps and says whether each stays within the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2_000_000, help="rows (default: 2,000,000)")
    parser.add_argument("--dim", type=int, default=768, help="numbers a row, float16 (default: 768)")
    parser.add_argument("--sample", type=float, default=0.1, help="share of the items to align (default: 0.1)")
    parser.add_argument("--quick", action="store_true", help="20,000 items")
    parser.add_argument("--folder", type=Path, help="where to put the store (default: a temporary folder)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    items = 20_000 if arguments.quick else arguments.items
    if arguments.step:
        return run_step(arguments.step, arguments.folder, items, arguments.dim, arguments.sample)
    print(f"{processor()}, Python {platform.python_version()}, NumPy {np.__version__}")
    print(f"{items:,} items x {arguments.dim} float16 = {items * arguments.dim * 2 / 2**30:.2f} GiB")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        shape = ["--items", str(items), "--dim", str(arguments.dim), "--sample", str(arguments.sample)]
        codes = [
            subprocess.run([sys.executable, __file__, "--step", step, "--folder", folder, *shape]).returncode
            for step in STEPS
        ]
    return max(codes)


def run_step(step: str, folder: Path, items: int, dim: int, sample: float) -> int:
    """One step, in this process; 1 if it took too much memory."""
    path = store_path(folder / "shop", "text")
    begin = time.perf_counter()
    with peak_memory() as peak:
        if step == "write":
            write(path, items, dim)
        elif step == "align":
            store = FeatureStore.open(path)
            rows = np.random.default_rng(1).permutation(items)[: int(items * sample)].tolist()
            vectors, present = store.align([token(row) for row in rows])
            assert vectors.shape == (len(rows), dim)
            assert present.all()
        else:
            store = FeatureStore.open(path)
            total = sum(float(store.table[at : at + CHUNK].astype(np.float32).sum()) for at in range(0, items, CHUNK))
            assert np.isfinite(total)
    seconds = time.perf_counter() - begin
    good = peak["anon"] <= LIMIT_MIB
    print(
        f"{step:>6}: {seconds:6.1f} s, peak {peak['anon']:,.0f} MiB held, {peak['all']:,.0f} MiB with mapped pages; "
        f"{'within' if good else 'MORE THAN'} {LIMIT_MIB:,} MiB"
    )
    return 0 if good else 1


def write(path: Path, items: int, dim: int) -> None:
    """A store of random numbers, handed over in chunks."""
    write_store(
        path,
        modality="text",
        encoder="random",
        encoder_hash=None,
        encoder_version=None,
        settings={},
        dim=dim,
        dtype="float16",
        normalized=False,
        input_hash=None,
        dataset="shop",
        items=[token(row) for row in range(items)],
        present=np.ones(items, dtype=bool),
        chunks=chunks(items, dim),
    )


def chunks(items: int, dim: int) -> Iterator[np.ndarray]:
    """Blocks of random float32 rows."""
    generator = np.random.default_rng(0)
    for start in range(0, items, CHUNK):
        yield generator.standard_normal((min(CHUNK, items - start), dim), dtype=np.float32)


def token(row: int) -> str:
    """A token as long as Amazon's."""
    return f"B{row:09d}"


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Peaks in MiB, filled when it ends."""
    peak = {"anon": 0.0, "all": 0.0}
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.005):
            peak["anon"] = max(peak["anon"], status()["RssAnon"])

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
        peak["all"] = status()["VmHWM"]


def status() -> dict[str, float]:
    """Memory fields of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}


if __name__ == "__main__":
    sys.exit(main())
