"""A model folder that is none, cut off or changed: every command says so in one line, before PyTorch is imported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from more_items import state_of
from shop import python

from recbole_mmm4rec.commands.__main__ import main

COMMANDS = {
    "recommend": ["--history", "k01"],
    "explain": ["--history", "k01", "--item", "k02"],
    "search": ["--text", "ring"],
    "export": ["--faiss", "exact"],
    "add": ["new.jsonl"],
    "update": ["--interactions", "today.csv"],
    "serve": ["--port", "0"],
}


def hand(folder: Path, name: str, old: str, new: str) -> None:
    """Change a file by hand."""
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def cut(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def flipped(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 0x41
    (folder / name).write_bytes(content)


def as_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda folder: cut(folder, "weights.safetensors"), "weights.safetensors: has "),
    "a byte": (lambda folder: flipped(folder, "item_side.safetensors"), "item_side.safetensors: changed since it was"),
    "a picture's byte": (lambda folder: flipped(folder, "pictures.arrow"), "pictures.arrow: changed since it was"),
    "a feature's byte": (
        lambda folder: flipped(folder, "features/text.safetensors"),
        "text.safetensors: changed since",
    ),
    "newer": (
        lambda folder: hand(folder, "manifest.json", '"format": 1', '"format": 99'),
        "of format 99, this program ",
    ),
    "settings": (
        lambda folder: hand(folder, "settings.json", '"max_len": 8', '"max_len": 9'),
        "settings.json: changed",
    ),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        "no model folder, there is no manifest.json in",
    ),
    "a file": (as_file, "there is no such model folder"),
    "nothing": (shutil.rmtree, "there is no such model folder"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_wrong_with_a_folder_is_one_line(
    folder_copy: Path, change: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder_copy.parent)
    do, told = CHANGES[change]
    do(folder_copy)
    before = state_of(folder_copy.parent)
    for command, more in COMMANDS.items():
        assert main([command, "model", *more]) == 2, command
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1, said.err
        assert told in said.err, command
    assert state_of(folder_copy.parent) == before


def test_it_is_said_before_pytorch_is_imported(folder_copy: Path) -> None:
    hand(folder_copy, "settings.json", '"max_len": 8', '"max_len": 9')
    code = "import json, sys\nfrom recbole_mmm4rec.commands.__main__ import main\n"
    code += f"for words in {list(COMMANDS.items())!r}:\n"
    code += "    assert main([words[0], 'model', *words[1]]) == 2\n"
    code += "print(json.dumps([name for name in ('torch', 'pyarrow', 'fastapi', 'recbole') if name in sys.modules]))"
    done = python("-c", code, cwd=folder_copy.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("settings.json: changed since it was written") == len(COMMANDS)
    assert json.loads(done.stdout) == []
