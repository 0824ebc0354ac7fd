"""Files appear whole or not at all, and are known by their bytes."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import file_hash, whole_file


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    def write(content: bytes, error: Exception | None) -> None:
        with whole_file(tmp_path / "new" / "file") as file:
            file.write(content)
            if error:
                raise error

    write(b"old", None)
    with pytest.raises(OSError, match="disk full"):
        write(b"half", OSError("disk full"))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["file"]
    assert (tmp_path / "new" / "file").read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_takes_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As a file system says it that has become read-only under a running command."""
    (tmp_path / "file").write_bytes(b"old")

    def refusing(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refusing)
    told = "make room" if number == errno.ENOSPC else "let its folder be written to"
    with (
        pytest.raises(UserError, match=rf"^'.*file' cannot be written: {os.strerror(number)}; {told} \(what") as caught,
        whole_file(tmp_path / "file"),
    ):
        raise AssertionError("it was opened")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old"


def test_parts_that_a_killed_process_left_are_removed(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    left, alive, other = (
        tmp_path / f".{name}.tmp" for name in (f"file.{process.pid}", f"file.{os.getppid()}", f"files.{process.pid}")
    )
    for part in (left, alive, other):
        part.touch()
    with whole_file(tmp_path / "file", durable=True) as file:
        file.write(b"new")
    assert [part.exists() for part in (left, alive, other)] == [False, True, True]


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    hashes = {name: file_hash(tmp_path / name) for name in "abc"}
    assert hashes["a"] == hashes["b"] == "6b86b273ff34fce1"  # the first digits of sha256 of "1"
    assert hashes["c"] != hashes["a"]
