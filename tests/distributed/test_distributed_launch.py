"""Processes that are started, killed and started again, through the commands that a user types."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ending import end_badly, fail, fill_the_pipe, refuse
from shop import REPOSITORY, settings, write_shop
from torch.multiprocessing.spawn import ProcessExitedException

from recbole_mmm4rec.base.errors import LostProcessError, UserError
from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.distributed import launch
from recbole_mmm4rec.run import quick_start
from recbole_mmm4rec.run.build import build, make_config

SCRIPT = str(REPOSITORY / "run_recbole.py")


def write_settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """A shop and a file ``s.yaml`` with settings of a training of two short epochs a second or so."""
    write_shop(folder)
    changed = settings(folder, stopping_step=10**6, train_batch_size=32, **{"state": "INFO", **changes})
    (folder / "s.yaml").write_text(yaml.safe_dump(changed))
    return changed


_STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Leave no process behind, whatever becomes of a test."""
    yield
    while _STARTED:
        run = _STARTED.pop()
        if run.poll() is None:
            for process in (*psutil.Process(run.pid).children(recursive=True), run):
                process.kill()


def started(folder: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _STARTED.append(run)
    return run


def workers_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that train."""
    children = psutil.Process(run.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What ``what`` finds at last."""
    for _ in range(12_000):
        if found := what():
            return found
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_a_killed_process_ends_the_others_and_the_training_goes_on(folder: Path, monkeypatch: Any) -> None:
    changed = write_settings(folder)
    run = started(folder, SCRIPT, "-m", "SASRec", "-d", "shop", "--config_files=s.yaml", "--epochs=100000", "--nproc=2")
    (file,) = wait_for(lambda: list((folder / "saved").glob("*-last.safetensors")), run)
    workers = workers_of(run)
    assert len(workers) == 2
    workers[1].kill()
    output, _ = run.communicate(timeout=600)
    assert run.returncode == 1
    last = output.strip().splitlines()[-1]
    assert re.match(r"error: process 1 of 2 was ended by SIGKILL .*; the others were stopped\. .*--resume=True", last)
    assert all(map(is_gone, workers))

    done = read(file)["epoch"] + 1
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["run_recbole.py"])
    result = quick_start.run_recbole(
        "SASRec", "shop", config_dict={**changed, "epochs": done + 2, "resume": True, "state": "ERROR"}
    )
    assert [entry.epoch for entry in result["valid_history"]] == list(range(1, done + 3))
    assert not file.exists()  # the result is known, nothing is left to go on with


def test_ctrl_c_for_the_parent_alone_ends_all(folder: Path) -> None:
    """As a stop button, or ``timeout -s INT``, sends it."""
    write_settings(folder)
    run = started(folder, SCRIPT, "-m", "SASRec", "-d", "shop", "--config_files=s.yaml", "--epochs=100000", "--nproc=2")
    wait_for(lambda: list((folder / "saved").glob("*-last.safetensors")), run)
    workers = workers_of(run)
    assert len(workers) == 2
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=600)
    assert run.returncode == 130
    last = output.strip().splitlines()[-1]
    assert last.startswith("interrupted; go on after the last checkpoint with: python run_recbole.py")
    assert last.endswith("--nproc=2 --resume=True")
    assert all(map(is_gone, workers))


def test_a_launcher_that_is_killed_takes_its_processes_along(folder: Path) -> None:
    """Also in its first second, before they are ready to hear of it."""
    write_settings(folder)
    run = started(folder, SCRIPT, "-m", "SASRec", "-d", "shop", "--config_files=s.yaml", "--epochs=100000", "--nproc=2")
    workers = wait_for(lambda: len(found := workers_of(run)) == 2 and found, run)
    run.kill()
    run.wait()
    for _ in range(12_000):
        if all(map(is_gone, workers)):
            break
        time.sleep(0.05)
    else:
        for worker in workers:
            worker.kill()
        raise AssertionError("they train on")
    assert not list((folder / "saved").glob("*.safetensors"))


@pytest.mark.parametrize("more", [(), ("--nproc=2",)], ids=["one", "two"])
def test_sigterm_ends_a_training_that_can_go_on(folder: Path, more: tuple[str, ...]) -> None:
    """As a scheduler sends it to the first process alone; several processes go on unasked."""
    changed = write_settings(folder)
    command = ["-m", "SASRec", "-d", "shop", "--config_files=s.yaml", *(more or ["--resume=True"])]
    run = started(folder, SCRIPT, *command, "--epochs=100000")
    (file,) = wait_for(lambda: list((folder / "saved").glob("*-last.safetensors")), run)
    workers = workers_of(run)
    run.terminate()
    output, _ = run.communicate(timeout=600)
    assert run.returncode == 143
    # a validation, in which one process may be struck, writes none
    where = "after the last checkpoint with" if more else "(after the last checkpoint )?with"
    assert re.match(rf"interrupted; .*go on {where}: python run_recbole\.py", output.strip().splitlines()[-1])
    assert all(map(is_gone, workers))
    assert [path for path in (folder / "saved").iterdir() if path.name.startswith(".")] in ([], [lock_of(file)])
    done = read(file)["epoch"] + 1
    assert changed["stopping_step"] == 10**6
    again = started(folder, SCRIPT, *command, f"--epochs={done + 1}")
    output, _ = again.communicate(timeout=600)
    assert again.returncode == 0, output
    assert re.search(rf"goes on after epoch {done}( and \d of \d batches)?, from", output)


def lock_of(note: Path) -> Path:
    """What a process of several that was killed leaves of its claim, which the next one takes."""
    return note.with_name(f".{note.name.removesuffix('-last.safetensors')}.lock")


