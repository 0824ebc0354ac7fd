"""A further Python finds its modules where this one does, and not where it stands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from recbole_mmm4rec.base.new_python import running


def test_what_lies_where_it_stands_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (
        (
            "lib's/probe.py",
            "import sys, tqdm, probe\nprint(__name__, sys.argv[1:], tqdm.__file__, probe.__spec__.name)",
        ),
        ("here/tqdm.py", "raise SystemExit('run')"),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("lib's")  # of this process, whatever the other's folder is
    told = subprocess.run(running("probe", "one", "a b"), cwd="here", capture_output=True, text=True, check=True)
    assert told.stderr == ""
    import tqdm

    assert told.stdout.splitlines()[-1] == f"__main__ ['one', 'a b'] {tqdm.__file__} probe"
