"""``embed`` killed at random moments, again and again: the last run ends with the files of an undisturbed one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from picture_server import picture

from dataset_prep.images.files import save_picture

SLOW_RUN = """
import hashlib, pathlib, sys, time
import numpy as np
import dataset_prep.embed.embed as embed
from recbole_mmm4rec.encoders.pictures import need_pillow, read_picture

embed.SHARD_ITEMS = 4
need_pillow()

class Slow:
    version, hash, dim, device, normalized = None, "h", 3, "cpu", False
    def __init__(self, spec):
        self.name, self.settings = spec.name, {"modality": spec.modality}
    def prepare(self, source):
        return source if isinstance(source, str) else read_picture(source).tobytes()
    def encode(self, batch):
        time.sleep(0.02)
        rows = [hashlib.sha256(x.encode() if isinstance(x, str) else x).digest() for x in batch]
        # As with a real encoder, the last bits depend on the others in the batch.
        return np.array([[row[0], row[1], len(batch) + rows[0][2]] for row in rows], dtype=np.float32)

options = embed.EmbedOptions("words", "pictures", batch_size=3, force="--force" in sys.argv)
embed.embed("shop", pathlib.Path(sys.argv[1]), options, Slow)
"""


def write_set(out: Path) -> None:
    (out / "shop/images").mkdir(parents=True)
    lines = "".join(f"i{n}\t{'word ' * (n % 7)}{n}\n" for n in range(60))
    (out / "shop/shop.item").write_text("item_id:token\ttext:token_seq\n" + lines)
    for n in range(0, 60, 2):
        save_picture(out / "shop/images", f"i{n}", picture((4 * n, 255 - 4 * n, 3 * n)) if n % 20 else b"junk", "png")


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", SLOW_RUN, str(out), *more], env=environment, stdout=-3, stderr=-3)


def contents(out: Path) -> dict[str, bytes]:
    files = [file for file in out.rglob("*") if file.is_file()]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


@pytest.mark.parametrize("more", [(), ("--force",)])
def test_killed_at_random_moments(tmp_path: Path, more: tuple[str, ...]) -> None:
    for name in ("whole", "killed"):
        write_set(tmp_path / name)
    begin = time.monotonic()
    assert start(tmp_path / "whole", *more).wait() == 0
    whole = time.monotonic() - begin
    moments = random.Random(len(more))
    killed = 0
    for _ in range(6):
        run = start(tmp_path / "killed", *more)
        time.sleep(whole * moments.uniform(0.2, 0.9))
        run.kill()
        killed += run.wait() < 0
    assert killed > 0
    assert start(tmp_path / "killed", *more).wait() == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert any(name.endswith(".failed.json") for name in contents(tmp_path / "whole"))
