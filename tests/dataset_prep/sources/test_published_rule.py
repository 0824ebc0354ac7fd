"""``--download`` makes what the published programs make: which items stay, which reviews count, which text they get."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from amazon_files import START, meta_record
from file_server import FileServer, served
from reference.published_sets import published_set
from typed import run

from dataset_prep.cli import main
from dataset_prep.sources.amazon import asked
from dataset_prep.sources.amazon.public_files import PublicFile, PublicSet

pytestmark = pytest.mark.usefixtures("own_folder")
SCRIPT = "var aPageStart = (new Date()).getTime();"
RATINGS, META = "/categoryFilesSmall/Tiny.csv", "/metaFiles2/meta_Tiny.json.gz"


def ratings_of(seed: int) -> str:
    """Reviews around a 5-core; some are there twice, with the same rating or with another."""
    lot = random.Random(seed)
    lines = []
    for _ in range(110):
        line = f"B{lot.randrange(14):09d},A{lot.randrange(14):012d}X"
        second, rating = START + lot.randrange(4), lot.randint(1, 5)
        lines.append(f"{line},{rating}.0,{second}\n")
        if lot.random() < 0.4:
            lines.append(f"{line},{lot.choice((rating, 6 - rating))}.0,{second}\n")
    lot.shuffle(lines)
    return "".join(lines)


def metadata_of(seed: int) -> str:
    """Rows of most items; some say nothing, or hold a piece of script."""
    lot = random.Random(seed)
    records: list[dict[str, Any]] = []
    for number in range(13):
        record = meta_record(number, 2018)
        odd = lot.randrange(6)
        if odd == 0:
            record = {"asin": record["asin"], "title": "", "category": [], "imageURL": []}
        elif odd == 1:
            record["title"] = SCRIPT
        records += [record] if odd != 2 else []
        records += [record] if odd == 3 else []
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server for ``--download scientific``, without files yet; hash and counts of the set are not looked at."""
    known = PublicSet("scientific", "Tiny", "", 1, 1)
    monkeypatch.setattr(PublicSet, "ratings", property(lambda _: PublicFile(RATINGS[1:])))
    monkeypatch.setattr(asked, "SETS", {"scientific": known})
    with served({RATINGS: b"", META: b""}) as running:
        yield running


def download(server: FileServer, *more: str) -> int:
    """The status of the command, without a look at the published counts."""
    return main(["amazon", "--download", "scientific", "--mirror", server.url, "--other-counts", *more])


def rows() -> list[tuple[str, str, int]]:
    """User, item and second of the set."""
    lines = Path("dataset/scientific/scientific.inter").read_text().splitlines()[1:]
    fields = [line.split("\t") for line in lines]
    return [(user, item, int(second)) for user, item, second in fields]


@pytest.mark.parametrize("seed", range(8))
def test_a_download_follows_the_published_rule(tiny: FileServer, seed: int) -> None:
    ratings, metadata = ratings_of(seed), metadata_of(seed)
    tiny.files |= {RATINGS: ratings.encode(), META: gzip.compress(metadata.encode())}
    expected = published_set(ratings, metadata)
    assert download(tiny) == (0 if expected else 2)
    if expected:
        assert sorted(rows()) == expected
        assert [(user, second) for user, _, second in rows()] == sorted((user, second) for user, _, second in expected)


def test_the_rule_matters_for_the_files_of_these_tests(tiny: FileServer) -> None:
    """With our own rule for a set of one's own, other interactions come out: the test above can fail."""
    found = set()
    for seed in range(8):
        ratings, metadata = ratings_of(seed), metadata_of(seed)
        Path("ratings.csv").write_text(ratings)
        Path("meta.json").write_text(metadata)
        run("amazon --reviews ratings.csv --meta meta.json --name scientific --force")
        found.add(Path("dataset/scientific").exists() and sorted(rows()) == published_set(ratings, metadata))
    assert False in found


def test_an_item_with_a_row_and_no_text_stays_unless_a_text_is_asked_for(
    tiny: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"B{item:09d},A{user},5.0,{START + item}\n" for user in range(6) for item in range(7)]
    records = [{**meta_record(number, 2018), **({"title": SCRIPT} if number == 3 else {})} for number in range(6)]
    metadata = "".join(json.dumps(record) + "\n" for record in records)
    tiny.files |= {RATINGS: "".join(lines).encode(), META: gzip.compress(metadata.encode())}
    assert download(tiny) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "scientific: 6 users, 6 items, 36 interactions; 5 items (83.3 %) with text" in out
    assert "items without metadata 6 0 1 5-core of what has metadata 0 0 0" in out
    options = json.loads(Path("dataset/scientific/scientific.prep.json").read_text())["options"]
    assert (options["require_row"], options["each_rating"]) == (True, True)
    assert download(tiny, "--require-text", "--force") == 0
    assert "scientific: 6 users, 5 items, 30 interactions" in capsys.readouterr().out
    assert download(tiny, "--no-require-text", "--force") == 0
    assert "scientific: 6 users, 7 items, 42 interactions" in capsys.readouterr().out


@pytest.mark.parametrize("odd", ["B000000001,A1,,1400000000", "B000000001,A1,five,1400000000"])
def test_a_line_without_a_rating_is_none(tiny: FileServer, odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"B{item:09d},A{user},5.0,{START + item}\n" for user in range(6) for item in range(6)]
    metadata = "".join(json.dumps(meta_record(number, 2018)) + "\n" for number in range(6))
    tiny.files |= {RATINGS: "".join([*lines, f"{odd}\n"]).encode(), META: gzip.compress(metadata.encode())}
    assert download(tiny) == 0
    out = capsys.readouterr().out
    assert "6 users, 6 items, 36 interactions" in out
    assert "1 unusable lines of reviews left out" in out


def test_the_parts_of_the_text_that_each_program_reads(tiny: FileServer) -> None:
    lines = [f"B{item:09d},A{user},5.0,{START + item}\n" for user in range(6) for item in range(6)]
    metadata = "".join(json.dumps(meta_record(number, 2018)) + "\n" for number in range(6))
    tiny.files |= {RATINGS: "".join(lines).encode(), META: gzip.compress(metadata.encode())}
    texts = []
    for more in ([], ["--text-fields", "title,brand,description", "--force"]):
        assert download(tiny, *more) == 0
        texts.append(Path("dataset/scientific/scientific.item").read_text().splitlines()[1].split("\t")[1])
    assert texts == [
        "Item & part no. 0. Tools Hammers. O'Brand.",
        "Item & part no. 0. O'Brand. Made of steel. Weighs 0 kg.",
    ]


def test_files_of_ones_own_make_the_published_set(tiny: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    """What is named is not fetched, under the same rule: the way out where a known hash is wrong."""
    ratings, metadata = ratings_of(1), metadata_of(1)
    Path("r.csv").write_text(ratings)
    Path("m.json").write_text(metadata)
    tiny.files |= {META: gzip.compress(metadata.encode())}
    assert download(tiny, "--reviews", "r.csv") == 0
    assert sorted(rows()) == published_set(ratings, metadata)
    assert [path for path, _ in tiny.asked] == [META]
    command = "amazon --download scientific --reviews r.csv --meta m.json"
    assert run(command) == 2
    assert "not the published set" in capsys.readouterr().err
    assert run(f"{command} --other-counts") == 0
    assert "already up to date" in capsys.readouterr().out
    assert len(tiny.asked) == 1
