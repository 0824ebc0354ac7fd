"""Freed memory that is kept for the next step: what the C library is asked for, and where it is asked."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shop import python

from recbole_mmm4rec.training.allocator import keep_freed_memory

MALLOC_H = {"M_TRIM_THRESHOLD": -1, "M_TOP_PAD": -2, "M_MMAP_THRESHOLD": -3}


@pytest.mark.parametrize("taken", [1, 0])
def test_glibc_is_asked_to_keep_blocks_of_32_mib(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    asked: dict[int, int] = {}

    def mallopt(key: ctypes.c_int, value: ctypes.c_int) -> int:
        asked[key.value] = value.value
        return taken

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: SimpleNamespace(gnu_get_libc_version=None, mallopt=mallopt))
    assert keep_freed_memory.__wrapped__() == bool(taken)
    assert asked[MALLOC_H["M_TRIM_THRESHOLD"]] == 2**31 - 1  # never given back
    if taken:
        assert asked == dict(zip(MALLOC_H.values(), (2**31 - 1, 2**26, 2**25), strict=True))


@pytest.mark.parametrize(
    ("system", "library"),
    [("darwin", SimpleNamespace(gnu_get_libc_version=None, mallopt=lambda *_: 1)), ("linux", SimpleNamespace())],
)
def test_other_systems_and_libraries_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, system: str, library: Any
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    assert keep_freed_memory.__wrapped__() is False


STEPS = """
import resource, torch
from recbole_mmm4rec.training.allocator import keep_freed_memory
glibc = keep_freed_memory()
def step():
    return [torch.ones(2**22) for _ in range(10)]  # 16 MiB each, 4,096 pages
for _ in range(4):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(glibc, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_step_finds_the_pages_of_the_last_one(tmp_path: Path) -> None:
    done = python("-c", STEPS, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    glibc, pages = done.stdout.split()
    assert glibc == "False" or int(pages) < 4096
