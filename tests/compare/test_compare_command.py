"""The command as it is typed: a whole comparison, killed and finished, with a model that fails."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pattern_shop import NAME, write_pattern_shop
from shop import python
from tiny_comparison import SASREC, write_config

from recbole_mmm4rec.compare.__main__ import main
from recbole_mmm4rec.compare.write import TIMES

MODELS = ["Pop", {"model": "SASRec", "settings": SASREC}, {"name": "Broken", "model": "DeepFM"}]
pytestmark = pytest.mark.usefixtures("forked")
COMMAND = ["-m", "recbole_mmm4rec.compare", "--config", "tiny.yaml", "--data", "."]


@pytest.fixture(scope="module")
def finished_comparison(tmp_path_factory: pytest.TempPathFactory, forked: None) -> tuple[Path, Any]:
    """A folder where the command ran undisturbed, two runs at a time, and what it said."""
    folder = tmp_path_factory.mktemp("comparison")
    write_pattern_shop(folder)
    write_config(folder, models=MODELS)
    return folder, python(*COMMAND, "--out", "out", "--jobs", "2", cwd=folder)


def results(folder: Path) -> list[dict[str, str]]:
    """The lines of results.csv without what differs from run to run."""
    lines = csv.DictReader(io.StringIO((folder / "out" / "results.csv").read_text()))
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def test_what_comes_out(finished_comparison: tuple[Path, Any]) -> None:
    folder, said = finished_comparison
    out = folder / "out"
    names = {"report.html", "results.csv", "runs.jsonl", "table.md", "table.tex", "users.parquet"}
    assert names <= {file.name for file in out.iterdir()}
    assert {file.name for file in (out / "plots").iterdir()} == {f"convergence-{NAME}.{end}" for end in ("png", "svg")}
    assert not (out / "work").exists()
    assert not list(folder.glob("log*"))  # RecBole's own logs go with the runs
    users = pq.read_table(out / "users.parquet").to_pandas()
    assert len(users) == 4 * 40
    means = users.groupby(["row", "seed"])["hit@10"].mean()
    done = [line for line in results(folder) if line["status"] == "done"]
    assert [(line["row"], line["seed"]) for line in done] == [
        (name, seed) for name in ("Pop", "SASRec") for seed in "12"
    ]
    for line in done:
        assert float(line["hit@10"]) == pytest.approx(means[line["row"], int(line["seed"])], abs=1e-9)
    assert "40 users, 30 items, 256 interactions" in (out / "table.md").read_text()
    assert (out / "table.md").read_text().split("\n", 2)[2].strip() in said.stdout


def test_a_model_that_fails_is_recorded_and_does_not_end_the_rest(finished_comparison: tuple[Path, Any]) -> None:
    folder, said = finished_comparison
    assert said.returncode == 1
    failed = [line for line in results(folder) if line["status"] == "failed"]
    assert [(line["row"], line["seed"]) for line in failed] == [("Broken", "1"), ("Broken", "2")]
    assert failed[0]["error"]
    assert re.search(r"failed: Broken on pattern, seed 1: .+ \(log: .+\.log\)", said.stderr)
    assert f"Failed: Broken on pattern, seed 1: {failed[0]['error']}" in (folder / "out" / "table.md").read_text()


def test_the_report_needs_nothing_else(finished_comparison: tuple[Path, Any]) -> None:
    folder, _ = finished_comparison
    text = (folder / "out" / "report.html").read_text()
    assert not re.search(r"""(src|href)=(?!"data:)|@import|url\(|<script|<link""", text)
    plot = re.search(r'src="data:image/svg\+xml;base64,[^"]{1000,}"', text)
    assert plot
    for wanted in ("cores", "torch", "recbole 1.2.1", "--config tiny.yaml", "stopping_step: 2", "What it took"):
        assert wanted in text


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The command in a process that a test can kill."""
    return subprocess.Popen(
        [sys.executable, *COMMAND, "--out", "out"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def running_under(folder: Path) -> list[int]:
    """Processes that stand in a run's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = os.readlink(process / "cwd")
        except OSError:
            continue
        if place.startswith(str(folder / "out" / "work")):
            found.append(int(process.name))
    return found


def wait_for(condition: Any, what: str) -> None:
    """Wait until something is so."""
    for _ in range(12_000):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"in vain: {what}")


def test_killed_in_the_middle_and_finished(finished_comparison: tuple[Path, Any], tmp_path: Path) -> None:
    undisturbed, _ = finished_comparison
    write_pattern_shop(tmp_path)
    write_config(tmp_path, models=MODELS[:2])
    runs = tmp_path / "out" / "runs.jsonl"
    process = start(tmp_path)
    wait_for(lambda: runs.is_file() and runs.read_bytes().count(b"\n") >= 1 and running_under(tmp_path), "a second run")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not running_under(tmp_path), "runs end with the command that was killed")
    kept = runs.read_text()
    with runs.open("a") as file:
        file.write('{"id": "torn')
    assert python(*COMMAND, "--out", "out", cwd=tmp_path).returncode == 0
    assert runs.read_text().startswith(kept)
    assert len(runs.read_text().splitlines()) == 4
    done = [line for line in results(undisturbed) if line["status"] == "done"]
    assert results(tmp_path) == done
    assert not (tmp_path / "out" / "unfinished").exists()


