"""Kills ``python -m dataset_prep amazon`` at random moments and checks that the next run makes up for it.

After each kill -9 the same command runs to its end, and its files are compared with those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import processor
from prepare_amazon import make_files

COMMAND = ["-m", "dataset_prep", "amazon", "--reviews", "reviews.json", "--meta", "meta.json", "--name", "shop"]


def start(folder: Path, out: str) -> subprocess.Popen[bytes]:
    """Begins a run that writes to ``folder/out``."""
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, *COMMAND, "--out", out]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(folder: Path, out: str) -> dict[str, bytes]:
    """A run to its end, and what it left."""
    if start(folder, out).wait() != 0:
        sys.exit("the command failed")
    return {file.name: file.read_bytes() for file in sorted((folder / out / "shop").iterdir())}


def main() -> None:
    """Kills and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--reviews", type=int, default=300_000, help="how many (default: 300,000)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    parser.add_argument("--quick", action="store_true", help="5 kills, 50,000 reviews")
    arguments = parser.parse_args()
    kills, reviews = (5, 50_000) if arguments.quick else (arguments.kills, arguments.reviews)
    print(f"{processor()}; Python {platform.python_version()}")
    folder = Path(tempfile.mkdtemp())
    try:
        make_files(folder, reviews)
        finish(folder, "undisturbed")
        begin = time.monotonic()
        expected = finish(folder, "again")
        whole = time.monotonic() - begin
        moments = random.Random(arguments.seed)
        struck = same = 0
        for number in range(kills):
            shutil.rmtree(folder / "killed", ignore_errors=True)
            process = start(folder, "killed")
            moment = whole * moments.random()
            time.sleep(moment)
            process.kill()
            hit = process.wait() < 0
            left = sorted(file.name for file in (folder / "killed").rglob("*") if file.is_file())
            equal = finish(folder, "killed") == expected
            struck, same = struck + hit, same + equal
            what = "killed" if hit else "was done before"
            kept, verdict = ", ".join(left) or "nothing", "same" if equal else "OTHER"
            print(f"{number + 1:3} {what} after {moment:.2f} s of {whole:.2f}, left {kept}: {verdict}")
        print(f"{struck} of {kills} runs killed; {same} of {kills} finished with the same files")
        if same < kills:
            sys.exit(1)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
