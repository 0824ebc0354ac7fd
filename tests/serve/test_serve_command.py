"""``mmm4rec serve`` as a user runs it: one line for a mistake, signals, an orderly end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from served import until
from shop import REPOSITORY

from recbole_mmm4rec.commands.__main__ import main


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


def test_signals_change_the_model_and_end_the_service(model_folder: Path, tmp_path: Path) -> None:
    for name in ("old", "new"):
        shutil.copytree(model_folder, tmp_path / name)
    link = tmp_path / "current"
    link.symlink_to("old")
    command = [sys.executable, "-m", "recbole_mmm4rec.commands", "serve", "current", "--port", "0"]
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
            until(lambda: client.get("/healthz").json()["model"] == "new")
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        log = running.stderr.read().decode()
        assert [line.split(" INFO ")[1] for line in log.splitlines()] == ["loading current", "serving new: 36 items"]
    finally:
        running.kill()
        running.wait()
        for stream in (running.stdout, running.stderr):
            if stream is not None:
                stream.close()
