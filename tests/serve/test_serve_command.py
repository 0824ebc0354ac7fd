"""``mmm4rec serve`` as a user runs it: one line for a mistake, signals, an orderly end."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import children, command_running, until
from shop import REPOSITORY

from recbole_mmm4rec.commands.__main__ import main
from recbole_mmm4rec.serve import command, process
from recbole_mmm4rec.serve.app import Service


def said(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    """What a command says that a mistake ends."""
    try:
        code = main(["serve", *line])
    except SystemExit as ended:  # argparse's way
        code = int(ended.code or 0)
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_port_in_use_is_told_in_one_line(capsys: pytest.CaptureFixture[str], model_folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        line = said(capsys, str(model_folder), "--port", port)
    assert line == f"error: --port {port}: another program listens there already; name another\n"


def test_other_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nowhere" in said(capsys, str(tmp_path / "nowhere"), "--port", "0")
    assert said(capsys, "x", "--port", "70000").startswith("error: argument --port: '70000' is no port")
    assert said(capsys, "x", "--max-k", "0").startswith("error: argument --max-k: '0' is no whole number")
    assert said(capsys, "x", "--host", "203.0.113.9").startswith(
        "error: --host 203.0.113.9: no address of this machine"
    )
    for host in ("127..0.0.1", "x" * 64 + ".example", "."):
        assert said(capsys, "x", "--host", host) == f"error: --host {host}: no address of this machine\n"
    for name in ("shop.example:8000", "http://shop.example", "shop.example/", "::1", "", "müller.example"):
        assert said(capsys, "x", "--name", name).startswith(f"error: argument --name: {name!r} is no host name;")


@pytest.mark.parametrize(
    ("options", "threads", "near", "elsewhere"),
    [
        ([], 1, ["127.0.0.1:80", "localhost", "[::1]:80"], "shop.example"),
        (["--host", "127.0.0.1", "--name", "shop.example", "--threads", "3"], 3, ["shop.example", "localhost"], "x"),
        (["--host", "0.0.0.0", "--name", "shop.example"], 1, ["shop.example:8000", "127.0.0.1"], "10.0.0.7"),
        (["--host", "0.0.0.0"], 1, ["shop.example", "10.0.0.7:80"], None),
        (["--host", "::1"], 1, ["[::1]:80"], "shop.example"),
    ],
)
def test_host_names_and_threads(
    options: list[str],
    threads: int,
    near: list[str],
    elsewhere: str | None,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the options come to, with nothing started but the socket."""
    started: list[tuple[Any, ...]] = []

    class Started:
        alive = True

        def __init__(self, *given: Any) -> None:
            started.append(given)

        def about(self) -> dict[str, Any]:
            return {"name": "made", "items": 7, "made": {}}

    answers: list[tuple[str, int]] = []

    def run(service: Service, listening: socket.socket) -> None:
        assert listening.getsockname()[0] == (options[1] if "--host" in options else "127.0.0.1")

        async def ask() -> None:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url="http://x") as client:
                for name in (*near, *([elsewhere] if elsewhere else [])):
                    answer = await client.get("/healthz", headers={"host": name})
                    answers.append((name, answer.status_code))

        asyncio.run(ask())

    monkeypatch.setattr(process, "Process", Started)
    monkeypatch.setattr(command, "_run", run)
    assert main(["serve", str(model_folder), "--port", "0", *options]) == 0
    assert answers == [(name, 200) for name in near] + ([(elsewhere, 421)] if elsewhere else [])
    assert started == [(threads, model_folder)]
    host = options[1] if "--host" in options else "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    assert capsys.readouterr().out.startswith(f"serving made: 7 items at http://{shown}:")


@pytest.mark.parametrize(("number", "status", "wait"), [(signal.SIGTERM, 143, 0.0), (signal.SIGINT, 130, 0.5)])
def test_a_signal_while_the_model_is_loaded(
    number: signal.Signals, status: int, wait: float, model_folder: Path
) -> None:
    with command_running(model_folder) as process:
        until(lambda: children(process))
        (child,) = children(process)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGHUP)  # nothing to load again yet
        os.killpg(process.pid, number)
        told = process.communicate(timeout=20)
        assert (process.returncode, *told) == (status, "", "interrupted; nothing was written\n")
        assert not Path(f"/proc/{child}").exists()


def test_a_lost_service_is_no_failure_of_its_process(model_folder: Path) -> None:
    with command_running(model_folder) as process:
        until(lambda: children(process))
        process.kill()
        assert process.communicate(timeout=60) == ("", "")  # which the other has open until it ends


def test_signals_change_the_model_and_end_the_service(model_folder: Path, tmp_path: Path) -> None:
    for name in ("old", "new"):
        shutil.copytree(model_folder, tmp_path / name)
    link = tmp_path / "current"
    link.symlink_to("old")
    (tmp_path / "tqdm.py").write_text("raise SystemExit('somebody else')\n")  # is not for the service
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/mmm4rec"
    script.write_text("import sys\nfrom recbole_mmm4rec.commands.__main__ import main\nsys.exit(main())\n")
    command = [sys.executable, str(script), "serve", "current", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    running = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert running.stdout is not None
        assert running.stderr is not None
        line = running.stdout.readline().decode()
        found = re.fullmatch(r"serving old: 36 items at (http://127\.0\.0\.1:\d+) \(.*\)\n", line)
        assert found, (line, running.stderr.read() if running.poll() is not None else "")
        with httpx.Client(base_url=found[1], timeout=60) as client:
            answer = client.post("/recommend", json={"history": ["k01", "k02"], "k": 3})
            assert [len(one["item"]) for one in answer.json()["items"]] == [3, 3, 3]
            link.unlink()
            link.symlink_to("new")
            running.send_signal(signal.SIGHUP)
            until(lambda: 'mmm4rec_changes_total{result="done"} 1.0' in client.get("/metrics").text)
            assert client.get("/healthz").json()["model"] == "new"
            (child,) = children(running)
            os.kill(child, signal.SIGKILL)
            assert client.post("/recommend", json={"history": ["k01", "k02"], "k": 3}).json() == answer.json()
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        log = running.stderr.read().decode()
        assert [" ".join(line.split()[3:]) for line in log.splitlines()] == [
            "loading current",
            "serving new: 36 items",
            "the process of the model is gone; it is started again",
        ]
    finally:
        running.kill()
        running.wait()
        for stream in (running.stdout, running.stderr):
            if stream is not None:
                stream.close()
