"""The benchmark of the losses: every cell can be measured, and an interrupted run goes on where it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import catalogue
from benchmarks.catalogue_step import GIB, LOSSES, RIVALS, Cell, make_loss, prepare, repeat

OURS = LOSSES[: -len(RIVALS)]


def a_cell(loss: str, ids: bool = True, items: int = 300) -> Cell:
    return Cell(loss, ids, items, "cpu", "float32", 0, 0.0)


@pytest.mark.parametrize("loss", OURS)
def test_a_cell_is_a_training_step(loss: str, tmp_path: Path) -> None:
    step, held = prepare(a_cell(loss), tmp_path)
    assert held() == 0
    result = repeat(a_cell(loss), step, held)
    assert len(result["seconds"]) == 1
    assert result["kept"] > 2 * 301 * 256 * 4  # the optimiser's two means of the ID table, and more
    assert (tmp_path / "features_300.npy").stat().st_size >= 301 * 384 * 2


def test_what_a_cell_needs_grows_as_it_should() -> None:
    plain, chunked = (a_cell(loss, ids=False, items=5_000_000).needs() for loss in OURS[:2])
    assert plain > 50 * GIB  # 5 M × 1,024 logits
    assert chunked == 0
    assert a_cell(OURS[1], items=5_000_000).needs() == pytest.approx(4 * 5e6 * 1024)


def test_a_rival_that_is_not_installed_says_so() -> None:
    with pytest.raises(ImportError):
        make_loss(a_cell("cut-cross-entropy"))


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["catalogue.py", *arguments])
    return catalogue.main()


def test_an_interrupted_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []

    def measure(cell: Cell, scratch: Path) -> dict[str, Any]:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(cell.name)
        if cell.loss == "sampled":
            return {"failed": "does not fit: ran out of memory"}
        return {"seconds": [0.25, 0.5, 1.0], "peak": 3 * GIB, "kept": GIB}

    monkeypatch.setattr(catalogue, "in_a_process", measure)
    arguments = ["--sizes", "100", "--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        run(arguments, monkeypatch)
    first, measured[:] = list(measured), []
    for _ in range(2):  # three at a time: eight cells need three runs
        try:
            assert run(arguments, monkeypatch) == 0
        except KeyboardInterrupt:
            first, measured[:] = [*first, *measured], []
    assert len({*first, *measured}) == len([*first, *measured]) == 2 * len(OURS)
    text = (tmp_path / "catalogue-cpu-float32.md").read_text()
    assert text in capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.startswith("| 100 ")]
    assert len(rows) == 2 * len(OURS)
    assert rows[0] == "| 100 | without | CE, all at once | 0.500 (0.250–1.000) | 3.000 | 1.000 |"
    assert rows[2] == "| 100 | without | sampled | does not fit: ran out of memory |  |  |"
    lines = (tmp_path / "catalogue-cpu-float32.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 1 + 2 * len(OURS)


def test_too_large_a_cell_is_not_even_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "available", lambda device: 10 * GIB)
    result = catalogue.in_a_process(a_cell(OURS[0], items=5_000_000), tmp_path)
    assert result["failed"].startswith("does not fit: at least ")
    assert result["failed"].endswith(" GiB of 10.0")
