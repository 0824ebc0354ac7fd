"""A run that is killed at any moment, and started again, leaves what an undisturbed one leaves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from amazon_files import make_reviews, meta_record, review_record, to_line, write

COMMAND = ["amazon", "--reviews", "reviews.gz", "--meta", "meta", "--name", "shop", "--k-core", "2"]
# Runs the command and kills the process at the n-th time that a file is about to be moved into its place.
DIES = """
import os, signal, sys
from dataset_prep.cli import main
moves, replace = int(sys.argv[1]), os.replace
def dying(source, target):
    global moves
    if moves == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    moves -= 1
    replace(source, target)
os.replace = dying
sys.exit(main(sys.argv[2:]))
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )


def written(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What an undisturbed run leaves; its command reads line by line, which takes a while."""
    monkeypatch.chdir(tmp_path)
    lines = [to_line(review_record(row, 2018)) for row in make_reviews(users=3_000, items=40, each=10)]
    write(tmp_path / "reviews.gz", [*lines, "broken\n"])
    write(tmp_path / "meta", [to_line(meta_record(number, 2018)) for number in range(40)])
    assert start("-m", "dataset_prep", *COMMAND, "--out", "undisturbed").wait() == 0
    return written(Path("undisturbed/shop"))


def test_a_run_killed_at_any_moment_is_finished_by_the_next(undisturbed: dict[str, bytes]) -> None:
    begin = time.monotonic()
    assert start("-m", "dataset_prep", *COMMAND).wait() == 0
    whole = time.monotonic() - begin
    lot = random.Random(3)
    killed = 0
    for _ in range(5):
        for file in Path("dataset/shop").iterdir():
            if lot.random() < 0.5:
                file.unlink()
        process = start("-m", "dataset_prep", *COMMAND)
        time.sleep(whole * lot.uniform(0.1, 0.9))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed > 0
    assert start("-m", "dataset_prep", *COMMAND).wait() == 0
    assert written(Path("dataset/shop")) == undisturbed
    assert sorted(os.listdir("dataset")) == ["shop"]


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_run_killed_between_two_files_is_finished_by_the_next(undisturbed: dict[str, bytes], moves: int) -> None:
    # Another set of this name is there, and is to be replaced: at worst a mixture of both.
    other = ["-m", "dataset_prep", *COMMAND, "--min-rating", "3", "--text-fields", "title"]
    assert start(*other).wait() == 0
    assert written(Path("dataset/shop")).keys() == undisturbed.keys()
    assert start("-c", DIES, str(moves), *COMMAND, "--force").wait() == -signal.SIGKILL
    assert written(Path("dataset/shop")) != undisturbed
    assert start("-m", "dataset_prep", *COMMAND, "--force").wait() == 0
    assert written(Path("dataset/shop")) == undisturbed