def start_of_40_epochs(folder: Path) -> subprocess.Popen[bytes]:
    """A command whose only run has trained an epoch of 40."""
    write_pattern_shop(folder)
    long = {"model": "SASRec", "settings": {**SASREC, "epochs": 40}}
    write_config(folder, models=[long], seeds=[1], protocol={"MAX_ITEM_LIST_LENGTH": 6, "stopping_step": 100})
    process = start(folder)
    wait_for(lambda: list(folder.glob("out/unfinished/*/*-last.safetensors")), "an epoch")
    return process


def test_a_run_goes_on_after_its_last_epoch(tmp_path: Path) -> None:
    process = start_of_40_epochs(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not running_under(tmp_path), "runs end with the command that was killed")
    assert python(*COMMAND, "--out", "out", cwd=tmp_path).returncode == 0
    (log,) = (tmp_path / "out" / "logs").glob("*.log")
    assert "epoch 0 training" not in log.read_text()
    (found,) = (json.loads(line) for line in (tmp_path / "out" / "runs.jsonl").read_text().splitlines())
    assert (found["status"], found["epochs"], len(found["history"])) == ("done", 40, 40)


def test_a_run_that_was_killed_alone_goes_on_when_tried_again(tmp_path: Path) -> None:
    """As the system does where memory is short: the command goes on, and keeps what the run had."""
    process = start_of_40_epochs(tmp_path)
    (worker,) = running_under(tmp_path)
    os.kill(worker, signal.SIGKILL)
    assert process.wait() == 1
    assert list(tmp_path.glob("out/unfinished/*/*-last.safetensors"))
    assert python(*COMMAND, "--out", "out", "--retry-failed", cwd=tmp_path).returncode == 0
    (log,) = (tmp_path / "out" / "logs").glob("*.log")
    assert "epoch 0 training" not in log.read_text()
    *_, found = (json.loads(line) for line in (tmp_path / "out" / "runs.jsonl").read_text().splitlines())
    assert (found["status"], found["epochs"]) == ("done", 40)
    assert not (tmp_path / "out" / "unfinished").exists()


def test_a_choice_of_rows_removes_nothing_of_the_others(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    write_config(tmp_path, models=MODELS[:2])
    kept = tmp_path / "out" / "unfinished" / "of-another-row"
    kept.mkdir(parents=True)
    assert python(*COMMAND, "--out", "out", "--only", "Pop", cwd=tmp_path).returncode == 0
    assert kept.is_dir()


def test_interrupted(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    endless = {"model": "SASRec", "settings": {**SASREC, "epochs": 10**6}}
    write_config(tmp_path, models=[endless], protocol={"MAX_ITEM_LIST_LENGTH": 6, "stopping_step": 10**6})
    process = subprocess.Popen(
        [sys.executable, *COMMAND, "--out", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: running_under(tmp_path), "a run")
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "interrupted; the same command goes on where it was" in said
    assert "Traceback" not in said
    wait_for(lambda: not running_under(tmp_path), "runs end with the command that was interrupted")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text.replace("seeds", "seds"), r"tiny\.yaml, line \d+: unknown key 'seds'; did you mean 'seeds'"),
        (
            lambda text: text + "published: [VQ-Rec]\n",
            "'VQ-Rec' belongs to data set 'scientific' or .*, which is not in",
        ),
        (lambda text: text + "compare: [Recall@10]\n", r"compare: 'recall@10' is not among the metrics hit@1, hit@10"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(tmp_path: Path, change: Any, complaint: str) -> None:
    write_pattern_shop(tmp_path)
    file = write_config(tmp_path)
    file.write_text(change(file.read_text()))
    ended = python(*COMMAND, "--out", "out", cwd=tmp_path)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert re.match(rf"error: .*{complaint}", ended.stderr)
    assert not (tmp_path / "out").exists()


def test_a_wrong_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pattern_shop(tmp_path)
    file = str(write_config(tmp_path))
    assert main(["--config", file, "--data", str(tmp_path), "--out", file]) == 2
    assert capsys.readouterr().err == f"error: --out {file}: no folder to write to (File exists); name another\n"
    with pytest.raises(SystemExit) as ended:
        main(["--config", file, "--jobs", "0"])
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: argument --jobs: '0' is no whole number, at least 1")


def test_nothing_runs_twice_and_failures_only_when_asked(finished_comparison: tuple[Path, Any]) -> None:
    folder, _ = finished_comparison
    runs = folder / "out" / "runs.jsonl"
    before = runs.read_text()
    assert python(*COMMAND, "--out", "out", cwd=folder).returncode == 1
    assert runs.read_text() == before
    again = python(*COMMAND, "--out", "out", "--only", "Broken", "--retry-failed", "--jobs", "2", cwd=folder)
    assert again.returncode == 1
    added = [json.loads(line) for line in runs.read_text().removeprefix(before).splitlines()]
    assert [record["status"] for record in added] == ["failed", "failed"]
    assert "| Pop" not in again.stdout
