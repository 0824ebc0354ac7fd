"""A folder for one command at a time: the second is refused, a kill ends the claim, nothing is left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.locks import alone, claimed

HOLDER = """
import pathlib, sys, time
from recbole_mmm4rec.base.locks import alone
with alone(pathlib.Path(sys.argv[1]), "command"):
    print("in", flush=True)
    time.sleep(600)
"""


def test_a_folder_that_takes_no_files_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        claimed(Path("/proc/.name.lock"))


def test_the_second_is_refused_and_a_kill_ends_the_claim(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"in\n"
        with pytest.raises(UserError, match=f"--out {folder}: another command is running there; wait for it"):
            alone(folder, "command").__enter__()
        with pytest.raises(UserError, match="shop: another search is running there"):
            alone(folder, "search", "shop").__enter__()
        holder.kill()
    assert (folder / ".lock").exists()
    with alone(folder, "command"):
        (folder / "result").touch()
    assert os.listdir(folder) == ["result"]


def test_folders_that_stay_empty_go_again(tmp_path: Path) -> None:
    with alone(tmp_path / "a/b", "command"):
        assert os.listdir(tmp_path / "a/b") == [".lock"]
    assert os.listdir(tmp_path) == []
    (tmp_path / "a").mkdir()
    with alone(tmp_path / "a", "command"):
        pass
    assert os.listdir(tmp_path) == ["a"]


def test_one_after_the_other(tmp_path: Path) -> None:
    for _ in range(3):
        with alone(tmp_path / "a", "command"), alone(tmp_path / "b", "command"):
            pass


def test_a_file_that_another_has_just_removed_is_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    taken = []
    flock = fcntl.flock

    def late(lock: object, how: int) -> None:
        if not taken:
            (tmp_path / ".lock").unlink()  # the command before ends between our opening and our claim
        taken.append(how)
        flock(lock, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", late)
    with alone(tmp_path, "command"):
        assert len(taken) == 2
        assert (tmp_path / ".lock").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_worked_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    import fcntl

    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with alone(tmp_path, "command") as is_claimed:
        assert is_claimed
    assert not caplog.text
    monkeypatch.setattr(fcntl, "flock", none)
    for _ in range(2):
        with alone(tmp_path, "command") as is_claimed:
            assert not is_claimed
        claimed(tmp_path / ".other.lock").close()
    told = f"{tmp_path}: not locked, as its file system has no locks; let no other command write there"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_no_folder_to_write_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        with pytest.raises(UserError, match=r"file.*: no folder to write to"):
            alone(tmp_path / place, "command").__enter__()
