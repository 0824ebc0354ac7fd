"""A download that is killed in the middle of a file goes on from what came, and the file is whole."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from file_server import served

from dataset_prep.images.client import FetchLimits
from dataset_prep.sources.amazon.download import download
from dataset_prep.sources.amazon.public_files import PublicFile

pytestmark = pytest.mark.usefixtures("own_folder")
CONTENT = bytes(range(256)) * 10_000
FILE = PublicFile("big.bin", hashlib.sha256(CONTENT).hexdigest())
LIMITS = FetchLimits(retries=0, timeout=60, allow_private=True)
FETCHES = """
import sys
from pathlib import Path
from dataset_prep.images.client import FetchLimits
from dataset_prep.sources.amazon.download import download
from dataset_prep.sources.amazon.public_files import PublicFile
download([PublicFile("big.bin", sys.argv[2])], sys.argv[1], Path("raw"), FetchLimits(timeout=60, allow_private=True))
"""


def test_a_download_killed_within_a_file_goes_on() -> None:
    part = Path("raw/.big.bin.part")
    with served({"/big.bin": CONTENT}) as server:
        server.waits["/big.bin"] = 1_000_000
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", FETCHES, server.url, str(FILE.sha256)]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not (part.is_file() and part.stat().st_size > 900_000):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        here = part.stat().st_size
        server.go.set()
        (whole,) = download([FILE], server.url, Path("raw"), LIMITS)
        assert whole.read_bytes() == CONTENT
        assert server.asked == [("/big.bin", None), ("/big.bin", f"bytes={here}-")]
