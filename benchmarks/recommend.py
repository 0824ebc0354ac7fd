"""`python -m benchmarks.recommend`: what `mmm4rec recommend` takes for many users, and for many items.

Makes model folders of the paper's sizes with weights that nobody has trained, runs the command on histories as long as
those of Amazon Scientific, and prints seconds by the clock and of the processor, start-up included, and the most memory
that was in use at a time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from benchmarks.machine import stamp
from recbole_mmm4rec.model_folder.contents import Contents
from recbole_mmm4rec.model_folder.write import write_folder
from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable

WIDTH = 384
"""F, as of all-MiniLM-L6-v2."""
CASES = {
    "5 k items, 10,000 users": (5_000, 10_000, ("text", "image")),
    "100 k items, 1,000 users": (100_000, 1_000, ("text", "image")),
    "1 M items, 1,000 users": (1_000_000, 1_000, ("text", "image")),
}
"""Items, users, modalities."""


def make_folder(path: Path, items: int, modalities: Sequence[str], seed: int = 0) -> Path:
    """A model folder of the default sizes with random weights, features and texts; written once."""
    if path.exists():
        return path
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    features = {
        name: FrozenTable(torch.randn(items + 1, WIDTH, generator=draw).half(), finite=True) for name in modalities
    }
    network = MMM4RecNetwork(NetworkConfig(), features).eval().requires_grad_(False)
    for bias in network.items.bias.values():
        bias.normal_(0, 0.02, generator=draw)
    words = np.array(["red", "blue", "light", "large", "small", "tent", "lamp", "rope", "knife", "stove"])
    chosen = np.random.default_rng(seed).integers(0, len(words), (items, 4))
    table = pa.table(
        {
            "item_id": [f"B{number:09d}" for number in range(items)],
            "text": [" ".join(row) for row in words[chosen]],
            "category": words[chosen[:, 0]],
            "popularity": np.arange(items, 0, -1),
            "has_text": np.full(items, "text" in modalities),
            "has_image": np.full(items, "image" in modalities),
        }
    )
    contents = Contents("MMM4Rec", "made", network, network.items.side(), table)
    return write_folder(path, contents)


def write_users(file: Path, users: int, items: int, seed: int = 1) -> Path:
    """Histories of 1 to 20 items, 6 in the mean, with times."""
    draw = np.random.default_rng(seed)
    lines = []
    for user in range(users):
        length = int(min(20, 1 + draw.geometric(1 / 6)))
        history = " ".join(f"B{number:09d}" for number in draw.integers(0, items, length))
        times = " ".join(map(str, np.sort(draw.integers(1_500_000_000, 1_600_000_000, length))))
        lines.append(f"u{user},{history},{times}\n")
    file.write_text("user_id,history,timestamps\n" + "".join(lines))
    return file


def measured(folder: Path, users: Path, target: Path) -> dict[str, float]:
    """Seconds and GiB of one run of the command."""
    target.unlink(missing_ok=True)
    command = [sys.executable, "-m", "recbole_mmm4rec.commands", "recommend", str(folder)]
    begin = time.monotonic()
    with tempfile.TemporaryFile() as told:
        more = ["--input", str(users), "--output", str(target), "--json"]
        process = subprocess.Popen([*command, *more], stdout=told, stderr=told)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        if status:
            told.seek(0)
            sys.exit(told.read().decode())
    spent = used.ru_utime + used.ru_stime
    return {"seconds": seconds, "processor seconds": spent, "GiB at most": used.ru_maxrss / 2**20}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keeps the model folders here, for the next time")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.folder or Path(temporary)
        print(f"{stamp('cpu')['hardware']}; load before: {os.getloadavg()[0]:.1f}", flush=True)
        for name in chosen.only:
            items, users, modalities = CASES[name]
            call = f"make_folder(Path({str(place / str(items))!r}), {items}, {modalities})"
            code = f"from benchmarks.recommend import *; {call}"
            subprocess.run([sys.executable, "-c", code], check=True)  # its memory is not the command's
            file = write_users(place / f"users-{users}-{items}.csv", users, items)
            found = measured(place / str(items), file, place / "lists.csv")
            print(f"{name}: " + ", ".join(f"{value:.1f} {key}" for key, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
