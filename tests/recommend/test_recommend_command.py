"""``mmm4rec recommend`` with one history."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from recbole_mmm4rec.recommend.command import main


def test_a_history_gives_a_readable_table(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model_folder), "--history", "k00 zz k06", "--k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "after  k00  disc for the garden"
    assert lines[3].split() == ["item", "score", "text"]
    assert [line.split()[0] for line in lines[4:7]] == ["1", "2", "3"]
    assert "not in the shop, left out: zz" in lines
    assert lines[-1].startswith("no time stamps")


def test_options_are_the_function_s(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "few.txt").write_bytes("\ufeffk07\r\nk08\n\nk09\n".encode())  # as editors on Windows write it
    more = ["--only", f"@{tmp_path}/few.txt", "--exclude", "k09", "--include-seen", "--json"]
    assert main([str(model_folder), "--history", "k07", "--timestamps", "5", "--k", "9", *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["item"] for entry in found["items"]} == {"k07", "k08"}
    assert found["notes"] == ["only 2 items are left to choose from"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--history", " "], "--history is empty"),
        ([], "--history is missing"),
        (["--history", "k00", "--timestamps", "now"], "'now' is no whole number"),
        (["--history", "k00", "--timestamps", "9" * 5_000], "9' is no whole number"),
        (["--history", "k00", "--where", "category"], "--where category: write COLUMN=VALUE"),
        (["--history", "k00", "--only", "@nowhere"], "--only @nowhere: cannot be read"),
        (["--history", "k00", "--k", "0"], "k=0: must be 1 to 36"),
        (["--history", "k00", "--device", "abacus"], "device='abacus'"),
    ],
)
def test_mistakes_are_told(
    model_folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(model_folder), *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--history", "--only", "--exclude", "--where"])
def test_bytes_that_are_no_text_are_told(model_folder: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(model_folder), "--history", "k00", option, os.fsdecode(b"k01=\xff")])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: argument {option}: 'k01=\\udcff' is no text in UTF-8")
    assert told.count("\n") == 1
