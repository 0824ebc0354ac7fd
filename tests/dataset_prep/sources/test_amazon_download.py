"""Public files fetched from a server on loopback: broken off, gone on with, checked; then the published set or none."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from amazon_files import make_reviews, meta_record
from file_server import FileServer, served

from dataset_prep.cli import main
from dataset_prep.images.client import FetchLimits
from dataset_prep.sources.amazon import asked
from dataset_prep.sources.amazon.download import download
from dataset_prep.sources.amazon.public_files import SETS, PublicFile, PublicSet
from recbole_mmm4rec.base.errors import UserError

pytestmark = pytest.mark.usefixtures("own_folder")
CONTENT = bytes(range(256)) * 1000
FILE = PublicFile("a/big.bin", hashlib.sha256(CONTENT).hexdigest())
ONCE = FetchLimits(retries=0, timeout=20, allow_private=True)
AGAIN = FetchLimits(retries=2, backoff=0.01, timeout=20, allow_private=True)


@pytest.fixture
def server() -> Iterator[FileServer]:
    """One big file."""
    with served({"/a/big.bin": CONTENT}) as running:
        yield running


def fetched(server: FileServer, limits: FetchLimits = ONCE, file: PublicFile = FILE) -> bytes:
    """The file as it comes."""
    (path,) = download([file], server.url, Path("raw"), limits)
    return path.read_bytes()


def test_a_broken_download_goes_on_where_it_was(server: FileServer) -> None:
    server.breaks["/a/big.bin"] = 100_000
    with pytest.raises(UserError, match=r"100,000 bytes are in raw/\.big\.bin\.part, and the same command goes on"):
        fetched(server)
    assert not Path("raw/big.bin").exists()
    assert fetched(server) == CONTENT
    assert server.asked == [("/a/big.bin", None), ("/a/big.bin", "bytes=100000-")]
    assert sorted(file.name for file in Path("raw").iterdir()) == [".big.bin.fetched", "big.bin"]
    assert json.loads(Path("raw/.big.bin.fetched").read_text())["sha256"] == FILE.sha256
    assert fetched(server) == CONTENT
    assert len(server.asked) == 2  # it is there: nobody is asked


def test_further_tries_go_on_by_themselves(server: FileServer) -> None:
    server.breaks["/a/big.bin"] = 100_000
    assert fetched(server, AGAIN) == CONTENT
    assert server.asked[1] == ("/a/big.bin", "bytes=100000-")


@pytest.mark.parametrize("change", ["another", "no parts", "no tag", "too much"])
def test_what_cannot_be_gone_on_with_begins_anew(server: FileServer, change: str) -> None:
    if change == "no tag":
        server.tags["/a/big.bin"] = ""
    server.breaks["/a/big.bin"] = 100_000
    with pytest.raises(UserError):
        fetched(server)
    if change == "another":
        server.tags["/a/big.bin"] = '"2"'
    if change == "no parts":
        server.parts = False
    if change == "too much":
        Path("raw/.big.bin.part").write_bytes(b"x" * 300_000)
    assert fetched(server) == CONTENT


def test_a_whole_part_needs_no_request(server: FileServer) -> None:
    """Killed after the last byte."""
    server.breaks["/a/big.bin"] = 100_000
    with pytest.raises(UserError):
        fetched(server)
    Path("raw/.big.bin.part").write_bytes(CONTENT)
    assert fetched(server) == CONTENT
    assert len(server.asked) == 1


def test_another_file_than_the_known_one_is_never_used(server: FileServer) -> None:
    server.files["/a/big.bin"] = CONTENT[::-1]
    for _ in range(2):  # fetched once, and kept: the known hash may be the wrong one
        with pytest.raises(
            UserError, match=r"not the file that is known: its SHA-256 is [0-9a-f]{64}, known is .* add --reviews raw"
        ):
            fetched(server)
    assert [file.name for file in Path("raw").glob("*big*")] == ["big.bin.other"]
    assert Path("raw/big.bin.other").read_bytes() == CONTENT[::-1]
    assert len(server.asked) == 1
    Path("raw/big.bin.other").unlink()
    server.files["/a/big.bin"] = CONTENT
    assert fetched(server) == CONTENT
    Path("raw/big.bin").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(UserError, match="changed since it was fetched; remove it"):
        fetched(server)


def test_a_packed_file_without_a_known_hash_has_its_own(server: FileServer) -> None:
    packed = gzip.compress(CONTENT)
    server.files["/m.json.gz"] = packed[:-9] + b"123456789"
    server.tags["/m.json.gz"] = '"1"'
    with pytest.raises(UserError, match="it is damaged"):
        fetched(server, file=PublicFile("m.json.gz"))
    server.files["/m.json.gz"] = packed
    assert fetched(server, file=PublicFile("m.json.gz")) == packed


def test_what_is_not_there_is_one_line(server: FileServer) -> None:
    with pytest.raises(UserError, match=r"gone\.bin: HTTP 404; 0 bytes are in"):
        fetched(server, file=PublicFile("gone.bin"))


def test_a_private_address_only_where_it_was_named(server: FileServer) -> None:
    with pytest.raises(UserError, match="no public address"):
        fetched(server, FetchLimits(retries=0))


# The command, end to end


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A small category on a server, known as ``scientific`` with its hash and its counts."""
    rows = [f"{item},{user},{rating},{second}" for user, item, second, rating in make_reviews()]
    ratings = ("\n".join(rows) + "\n").encode()
    meta = gzip.compress("\n".join(json.dumps(meta_record(number, 2018)) for number in range(8)).encode())
    known = PublicSet("scientific", "Tiny", hashlib.sha256(ratings).hexdigest(), 12, 8)
    monkeypatch.setattr(asked, "SETS", {"scientific": known})
    with served({"/categoryFilesSmall/Tiny.csv": ratings, "/metaFiles2/meta_Tiny.json.gz": meta}) as running:
        yield running


