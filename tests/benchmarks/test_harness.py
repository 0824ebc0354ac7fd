"""The harness: resuming, publishing, failing, and the functions that judge peers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import __main__ as harness
from benchmarks import figures, machine, page, peers, race, results_log, scripts, suite
from benchmarks.suite import Options
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.features.store import store_path, write_store


def report(found: Mapping[str, Any]) -> str:
    return f"cells: {', '.join(found)}"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One suite of three cells; which cells ran."""
    ran: list[str] = []
    toy_suite = SimpleNamespace(TITLE="Toy", ABOUT="About it.", cells=lambda _: ["a", "b", "c"], report=report)
    monkeypatch.setattr(suite, "SUITES", {"toy": "", "other": ""})
    monkeypatch.setattr(suite, "load", lambda name: toy_suite)
    monkeypatch.setattr(harness, "STATE", tmp_path / "state")

    def run_cell(name: str, cell: str, options: Options) -> Any:
        ran.append(cell)
        return {"value": cell}

    monkeypatch.setattr(harness, "run_cell", run_cell)
    return ran


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--only", "toy", "--results", str(folder / "results"), "--out", str(folder / "page.md"), *more]


def test_an_interrupted_run_goes_on(tmp_path: Path, toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = harness.run_cell

    def interrupted(name: str, cell: str, options: Options) -> Any:
        if cell == "b":
            raise KeyboardInterrupt
        return whole(name, cell, options)

    monkeypatch.setattr(harness, "run_cell", interrupted)
    assert harness.main(arguments(tmp_path)) == harness.INTERRUPTED
    assert not (tmp_path / "page.md").exists()
    assert not (tmp_path / "results").exists()
    monkeypatch.setattr(harness, "run_cell", whole)
    assert harness.main(arguments(tmp_path)) == 0
    assert toy == ["a", "b", "c"]
    assert "## Toy\n\nAbout it." in (tmp_path / "page.md").read_text()
    assert harness.main(arguments(tmp_path)) == 0  # a finished run begins anew
    assert toy == ["a", "b", "c"] * 2


def test_other_options_begin_anew(tmp_path: Path, toy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"machine": "this"}
    path = tmp_path / "run.jsonl"
    results_log.RunLog(path, run).add("toy", "a", {}, 1)
    assert results_log.RunLog(path, run).found["toy", "a"]["result"] == 1
    with path.open("a") as handle:
        handle.write('{"suite": "toy", "ce')  # killed while writing
    assert list(results_log.RunLog(path, run).found) == [("toy", "a")]
    other = results_log.RunLog(path, {"machine": "another"})
    assert other.found == {}
    other.add("toy", "b", {}, 2)
    assert results_log.RunLog(path, run).found == {}
    for number, cell in enumerate("ab", 1):  # hours of work are not thrown away
        kept = path.with_name(f"run.jsonl.old{number}").read_text().splitlines()
        assert [json.loads(line).get("cell") for line in kept] == [None, cell]


def test_left_out_suites_keep_their_figures(tmp_path: Path, toy: list[str]) -> None:
    kept = {"suite": "other", "cell": "old", "stamp": machine.stamp("cpu") | {"date": "2001-02-03"}, "result": {}}
    results_log.publish(tmp_path / "results", "other", "cpu", [kept])
    assert harness.main(arguments(tmp_path)) == 0
    text = (tmp_path / "page.md").read_text()
    assert "2001-02-03" in text
    assert "cells: old" in text
    assert "cells: a, b, c" in text
    assert machine.processor() in text


def test_a_failed_cell_is_named_and_the_rest_goes_on(
    tmp_path: Path, toy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "run_cell", lambda name, cell, options: {"failed": "exit 9"} if cell == "b" else {})
    assert harness.main(arguments(tmp_path)) == 1
    text = (tmp_path / "page.md").read_text()
    assert "cells: a, c" in text
    assert "b (exit 9)" in text


def test_quick_publishes_nothing(tmp_path: Path, toy: list[str]) -> None:
    assert harness.main(["--only", "toy", "--quick"]) == 0
    assert [path.name for path in (tmp_path / "state" / "quick").iterdir()] == ["toy.cpu.jsonl"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--only", "stepps"], "--only stepps: on cpu there are"),
        (["--device", "cuda", "--only", "peers"], "on cuda there are steps, floor, scan, catalogue"),
        (["--against", "nothing.py"], "no such Python file"),
        (["--against", __file__], "there is no function train_step(batch)"),
        (["--only", "steps", "--out", "/proc/nothing/page.md"], "--out /proc/nothing/page.md: nothing can be written"),
        (["--only", "steps", "--results", "/proc/nothing/at/all"], "nothing can be written there"),
        (["--max-seconds", "0"], "--max-seconds must be above 0"),
    ],
)
def test_mistakes(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        harness.main(given)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_users_mistake_in_a_cell_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "STATE", tmp_path)
    given = ["--only", "peers", "--quick", "--data-path", str(tmp_path / "nothing")]
    assert harness.main(given) == 2


