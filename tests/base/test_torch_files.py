"""PyTorch's files of tensors: refused in few words and in little time, whatever they name."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from recbole_mmm4rec.base.torch_files import load_tensors


def test_tensors_come_back(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3)}, tmp_path / "a.pt")
    for mapped in (False, True):
        assert load_tensors(tmp_path / "a.pt", mapped)["a"].tolist() == [0, 1, 2]


def test_the_search_for_a_reason_sees_the_beginning_alone(tmp_path: Path) -> None:
    """A name of a hundred thousand characters took minutes: PyTorch's pattern tries each pair of its places."""
    file = tmp_path / "a.pth"
    torch.save([torch.ones(1)], file, _use_new_zipfile_serialization=False)
    start = file.read_bytes().index(b"ctorch._utils")
    file.write_bytes(file.read_bytes()[:start] + b"c" + b"[" * 100_000 + b"\nx\n.")
    with pytest.raises(pickle.UnpicklingError):
        load_tensors(file)
    assert torch.serialization.re.search(r"\S$", "a" * 2_000 + " ") is not None  # type: ignore[attr-defined]
    assert torch.serialization.re.compile("a").search("a")  # type: ignore[attr-defined]
