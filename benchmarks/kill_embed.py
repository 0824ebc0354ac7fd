"""Kills ``images`` and ``embed`` at random moments and checks that the next run makes up for it.

A data set of drawn pictures and made-up titles is fetched from a server on loopback and encoded with the packaged
encoders. After each kill -9 the same command runs to its end, and all files of the data set (stores, cache, pictures,
report) are compared with those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from machine import processor
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def make_set(folder: Path, url: str, items: int) -> None:
    """Pictures to serve, and a data set that names them; every tenth is no picture, every seventh is not there."""
    served, target = folder / "served", folder / "start/shop"
    served.mkdir()
    target.mkdir(parents=True)
    rows = ["item_id:token\ttext:token_seq\timage:token\n"]
    for number in range(items):
        digest = hashlib.sha256(str(number).encode()).digest()
        image = Image.frombytes("RGB", (3, 3), digest[:27]).resize((160, 160), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        if number % 7:
            (served / f"{number}.jpg").write_bytes(buffer.getvalue() if number % 10 else b"<html>")
        words = " ".join(digest[at : at + 2].hex() for at in range(0, 2 + digest[0] % 20, 2))
        rows.append(f"i{number}\t{words}\t{url}/{number}.jpg\n")
    (target / "shop.item").write_text("".join(rows))


def start(out: Path, command: str) -> subprocess.Popen[bytes]:
    """Begins a run on ``out``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    line = [sys.executable, "-m", "dataset_prep", *command.split(), "--out", str(out)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(out: Path, command: str) -> dict[str, str]:
    """A run to its end, and the hashes of what it left."""
    if start(out, command).wait() != 0:
        sys.exit(f"the command failed: {command}")
    files = [file for file in sorted(out.rglob("*")) if file.is_file()]
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def check(folder: Path, command: str, kills: int, moments: random.Random) -> int:
    """Kills one command ``kills`` times; the number of runs that did not end as the undisturbed one."""
    before = folder / "start"
    undisturbed = shutil.copytree(before, folder / "undisturbed")
    begin = time.monotonic()
    expected = finish(undisturbed, command)
    whole = time.monotonic() - begin
    struck = same = 0
    for number in range(kills):
        out = shutil.copytree(before, folder / "killed")
        process = start(out, command)
        moment = whole * moments.random()
        time.sleep(moment)
        process.kill()
        hit = process.wait() < 0
        shards = len(list(out.rglob("*.keys")))
        pictures = len(list(out.glob("shop/images/*")))
        equal = finish(out, command) == expected
        struck, same = struck + hit, same + equal
        verdict = "same" if equal else "OTHER"
        print(
            f"{number + 1:3} {'killed' if hit else 'was done before'} after {moment:.2f} s of {whole:.2f}, "
            f"left {pictures} pictures, {shards} shards: {verdict}",
            flush=True,
        )
        shutil.rmtree(out)
    print(f"{command}: {struck} of {kills} runs killed; {same} of {kills} finished with the same files")
    shutil.rmtree(before)
    undisturbed.rename(before)  # the next command goes on from here
    return kills - same


def main() -> int:
    """Kills and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each command (default: 20)")
    parser.add_argument("--items", type=int, default=3_000, help="how many (default: 3,000)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    parser.add_argument("--quick", action="store_true", help="3 kills, 1,300 items")
    arguments = parser.parse_args()
    kills, items = (3, 1_300) if arguments.quick else (arguments.kills, arguments.items)
    print(f"{processor()}; Python {platform.python_version()}")
    folder = Path(tempfile.mkdtemp())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    moments = random.Random(arguments.seed)
    try:
        make_set(folder, f"http://127.0.0.1:{server.server_address[1]}", items)
        fetch = "images shop --allow-private-addresses --concurrency 4"
        embed = "embed shop --text-encoder all-MiniLM-L6-v2 --image-encoder efficientnet-lite0 --device cpu"
        return 1 if check(folder, fetch, kills, moments) + check(folder, embed, kills, moments) else 0
    finally:
        server.shutdown()
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