def test_an_interruption_ends_what_the_cell_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that starts a process of its own: both are gone when the wait is interrupted."""
    pids = tmp_path / "pids"
    program = (
        "import os, pathlib, subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "part = pathlib.Path(sys.argv[1] + '.part')\n"
        "part.write_text(f'{os.getpid()} {inner.pid}')\n"
        "part.rename(sys.argv[1])\n"
        "time.sleep(60)\n"
    )
    wait = subprocess.Popen.wait

    def interrupted(process: Any, timeout: float | None = None) -> int:
        if not pids.exists():
            while not pids.exists():
                time.sleep(0.01)
            raise KeyboardInterrupt
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        harness._run_to_its_end([sys.executable, "-c", program, str(pids)])
    for pid in pids.read_text().split():
        for _ in range(500):
            state = Path(f"/proc/{pid}/stat")
            if not state.exists() or state.read_text().split()[2] == "Z":
                break
            time.sleep(0.01)
        else:
            pytest.fail(f"process {pid} is still there")


def test_figures() -> None:
    assert figures.ratios([4.0, 9.0], [2.0, 3.0]) == [2.0, 3.0]
    assert figures.spread([2.0, 3.0, 2.2]) == "2.20 (2.00–3.00)"
    assert figures.milliseconds([1.0, 1.2, 1.4]) == "1,200 (1,100–1,300)"
    assert figures.table(["a", "b"], [[1, 2]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    with pytest.raises(ValueError, match="shorter"):
        figures.ratios([1.0], [])


def test_hits_by_hand() -> None:
    scores = torch.tensor([[-torch.inf, 3.0, 2.0, 1.0], [-torch.inf, 1.0, 1.0, 1.0], [-torch.inf, 1.0, 2.0, 3.0]])
    assert race.hits(scores, torch.tensor([2, 3, 1]), k=2).tolist() == [True, True, False]
    assert race.hits(scores, torch.tensor([-1, -1, 3]), k=2).tolist() == [False, False, True]
    with pytest.raises(ValueError, match="NaN"):
        race.hits(torch.full((1, 2), float("nan")), torch.tensor([1]))


def test_a_race_ends_with_patience_or_time() -> None:
    def batches(good: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(torch.arange(12.0)[None], torch.tensor([11 if good else 0]))]

    watched = race.Race(1000.0, "it")
    verdicts = [watched.epoch(1.0, lambda good=number == 1: batches(good)) for number in range(7)]
    assert watched.best == 2
    assert verdicts == [True] * 6 + [False]
    short = race.Race(2.5, "it")
    assert [short.epoch(1.0, lambda: batches(True)) for _ in range(3)] == [True, True, False]
    line = peers.row("it", {**short.result(1_000_000), "dataset": "d"})
    assert line[4:6] == ["≥ 1.0000 (epoch 1)", "≥ 1"]
    assert peers.row("it", watched.result(1))[5] == "2"


def test_arrays_hold_out_the_last_two(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    lines = ["u1\ta\t1", "u2\tb\t1", "u1\tb\t2", "u1\tc\t4", "u2\tc\t9", "u2\td\t10", "u1\td\t3"]
    (folder / "tiny.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n")
    write_store(
        store_path(folder, "text"),
        modality="text",
        encoder="made",
        encoder_hash=None,
        encoder_version=None,
        settings={},
        dim=1,
        dtype="float32",
        normalized=False,
        input_hash=None,
        dataset="tiny",
        items=list("dcba"),
        present=np.ones(4, dtype=bool),
        chunks=[np.array([[4], [3], [2], [1]], np.float32)],
    )
    made = peers.arrays(folder, length=2)
    assert sorted(zip(made["users"].tolist(), made["features"][made["items"], 0].tolist(), strict=True)) == [
        (1, 1.0),
        (1, 2.0),
        (2, 2.0),
    ]
    assert made["features"][made["histories"], 0].tolist() == [[1.0, 2.0], [0.0, 2.0]]
    assert made["features"][made["targets"], 0].tolist() == [4.0, 3.0]


def test_no_data_set_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither 'scientific' nor 'ml-100k'"):
        peers.dataset_folder(Options(data_path=str(tmp_path)))


def test_an_absent_peer_says_so(tmp_path: Path) -> None:
    found = peers.run_rectools(tmp_path, tmp_path / "python", tmp_path, 1.0)
    assert "RecTools was not installed" in peers.report({peers.UNISREC: found})


@pytest.mark.parametrize(("code", "bound"), [(0, True), (1, False)])
def test_a_scripts_output_goes_into_the_page(
    code: int, bound: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "it.py").write_text(f"print('12 s'); raise SystemExit({code})")
    monkeypatch.setattr(scripts, "ROOT", tmp_path)
    script = scripts.Script("It", "About.", "it.py")
    found = script.measure(Options(), script.cells(Options())[0])
    assert found == {"output": "12 s\n", "bound": bound}
    text = script.report({"it.py": found})
    assert text.startswith("```text\n12 s\n```")
    assert ("misses" in text) is not bound


def test_a_scripts_table_stands_on_its_own() -> None:
    output = "AMD EPYC\n| a | b |\n|---|---|\n| 1 | 2 |\n\nMedian 3\n"
    text = scripts.Script("It", "About.", "it.py").report({"it.py": {"output": output, "bound": True}})
    assert text == "AMD EPYC\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nMedian 3"


def test_a_script_that_breaks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match=r"it.py ended with 2"):
        scripts.Script("It", "About.", "it.py").measure(Options(), "it.py")


def test_every_suite_can_be_loaded_and_keeps_the_interface() -> None:
    for name in suite.SUITES:
        found = suite.load(name)
        assert found.TITLE
        assert found.ABOUT
        assert found.cells(Options())
    assert json.dumps(machine.stamp("cpu"))
    assert "On a GPU" in page.page(Path("nowhere"), Path("nowhere"))
