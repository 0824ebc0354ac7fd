"""Freed memory that is kept: the next step finds its pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from shop import python

from recbole_mmm4rec.training.allocator import keep_freed_memory

FAULTS = """
import resource, sys, torch
from recbole_mmm4rec.training.allocator import keep_freed_memory
print(keep_freed_memory() if {keep} else None)
for _ in range(5):
    torch.ones(2**21)  # 8 MiB, 2048 pages
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**21)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool, folder: Path) -> tuple[str, int]:
    """What the function said, and the pages that ten tensors took anew."""
    done = python("-c", FAULTS.format(keep=keep), cwd=folder, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    said, count = done.stdout.split()
    return said, int(count)


def test_freed_pages_are_found_again(tmp_path: Path) -> None:
    said, kept = faults(True, tmp_path)
    assert said == "True"
    _, fresh = faults(False, tmp_path)
    assert kept < 1000
    assert fresh > 5000


def test_other_systems_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert not keep_freed_memory.__wrapped__()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # another C library
    assert not keep_freed_memory.__wrapped__()
