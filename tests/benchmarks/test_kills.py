"""A few kills for real: the commands, typed again, end as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path

from shop import REPOSITORY, python


def test_a_few_kills(tmp_path: Path) -> None:
    """One of our model, one of RecBole's; the log is gone on from."""
    log = tmp_path / "kills.jsonl"
    line = [str(REPOSITORY / "benchmarks" / "kills.py"), "--kills", "1", "--log", str(log), "--only", "train", "BPR"]
    done = python(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(entry) for entry in log.read_text().splitlines()]
    assert [(entry["command"], entry["other"]) for entry in told] == [("train", []), ("BPR", [])]
    again = python(*line, cwd=tmp_path)
    assert again.returncode == 0
    assert "| all | 2 |" in again.stdout
    assert len(log.read_text().splitlines()) == 2
