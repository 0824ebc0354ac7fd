"""The command as a whole: help of every part, interruptions, one command at a time on a data set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataset_prep.cli import COMMANDS, main
from recbole_mmm4rec.base.locks import alone

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def start(code: str, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(line, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# A module that takes a while, and takes whatever stops it for its absence.
IMPORTING = """
import importlib.abc, runpy, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
slow = sys.argv.pop(1)

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == slow:
            print("importing", flush=True)
            try:
                time.sleep(60)
            except BaseException:
                raise ImportError(f"no {name}") from None

sys.meta_path.insert(0, Slow())
runpy.run_module("dataset_prep", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("dataset_prep.cli", "demo"),
        ("dataset_prep.sources.demo.command", "demo"),
        ("PIL", "demo"),
        ("dataset_prep.embed.embed", "embed demo"),
        ("torch", "embed demo"),
        ("duckdb", "amazon --reviews r --meta r --name s"),
    ],
)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_in_an_import(tmp_path: Path, module: str, line: str, number: int, status: int) -> None:
    """What is imported takes the interruption for a package that is missing; the command does not."""
    (tmp_path / "dataset/demo").mkdir(parents=True)
    (tmp_path / "dataset/demo/demo.item").write_text("item_id:token\ttext:token_seq\na\tA\n")
    process = start(IMPORTING, module, *line.split(), cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    said, error = process.communicate(timeout=600)
    assert (process.returncode, said, error) == (status, "", "interrupted; the same command goes on\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_at_work(tmp_path: Path, number: int, status: int) -> None:
    code = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "runpy.run_module('dataset_prep', run_name='__main__')"
    process = start(code, "demo", "--items", "40000", "--users", "10", cwd=tmp_path)
    pictures = tmp_path / "dataset/demo/images"
    while not (pictures.is_dir() and os.listdir(pictures)):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said, error = process.communicate(timeout=600)
    assert (process.returncode, said, error) == (status, "", "interrupted; the same command goes on\n")
    assert not (tmp_path / "dataset/demo/.lock").exists()


def test_nobody_need_read_what_is_said(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("user_id,item_id,timestamp\nu,a,1\n")
    (tmp_path / "p.csv").write_text("item_id,text\na,A\n")
    reading, writing = os.pipe()
    os.close(reading)
    code = "import runpy; runpy.run_module('dataset_prep', run_name='__main__')"
    line = ["table", "--interactions", "i.csv", "--items", "p.csv", "--name", "pipe"]
    command = [sys.executable, "-c", code, *line]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "dataset/pipe/pipe.item").exists()


def test_every_command_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("--help", *(f"{name} --help" for name in COMMANDS)):
        with pytest.raises(SystemExit) as stopped:
            main(line.split(), prog="mmm4rec prep")
        assert stopped.value.code == 0
        assert f"usage: mmm4rec prep {line.removesuffix('--help')}".rstrip() in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from dataset_prep.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('numpy', 'pandas', 'torch', 'duckdb') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "line",
    [
        "demo --name shop",
        "table --interactions i.csv --items p.csv --name shop",
        "sequences --sequences i.csv --items p.csv --name shop",
        "amazon --reviews r --meta m --name shop",
        "recbole ml-100k --name shop",
        "merge a b --name shop",
        "images shop",
        "embed shop",
        "inspect shop",
    ],
)
def test_the_second_command_on_a_data_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset/shop").mkdir(parents=True)
    with alone(Path("dataset/shop"), "dataset_prep"):
        assert main(line.split()) == 2
        said = "error: dataset/shop: another dataset_prep is running there; wait for it, or name another\n"
        assert capsys.readouterr().err == said
    assert os.listdir("dataset/shop") == []


def test_two_at_once_end_well_or_in_one_line(tmp_path: Path) -> None:
    code = "import runpy; runpy.run_module('dataset_prep', run_name='__main__')"
    both = [start(code, "demo", "--items", "240", "--users", "50", cwd=tmp_path) for _ in range(3)]
    said = [(process.communicate(timeout=600), process.returncode) for process in both]
    assert 0 in [status for _, status in said]
    for (_, error), status in said:
        assert (status, error.count("\n")) in ((0, 0), (2, 1))
    assert sorted(os.listdir(tmp_path / "dataset/demo")) == ["demo.inter", "demo.item", "demo.prep.json", "images"]
    assert len(os.listdir(tmp_path / "dataset/demo/images")) == 240
