"""Answers that a download may meet: parts that nobody asked for, other files, other sizes, too little room."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import FileServer, served

from dataset_prep.images.client import FetchLimits
from dataset_prep.sources.amazon import download as downloading
from dataset_prep.sources.amazon.download import download
from dataset_prep.sources.amazon.public_files import SETS, PublicFile
from recbole_mmm4rec.base.errors import UserError

pytestmark = pytest.mark.usefixtures("own_folder")
CONTENT = bytes(range(256)) * 1000
PATH = "/a/big.bin"
FILE = PublicFile("a/big.bin", hashlib.sha256(CONTENT).hexdigest())
ONCE = FetchLimits(retries=0, timeout=20, allow_private=True)
AGAIN = FetchLimits(retries=2, backoff=0.01, timeout=20, allow_private=True)
Usage = namedtuple("Usage", ("total", "used", "free"))


@pytest.fixture
def server() -> Iterator[FileServer]:
    """One big file."""
    with served({PATH: CONTENT}) as running:
        yield running


def fetched(server: FileServer, limits: FetchLimits = ONCE, file: PublicFile = FILE) -> bytes:
    """The file as it comes."""
    (path,) = download([file], server.url, Path("raw"), limits)
    return path.read_bytes()


def begun(server: FileServer) -> None:
    """Leave the first 100,000 bytes behind."""
    server.breaks[PATH] = 100_000
    with pytest.raises(UserError, match="100,000 bytes are in"):
        fetched(server)


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (416, {"Content-Range": "bytes */256000"}, "HTTP 416 for a part"),
        (206, {"Content-Range": "bytes 5-255999/256000"}, "another file than the one that was begun"),
        (206, {"Content-Range": "bytes 100000-255998/255999"}, "another file than the one that was begun"),
        (206, {"Content-Range": "bytes 100000-255999/*"}, "another file than the one that was begun"),
        (206, {"Content-Range": "items 100000-255999/256000"}, "another file than the one that was begun"),
        (206, {}, "another file than the one that was begun"),
    ],
)
def test_a_part_that_does_not_fit_is_not_taken(
    server: FileServer, status: int, headers: dict[str, str], said: str
) -> None:
    begun(server)
    server.odd[PATH] = (status, headers)
    with pytest.raises(UserError, match=said):
        fetched(server)
    assert Path("raw/.big.bin.part").read_bytes() == CONTENT[:100_000]  # nothing was written behind it
    assert fetched(server) == CONTENT
    assert server.asked[1:] == [(PATH, "bytes=100000-"), (PATH, None)]  # anew, though the part is there


@pytest.mark.parametrize("status", [206, 416])
def test_a_part_that_nobody_asked_for_is_not_taken(server: FileServer, status: int) -> None:
    server.odd[PATH] = (status, {"Content-Range": "bytes 0-255999/256000"})
    with pytest.raises(UserError, match=f"HTTP {status} for a part; 0 bytes are in"):
        fetched(server)
    server.odd[PATH] = (status, {"Content-Range": "bytes 0-255999/256000"})
    assert fetched(server, AGAIN) == CONTENT


@pytest.mark.parametrize("tag", ['W/"1"', ""])
def test_a_file_of_which_only_the_meaning_is_the_same_begins_anew(server: FileServer, tag: str) -> None:
    server.tags[PATH] = tag
    begun(server)
    assert json.loads(Path("raw/.big.bin.note").read_text())["validator"] == ""
    assert fetched(server) == CONTENT
    assert server.asked == [(PATH, None), (PATH, None)]


def test_tries_that_bring_something_are_not_in_vain(server: FileServer) -> None:
    """Six answers of 50,000 bytes, with two further tries."""
    server.most = 50_000
    assert fetched(server, AGAIN) == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, *(f"bytes={at}-" for at in range(50_000, 256_000, 50_000))]


def test_what_was_thrown_away_is_no_measure(server: FileServer) -> None:
    """Behind a large part of another file, each try brings more of this one, and less than that."""
    Path("raw").mkdir()
    Path("raw/.big.bin.part").write_bytes(CONTENT[:200_000])
    note = {"url": f"{server.url}/a/big.bin", "validator": "another", "total": 256_000}
    Path("raw/.big.bin.note").write_text(json.dumps(note))
    server.most = 40_000
    assert fetched(server, AGAIN) == CONTENT


def test_a_server_that_never_gets_further_is_given_up(server: FileServer) -> None:
    server.most, server.parts = 50_000, False
    with pytest.raises(UserError, match=r"broken off.*; 50,000 bytes are in"):
        fetched(server, AGAIN)
    assert len(server.asked) == 3  # the first brought something, the two further ones no more than that


# Files that somebody put there


def put(content: bytes, name: str = "big.bin") -> Path:
    """A file in the folder of fetched ones."""
    Path("raw").mkdir()
    path = Path("raw", name)
    path.write_bytes(content)
    return path


def test_the_known_file_put_there_by_hand_is_taken(server: FileServer) -> None:
    put(CONTENT)
    assert fetched(server) == CONTENT
    assert server.asked == []


def test_another_file_put_there_by_hand_stays_and_is_told(server: FileServer) -> None:
    path = put(CONTENT[::-1])
    with pytest.raises(
        UserError, match=r"raw/big\.bin: not the file that is known: .*, add --reviews raw/big\.bin; if"
    ):
        fetched(server)
    assert path.read_bytes() == CONTENT[::-1]
    assert server.asked == []


@pytest.mark.parametrize(
    ("content", "said"), [(gzip.compress(CONTENT), None), (gzip.compress(CONTENT)[:-4], "damaged"), (b"", "empty")]
)
def test_a_packed_file_put_there_by_hand_has_to_be_whole(server: FileServer, content: bytes, said: str | None) -> None:
    path, file = put(content, "m.json.gz"), PublicFile("m.json.gz", option="--meta")
    if said is None:
        assert fetched(server, file=file) == content
    else:
        with pytest.raises(UserError, match=f"not the file that is known: it is {said}.*; put the right one there"):
            fetched(server, file=file)
    assert path.read_bytes() == content
    assert server.asked == []


def test_what_stands_aside_is_taken_once_its_hash_is_known(server: FileServer) -> None:
    """A later version of the package may know better."""
    server.files[PATH] = CONTENT[::-1]
    with pytest.raises(UserError, match="known is"):
        fetched(server)
    right = replace(FILE, sha256=hashlib.sha256(CONTENT[::-1]).hexdigest())
    assert fetched(server, file=right) == CONTENT[::-1]
    assert len(server.asked) == 1
    assert sorted(file.name for file in Path("raw").iterdir()) == [".big.bin.fetched", "big.bin"]


# Sizes and room


def room(patch: pytest.MonkeyPatch, free: int) -> None:
    """So many bytes are free on any disk."""
    patch.setattr(downloading, "disk_usage", lambda _: Usage(10**12, 0, free))


def test_a_known_size_is_compared_with_the_room_before_anybody_is_asked(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/b.bin"], server.tags["/b.bin"] = CONTENT, '"1"'
    files = [replace(FILE, bytes=256_000), PublicFile("b.bin", FILE.sha256, 256_000)]
    begun(server)
    room(monkeypatch, 411_999)  # 156,000 bytes and 256,000 are missing
    with pytest.raises(UserError, match="--raw raw: 412,000 bytes are to come, 411,999 are free there; make room"):
        download(files, server.url, Path("raw"), ONCE)
    assert len(server.asked) == 1
    room(monkeypatch, 412_000)
    assert [path.read_bytes() for path in download(files, server.url, Path("raw"), ONCE)] == [CONTENT] * 2
    room(monkeypatch, 0)
    assert len(download(files, server.url, Path("raw"), ONCE)) == 2  # nothing is to come


def test_a_size_that_the_server_tells_is_compared_before_a_byte_is_written(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room(monkeypatch, 255_999)
    with pytest.raises(UserError, match="256,000 bytes are to come, 255,999 are free there"):
        fetched(server)
    assert not Path("raw/.big.bin.part").exists()
    room(monkeypatch, 256_000)
    begun(server)
    room(monkeypatch, 155_999)
    with pytest.raises(UserError, match="156,000 bytes are to come"):
        fetched(server)
    room(monkeypatch, 156_000)
    assert fetched(server) == CONTENT


def test_another_size_than_the_known_one_is_told(server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert fetched(server, file=replace(FILE, bytes=256_001)) == CONTENT
    assert "256000 bytes, known are 256001: perhaps another version" in caplog.text


def test_sizes_are_known_of_two_files() -> None:
    known = {name: one.metadata.bytes for name, one in SETS.items() if one.metadata.bytes is not None}
    assert known == {"scientific": 83_745_299, "office": 514_243_589}
    assert {one.ratings.bytes for one in SETS.values()} == {None}
    assert {(one.ratings.option, one.metadata.option) for one in SETS.values()} == {("--reviews", "--meta")}