def test_the_published_set_by_one_command(shop: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    shop.breaks["/metaFiles2/meta_Tiny.json.gz"] = 60
    command = ["amazon", "--download", "scientific", "--mirror", shop.url]
    assert main(command) == 0
    assert "scientific: 12 users, 8 items, 72 interactions" in capsys.readouterr().out
    assert {file.name for file in Path("raw").glob("[!.]*")} == {"Tiny.csv", "meta_Tiny.json.gz"}
    assert main(command) == 0
    assert "already up to date in" in capsys.readouterr().out
    assert len(shop.asked) == 3  # the broken one twice


def test_other_counts_than_the_published_ones_stop_it(
    shop: FileServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = PublicSet("scientific", "Tiny", asked.SETS["scientific"].ratings_sha256, 12, 9)
    monkeypatch.setattr(asked, "SETS", {"scientific": known})
    command = ["amazon", "--download", "scientific", "--mirror", shop.url, "--name", "mine"]
    assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "mine: 12 users (published 12), 8 items (published 9): not the published set, so nothing was written" in said
    assert not Path("dataset/mine").exists()
    assert main([*command, "--other-counts"]) == 0
    assert Path("dataset/mine/mine.inter").is_file()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--download", "scientifc"], "no such set; did you mean 'scientific'"),
        (["--download", "office", "--reviews", "x", "--meta", "y", "--raw", "z"], "--raw: nothing is fetched, since"),
        (["--download", "office", "--reviews", "x", "--meta", "y", "--mirror", "z"], "leave --mirror out"),
        (["--reviews", "x", "--name", "x", "--mirror", "http://x"], "--mirror: is for --download, and files are named"),
        (["--reviews", "x", "--name", "x", "--raw", "raw"], "--raw: is for --download"),
        (["--reviews", "x", "--name", "x", "--other-counts"], "leave --other-counts out"),
        (["--name", "x"], "--reviews is missing"),
        ([], "--name is missing"),
    ],
)
def test_mistakes(given: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amazon", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_what_is_known_of_the_public_sets() -> None:
    assert list(SETS)[:5] == ["scientific", "pantry", "instruments", "arts", "office"]
    assert (SETS["office"].users, SETS["office"].items) == (87_346, 25_986)
    sources = list(SETS.values())[5:]
    assert (sum(one.users for one in sources), sum(one.items for one in sources)) == (
        1_361_408,
        446_975,
    )  # UniSRec's sum
    assert len({one.ratings_sha256 for one in SETS.values()}) == 10
    assert all(len(one.ratings_sha256) == 64 for one in SETS.values())
