"""A full disk: one line, nothing half-written, what was there as it was, and the same command goes on with room."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from more_items import TEXT, state_of

from dataset_prep.embed.cache import VectorCache
from recbole_mmm4rec.base.files import no_room, whole_folder
from recbole_mmm4rec.commands.__main__ import main


@contextlib.contextmanager
def room(size: int) -> Iterator[None]:
    """Within it no file can grow beyond so many bytes, which fails where a write to a full disk does."""
    limits, kept = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # Python would keep a compiled module that was cut off, for all tests that follow
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sys.dont_write_bytecode = kept


@pytest.fixture
def shop(folder_copy: Path, kiosk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and whatever commands read; what they may leave is hidden or not there."""
    home = folder_copy.parent
    monkeypatch.chdir(home)
    (home / "new.jsonl").write_text('{"item_id": "n1", "text": "thing"}\n')
    np.save(home / "v.npy", TEXT[:1])
    (home / "today.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"w1,k{n:02d},{n}\n" for n in range(9)))
    (home / "users.csv").write_text("user_id,history\n" + "".join(f"u{n},k{n:02d}\n" for n in range(30)))
    (home / "items.csv").write_text("item_id,text\n" + "".join(f"k{n:02d},thing\n" for n in range(36)))
    (home / "gallery").mkdir()
    rows = "".join(f"{number}\t{file.name}\n" for number, file in enumerate((kiosk / "dataset/kiosk/images").iterdir()))
    (home / "gallery/gallery.item").write_text("item_id:token\timage:token\n" + rows)
    return home


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("add model new.jsonl --vectors text=v.npy", "'model' cannot be written: File too large; make room, or"),
        ("recommend model --input users.csv --output f.csv", "'.f.csv.parts/job.json' cannot be written: File too la"),
        ("export model --faiss exact --output out", "items.json' cannot be written: File too large; make room ("),
        ("update model --interactions today.csv --output out", "File too large; make room, then the same command aga"),
        ("prep table --interactions today.csv --items items.csv --name t --out .", "t: File too large; make room, th"),
        ("prep images gallery --out . --images {kiosk}/dataset/kiosk/images", "gallery: File too large; make room, "),
    ],
)
def test_a_full_disk_is_one_line(
    shop: Path, kiosk: Path, capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:
    before = state_of(shop)
    words = line.format(kiosk=kiosk).split()
    with room(200):
        assert main(words) == 2
    (said,) = [one for one in capsys.readouterr().err.splitlines() if "items/s" not in one and one.strip()]
    assert said.startswith("error: ")
    assert told in said
    left = state_of(shop)
    assert {name: left.get(name) for name in before} == before
    assert [
        name for name in left if name not in before and not name.startswith((".f.csv.parts/job", ".out.work/"))
    ] == []
    if words[0] != "update":  # which would train
        assert main(words) == 0


def test_a_part_of_the_vectors_is_not_left(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "cache", 4)
    cache.begin(afresh=True)
    keys, vectors = [bytes([number]) * 32 for number in range(50)], np.ones((50, 4), np.float32)
    with room(300), pytest.raises(OSError, match=r"too large|requested and") as caught:
        cache.save(keys, vectors, {})
    assert no_room(caught.value)
    assert not [file for file in (tmp_path / "cache").iterdir() if file.suffix == ".tmp"]
    cache.save(keys, vectors, {})
    cache.reload()
    assert cache.missing(keys) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("23040 requested and 7136 written"), "No space left on device"),  # NumPy
        (RuntimeError("write error in x: 0 != 1 (No space left on device)"), "No space left on device"),  # FAISS
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(13, "Permission denied"), ""),
        (RuntimeError("23040 requested and 7136 written"), ""),
        (None, ""),
    ],
)
def test_what_a_full_disk_is_called(error: Exception | None, reason: str) -> None:
    assert no_room(error) == reason


def test_a_file_system_that_takes_nothing(tmp_path: Path) -> None:
    from recbole_mmm4rec.base.errors import UserError

    with pytest.raises(UserError, match="cannot be written: Read-only file system"), whole_folder(tmp_path / "a"):
        raise OSError(30, os.strerror(30))
    assert os.listdir(tmp_path) == []
    shutil.rmtree(tmp_path)