@pytest.mark.usefixtures("own_folder")
def test_a_model_that_only_counts_leaves_no_note(tmp_path: Path) -> None:
    """Its state holds matrices of SciPy, which are not read back without running what a file holds."""
    write_shop(tmp_path)
    for model, noted in (("EASE", 0), ("BPR", 1)):
        config = make_config(model, "shop", config_dict=settings(tmp_path, resume=True))
        run = build(config, count_flops=False)
        run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
        assert len(list((tmp_path / "saved").glob("*-last.safetensors"))) == noted


DYING = """
import os, signal, sys
import recbole_mmm4rec
from recbole_mmm4rec.run.cli import main
from recbole.trainer import Trainer

train = Trainer._train_epoch

def die_before_the_sixth(trainer, train_data, epoch_idx, *args, **kwargs):
    if epoch_idx == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return train(trainer, train_data, epoch_idx, *args, **kwargs)

die_before_the_sixth.in_steps = True  # as the loop that it goes on to; all processes count the same steps

if __name__ == "__main__":
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
        Trainer._train_epoch = die_before_the_sixth
    sys.exit(main())
"""


def test_torchrun_starts_again_after_the_last_epoch(folder: Path) -> None:
    write_settings(folder)
    (folder / "dying.py").write_text(DYING)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    launcher = [*torchrun, "--nproc-per-node=2", "--max-restarts=1"]
    arguments = ["-m", "SASRec", "-d", "shop", "--config_files=s.yaml", "--epochs=30"]
    run = started(folder, *launcher, "dying.py", *arguments)
    output, _ = run.communicate(timeout=600)
    assert run.returncode == 0, output
    numbers = re.findall(r"goes on after epoch (\d+)[ ,]", output)
    assert len(numbers) == 1, output
    (done,) = numbers
    assert done in ("4", "5")  # process 0 may have been about to note its fifth
    again = re.sub(r"\x1b\[[\d;]*m", "", output).partition("goes on after epoch")[2]
    assert re.findall(r"epoch (\d+) training", again) == [str(number) for number in range(int(done), 30)]
    assert output.count("SASRec on shop") == 1
    assert [file.name for file in (folder / "saved").glob("*")] != []
    assert not list((folder / "saved").glob("*-last.safetensors"))


def test_what_becomes_of_a_process_that_was_started(capsys: pytest.CaptureFixture[str]) -> None:
    place = launch.placement(1, -1, "localhost", None, 0)
    assert len(launch.start(fill_the_pipe, (), place)) == 2**20
    with pytest.raises(UserError, match="topk=0: too little"):
        launch.start(refuse, (), place)
    assert launch.start(end_badly, (), place) == {"result": 1}
    assert "warning: process 0 of 1 failed: RuntimeError: the cable is cut after the" in capsys.readouterr().err
    with pytest.raises(LostProcessError, match=r"^process 3 of 5 failed: RuntimeError: the cable is cut; the others"):
        launch.start(fail, (), {"nproc": 1, "offset": 3, "world_size": 5})
    assert "Traceback" in capsys.readouterr().err


def test_places() -> None:
    assert launch.placement(2, 2, "a", "7", 0) == {"world_size": 2, "ip": "a", "port": "7", "nproc": 2, "offset": 0}
    assert launch.placement(2, 4, "a", None, 2)["port"] == launch.DEFAULT_PORT
    assert int(launch.placement(2, -1, "localhost", None, 0)["port"]) > 1023
    with pytest.raises(UserError, match=r"world_size=3: this machine's processes are 2 to 3"):
        launch.placement(2, 3, "a", None, 2)


def test_places_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*launch.LAUNCHER_VARIABLES, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert launch.from_environment() is None
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "host"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="MASTER_PORT"):
        launch.from_environment()
    monkeypatch.setenv("MASTER_PORT", "88")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    place = {"local_rank": 1, "world_size": 8, "nproc": 4, "offset": 4, "ip": "host", "port": "88"}
    assert launch.from_environment() == {**place, "launched": "torchrun"}
    with pytest.raises(UserError, match="nproc=2: torchrun has started"):
        launch.from_environment(2)


def test_a_killed_process_is_named_before_those_that_fail_for_it() -> None:
    class Ended:
        def __init__(self, exitcode: int) -> None:
            self.exitcode = exitcode

    processes = [Ended(1), Ended(-signal.SIGTERM), Ended(-signal.SIGKILL)]
    said = launch._what_happened(processes, {"offset": 0, "world_size": 3}, RuntimeError("connection closed by peer"))
    assert said.startswith("process 2 of 3 was ended by SIGKILL")
    # the others were too slow to end and were killed as well
    error = ProcessExitedException("", error_index=1, error_pid=1, exit_code=-signal.SIGKILL)
    said = launch._what_happened([Ended(-signal.SIGKILL)] * 2, {"offset": 0, "world_size": 2}, error)
    assert said.startswith("process 1 of 2 was ended by SIGKILL")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_a_place_that_nobody_would_look_at_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one of several machines, the number of all processes forgotten: it would train by itself."""
    with pytest.raises(UserError, match=r"world_size=1: this machine's processes are 1 to 1"):
        quick_start.run("Pop", "shop", group_offset=1)
    with pytest.raises(UserError, match=r"ip=host: nothing says how many processes there are .*; set world_size"):
        quick_start.run("Pop", "shop", ip="host")
    with pytest.raises(UserError, match="set world_size"):
        quick_start.run("Pop", "shop", ip="host", nproc=2)
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "host", "MASTER_PORT": "88"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "1")
    for name, given in {"world_size": 4, "ip": "host", "port": "5", "group_offset": 1}.items():
        with pytest.raises(UserError, match=f"{name}={given}: torchrun has started .*; leave {name} out"):
            quick_start.run("Pop", "shop", **{name: given})
