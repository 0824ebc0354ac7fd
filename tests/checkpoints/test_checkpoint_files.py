"""Checkpoints of others: tensors come out, nothing is run."""

from __future__ import annotations

import os
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import prepared
from torch import nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.checkpoints.reading import StandIn, read_checkpoint, tensors

WEIGHTS = {"a": torch.arange(6.0).view(2, 3)}


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


class Lookup:
    """Calls a built-in function when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, ("word", "upper")


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_not_run(tmp_path: Path, protocol: int, zipped: bool) -> None:
    path, sign = tmp_path / "evil.pth", tmp_path / "sign"
    for thing in (Command(f"touch {sign}"), Lookup()):
        content = {"model": WEIGHTS, "extra": thing}
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        message = refusal(path)
        if zipped:
            assert "posix.system" in message or "getattr" in message
    path.write_bytes(pickle.dumps(Command(f"touch {sign}"), protocol))
    refusal(path)
    assert not sign.exists()
    pickle.loads(path.read_bytes())
    assert sign.exists()  # what would have been seen


def test_objects_that_recbole_saves_are_stand_ins(tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    torch.save({"model": WEIGHTS, "extra": nn.Linear(2, 2)}, path)
    content = read_checkpoint(path)
    assert torch.equal(content["model"]["a"], WEIGHTS["a"])
    assert isinstance(content["extra"], StandIn)
    assert not isinstance(content["extra"], nn.Module)


@pytest.mark.usefixtures("own_folder")
def test_a_checkpoint_of_the_trainer(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=1)
    run.trainer.fit(run.train, run.valid)
    content = read(run.trainer.saved_model_file)
    assert content["config"]["hidden_size"] == 16
    assert content["config"]["model"] == "MMM4Rec"
    weights = tensors(content["state_dict"])
    assert weights is not None
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weights[name], weight)
    assert content["valid_history"] == [tuple(entry) for entry in run.trainer.valid_history]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80", b"\x80\x04N.", b"PK\x03\x04nothing"])
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    refusal(path)


def test_other_things(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing.pth")
    assert "is no file" in refusal(tmp_path)
    path = tmp_path / "list.pth"
    torch.save([torch.ones(1)], path)
    assert "holds a list" in refusal(path)
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    assert "TorchScript" in refusal(path)


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save({"model": {"a": torch.ones(1000)}}, path)
    whole = path.read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize("mapping", [None, {}, [1], {"a": 1}, {1: torch.ones(1)}, {"a": torch.ones(1), "b": None}])
def test_what_is_no_state_dict(mapping: Any) -> None:
    assert tensors(mapping) is None


def mutated(content: bytes, number: int) -> bytes:
    """A file with a few bytes changed, a piece taken out, or a piece doubled; the same for the same number."""
    draw = random.Random(number)
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = draw.randrange(len(damaged))
        kind = draw.randrange(4)
        if kind == 0:
            damaged[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            damaged[at : at + 8] = draw.randbytes(8)
        elif kind == 2:
            del damaged[at : at + draw.randrange(1, 64)]
        else:
            damaged[at:at] = b"\xff" * draw.randrange(1, 9)
    return bytes(damaged)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_end_in_one_line(tmp_path: Path, zipped: bool) -> None:
    """Whatever zip, pickle and PyTorch's readers make of them, claims of a size that no memory has among it."""
    path = tmp_path / "file.pth"
    state = {"model": WEIGHTS, "config": {"a": [1, 2.5, None, "x"]}, "valid_history": [(1, 0.5, {"hit": 0.1})]}
    torch.save(state, path, pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    content, told = path.read_bytes(), []
    for number in range(300):
        path.write_bytes(mutated(content, number))
        try:
            assert isinstance(read_checkpoint(path), dict)
        except UserError as error:
            told.append(str(error))
    assert len(told) > 30
    assert not any("\n" in line for line in told)


@pytest.mark.parametrize("error", [MemoryError(), struct.error("bad"), AssertionError(), zipfile.BadZipFile("bad")])
def test_whatever_a_reader_raises_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    path = tmp_path / "file.pth"
    torch.save({"a": 1}, path)

    def failing(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(torch, "load", failing)
    assert "cannot be read: " in refusal(path)
