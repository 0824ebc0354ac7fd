"""Amazon's files of three years become the same data set, whatever the order of their lines."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from amazon_files import START, make_reviews, meta_record, review_record, to_line, write, write_year
from typed import run

from dataset_prep.sources.amazon import reviews as amazon_reviews
from dataset_prep.sources.amazon.layouts import detect_reviews

YEARS = (2014, 2018, 2023)
AMAZON = "amazon --reviews reviews --meta meta --name shop"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_year(tmp_path, 2018)
    return tmp_path


@pytest.fixture
def by_line(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of reviews that are read line by line, in order."""
    read: list[Path] = []
    usable_rows = amazon_reviews._usable_rows

    def noting(path: Path, *arguments: Any) -> Iterator[Any]:
        read.append(path)
        return usable_rows(path, *arguments)

    monkeypatch.setattr(amazon_reviews, "_usable_rows", noting)
    return read


def written(out: str = "dataset", name: str = "shop") -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(Path(out, name).iterdir())}


def inter() -> str:
    return Path("dataset/shop/shop.inter").read_text()


EXPECTED = "user_id:token\titem_id:token\ttimestamp:float\n" + "".join(
    f"{user}\t{item}\t{second}\n"
    for user, second, item in sorted((user, second, item) for user, item, second, _ in make_reviews())
)


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("suffix", ["", ".gz", ".json"])
def test_every_year_gives_the_same_interactions(files: Path, by_line: list[Path], year: int, suffix: str) -> None:
    folder = files / str(year)
    folder.mkdir()
    reviews, meta = write_year(folder, year, suffix)
    assert run(f"amazon --reviews {reviews} --meta {meta} --name shop") == 0
    assert inter() == EXPECTED
    assert by_line == ([reviews] if year == 2014 else [])  # only Python literals need it


@pytest.mark.parametrize(
    ("year", "text", "images"),
    [
        (2014, "Item & part no. 0. O'Brand. Tools Hammers. Made of steel. Weighs 0 kg. Light.", ["0.jpg"]),
        (
            2018,
            "Item & part no. 0. O'Brand. Tools Hammers. Light. Made of steel. Weighs 0 kg.",
            ["0.jpg", "0._SS40_.jpg"],
        ),
        (
            2023,
            "Item & part no. 0. O'Brand. Tools Hammers. Light. Made of steel. Weighs 0 kg.",
            ["0._SL500_.jpg", "0._SS40_.jpg"],
        ),
    ],
)
def test_items_have_texts_and_pictures(files: Path, year: int, text: str, images: list[str]) -> None:
    write_year(files, year)
    assert run(AMAZON) == 0
    head, first, *rest = Path("dataset/shop/shop.item").read_text().splitlines()
    assert head == "item_id:token\ttext:token_seq\timage:token"
    addresses = " ".join(f"https://images.example/I/{image}" for image in images)
    assert first.split("\t") == ["B000000000", text, addresses]
    assert len(rest) == 7


def test_json_lines_of_2014_are_read_as_those_of_2018(files: Path, by_line: list[Path]) -> None:
    for year in ("", "--year 2014", "--year 2018"):
        assert run(f"{AMAZON} {year} --force") == 0
        assert inter() == EXPECTED
    assert by_line == []


@pytest.mark.parametrize(
    ("order", "option", "said"),
    [
        ("item user", "", ""),
        ("user item", "", ""),  # ten characters are an item
        ("item user", "--year 2018", ""),
        ("user item", "--year 2014", ""),
        ("parent", "", ""),
    ],
)
def test_ratings_only_files(files: Path, by_line: list[Path], order: str, option: str, said: str) -> None:
    lines = [
        {
            "item user": f"{item},{user},{rating},{second}\n",
            "user item": f"{user},{item},{rating},{second}\n",
            "parent": f"{user},{item},{rating},{second}123\n",
        }[order]
        for user, item, second, rating in make_reviews()
    ]
    write(files / "reviews", ["user_id,parent_asin,rating,timestamp\n"] * (order == "parent") + lines)
    assert run(f"{AMAZON} {option}") == 0
    assert inter() == EXPECTED
    assert by_line == []


def test_short_ids_do_not_tell_the_order_of_columns(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ["i1,u1,5.0,1400000000\n"]
    assert detect_reviews(Path("r.csv"), [line.encode() for line in lines], None).columns[0] == "item"
    assert "r.csv: item first, as in 2018, or user first, as in 2014? Took the first; see --year" in caplog.text
    assert detect_reviews(Path("r.csv"), [line.encode() for line in lines], 2014).columns[0] == "user"


def test_several_files_of_any_year_are_one_set(files: Path) -> None:
    reviews = make_reviews()
    write(files / "a", [to_line(review_record(review, 2018)) for review in reviews[::3]])
    write(files / "b.gz", [to_line(review_record(review, 2023)) for review in reviews[1::3]])
    write(files / "c", [to_line(review_record(review, 2014), literal=True) for review in reviews[2::3]])
    write(files / "m1", [to_line(meta_record(number, 2018)) for number in range(4)])
    write(files / "m2", [to_line(meta_record(number, 2023)) for number in range(4, 8)])
    assert run("amazon --reviews a b.gz c --meta m1 m2 --name shop") == 0
    # those of 2023 are at the end of their second
    rows = sorted((user, second, at % 3 == 1, item) for at, (user, item, second, _) in enumerate(reviews))
    lines = [f"{user}\t{item}\t{second}\n" for user, second, _, item in rows]
    assert inter() == EXPECTED.splitlines(keepends=True)[0] + "".join(lines)
    first = written()
    assert run("amazon --reviews c a b.gz --meta m2 m1 --name shop --out again") == 0
    assert written("again") == first


@pytest.mark.parametrize("year", YEARS)
def test_shuffled_lines_and_other_hash_seeds_give_the_same_bytes(files: Path, year: int) -> None:
    literal = year == 2014
    reviews = [to_line(review_record(review, year), literal) for review in make_reviews()]
    reviews += [*reviews[:5], "broken\n"]
    meta = [to_line(meta_record(number, year), literal) for number in range(8)]
    # Rows of one item that differ: two texts of one length, and a longer one without a picture.
    for number in range(4):
        record = meta_record(number, year)
        meta.append(to_line({**record, "title": record["title"] + " in a longer text"}, literal))
        meta.append(to_line({**record, "title": record["title"] + " in another texts"}, literal))
        bare = {key: value for key, value in record.items() if not key.startswith("im")}
        meta.append(to_line({**bare, "title": record["title"] + " with the longest text of all"}, literal))
    results = []
    for seed in range(3):
        random.Random(seed).shuffle(reviews)
        random.Random(seed).shuffle(meta)
        write(files / "reviews", reviews)
        write(files / "meta", meta)
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "dataset_prep", *AMAZON.split(), "--out", str(seed)]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        results.append(written(str(seed)))
    assert results[0] == results[1] == results[2]
    assert sorted(results[0]) == ["shop.inter", "shop.item", "shop.prep.json"]
    first = results[0]["shop.item"].decode().splitlines()[1]
    assert "in another texts" in first  # with a picture, and later by code points
    record = json.loads(results[0]["shop.prep.json"])
    assert record["counts"]["repeated_interactions_dropped"] == 5
    assert record["counts"]["repeated_rows_of_the_metadata_dropped"] == 12
    assert record["counts"]["unusable_lines_of_reviews_left_out"] == 1


@pytest.mark.parametrize("more", [[], ["{broken\n"]])  # as a whole, and line by line
def test_what_happened_within_a_second_keeps_its_order(files: Path, more: list[str]) -> None:
    stamps = zip(("B000000003", "B000000002", "B000000001", "B000000003"), (100, 400, 900, 2000), strict=True)
    records = [
        {"user_id": "A1", "parent_asin": item, "timestamp": 1_600_000_000_000 + rest, "rating": 5.0}
        for item, rest in stamps
    ]
    write(files / "reviews", [*map(to_line, records), *more])
    assert run("amazon --reviews reviews --name bare --no-require-text --k-core 0") == 0
    lines = Path("dataset/bare/bare.inter").read_text().splitlines()[1:]
    assert [line.split("\t")[1][-1] for line in lines] == list("3213")
    assert [line.split("\t")[2] for line in lines] == ["1600000000"] * 3 + ["1600000002"]


def test_whole_files_and_lines_are_read_alike(files: Path, by_line: list[Path]) -> None:
    odd: list[dict[str, Any]] = [
        {"reviewerID": 7, "asin": "B000000001", "unixReviewTime": 1_400_000_000.9, "overall": 4},
        {"reviewerID": "A1", "asin": "B000000002", "unixReviewTime": "1400000001", "overall": "5"},
        {"reviewerID": "A1", "asin": "B000000002", "unixReviewTime": 1_400_000_002, "overall": None},
        {"asin": "B000000002", "unixReviewTime": 1_400_000_003, "reviewerID": "A2"},
    ]
    lines = [to_line(record) for record in odd]
    results = []
    for more in ([], ["{broken\n"]):
        write(
            files / "reviews", ["\ufeff" + lines[0].replace("\n", "\r\n"), "\n", *lines[1:-1], *more, lines[-1].strip()]
        )
        assert run(f"{AMAZON} --k-core 0 --min-rating 4 --force") == 0
        results.append(inter())
    assert by_line in ([Path("reviews")], [Path("reviews")] * 2)  # DuckDB 1.5 leaves the first to lines, too
    assert results[0] == results[1]
    assert results[0].splitlines()[1:] == ["7\tB000000001\t1400000000", "A1\tB000000002\t1400000001"]


def test_items_without_metadata_go_before_the_core(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"A{user}", f"B{item}") for user in range(5) for item in range(5)]
    rows += [("A9", f"B{item}") for item in range(4)] + [("A9", "Bnone")]  # five only with the item that goes
    rows += [(f"A{user}", "Bnone") for user in range(5)]
    records = [
        {"reviewerID": user, "asin": item, "unixReviewTime": START + number, "overall": 5.0}
        for number, (user, item) in enumerate(rows)
    ]
    write(files / "reviews", [to_line(record) for record in records])
    write(files / "meta", [to_line({"asin": f"B{item}", "title": "T"}) for item in range(5)])
    assert run(AMAZON) == 0
    out = capsys.readouterr().out
    assert "shop: 5 users, 5 items, 25 interactions; 5 items (100.0 %) with text" in out
    assert "items without text 6 0 1 5-core of what has text 4 1 0" in " ".join(out.split())
    assert run(f"{AMAZON} --no-require-text --force") == 0
    assert "shop: 6 users, 6 items, 35 interactions; 5 items (83.3 %) with text" in capsys.readouterr().out
    assert run("amazon --reviews reviews --name bare --no-require-text --k-core 0") == 0
    assert "bare: 6 users, 6 items, 35 interactions; 0 items (0.0 %) with text" in capsys.readouterr().out


def test_text_fields_are_chosen_and_ordered(files: Path) -> None:
    assert run(f"{AMAZON} --text-fields brand,title") == 0
    text = Path("dataset/shop/shop.item").read_text().splitlines()[1].split("\t")[1]
    assert text == "O'Brand. Item & part no. 0."


def test_no_picture_and_an_unread_shape_are_told_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = [{key: value for key, value in meta_record(n, 2014).items() if key != "imUrl"} for n in range(8)]
    write(files / "meta", [to_line({**record, "pictures": [], "imgs": {"main": n}}) for n, record in enumerate(bare)])
    assert run(AMAZON) == 0
    assert "  0 items with image\n" in capsys.readouterr().out
    write(files / "meta", [to_line({**record, "imgs": {"main": f"{n}.jpg"}}) for n, record in enumerate(bare)])
    assert run(AMAZON) == 0
    out = capsys.readouterr().out
    assert "  0 items with image\n" in out
    assert "  8 rows with pictures in a shape that is not read\n" in out
    assert out.count("pictures in a shape that is not read: meta line 1: 'imgs': {'main': '0.jpg'}\n") == 1


def test_rows_whose_title_is_a_script_count_as_without_text(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    title = "var aPageStart = (new Date()).getTime();"
    meta = [{**meta_record(n, 2018), **({"title": title} if n == 3 else {})} for n in range(8)]
    write(files / "meta", [to_line(record) for record in meta])
    assert run(f"{AMAZON} --no-require-text") == 0
    assert "1 titles that are a script dropped" in capsys.readouterr().out
    lines = Path("dataset/shop/shop.item").read_text().splitlines()[1:]
    assert [line.split("\t")[0] for line in lines if not line.split("\t")[1]] == ["B000000003"]


def test_metadata_of_other_items_are_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(files / "meta", [to_line(meta_record(number, 2018)) for number in range(20, 28)])
    for option in ("", "--no-require-text"):
        assert run(f"{AMAZON} {option}") == 2
        said = "error: --meta: has none of the 8 items of the interactions (here 'B000000000'); write the ids alike"
        assert capsys.readouterr().err.startswith(said)
    assert not Path("dataset").exists()


def test_addresses_that_are_none_are_dropped(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = ["file:///etc/passwd", "http://x/a b", "http://x/\ta", "javascript:1", "http://x/" + "a" * 3_000, "../x"]
    meta = [to_line({**meta_record(number, 2014), "imUrl": odd[number % 6]}) for number in range(8)]
    write(files / "meta", meta)
    assert run(AMAZON) == 0
    assert "8 picture addresses dropped" in capsys.readouterr().out
    assert {line.split("\t")[2] for line in Path("dataset/shop/shop.item").read_text().splitlines()[1:]} == {""}


def test_the_record_names_no_place_and_hashes_its_files(files: Path) -> None:
    assert run(AMAZON) == 0
    text = Path("dataset/shop/shop.prep.json").read_text()
    assert str(files) not in text
    for name, digest in json.loads(text)["outputs"].items():
        assert hashlib.sha256(Path("dataset/shop", name).read_bytes()).hexdigest() == digest


def test_the_same_files_again_change_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(AMAZON) == 0
    inode = Path("dataset/shop/shop.inter").stat().st_ino
    assert run(AMAZON) == 0
    assert "already up to date in dataset/shop" in capsys.readouterr().out
    assert Path("dataset/shop/shop.inter").stat().st_ino == inode
    write(files / "reviews", [to_line(review_record(review, 2018)) for review in make_reviews(seed=2)])
    assert run(AMAZON) == 2
    assert "use --force" in capsys.readouterr().err


def test_a_name_that_looks_like_a_pattern_is_a_name(files: Path, by_line: list[Path]) -> None:
    write(files / "review*", [to_line(review_record(review, 2018)) for review in make_reviews()[:36]])
    assert run("amazon --reviews review* --meta meta --name shop --k-core 0") == 0
    assert inter().count("\n") == 37  # not also the lines of "reviews"
    assert by_line == []


def test_members_of_a_gzip_file_are_all_read(files: Path) -> None:
    lines = [to_line(review_record(review, 2018)).encode() for review in make_reviews()]
    (files / "reviews").write_bytes(b"".join(gzip.compress(line) for line in lines))
    assert run(AMAZON) == 0
    assert inter() == EXPECTED


def test_leftovers_of_a_killed_run_go(files: Path) -> None:
    Path("dataset/.shop.spill").mkdir(parents=True)
    Path("dataset/.shop.spill/duckdb_temp_storage.tmp").write_bytes(b"half")
    Path("dataset/shop").mkdir()
    Path("dataset/shop/.lock").touch()  # the claim itself went with the process
    assert run(AMAZON) == 0
    assert sorted(os.listdir(files)) == ["dataset", "meta", "reviews"]
    assert os.listdir("dataset") == ["shop"]
    assert ".lock" not in os.listdir("dataset/shop")


def test_recbole_reads_the_set(files: Path) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset

    assert run(AMAZON) == 0
    settings = {
        "data_path": str(files / "dataset"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "text", "image"]},
        "train_neg_sample_args": None,
        "show_progress": False,
    }
    dataset = create_dataset(Config("SASRec", "shop", config_dict=settings))
    assert dataset.inter_num == 72
    assert dataset.item_num == 9  # and the padding
    assert dataset.num("image") == 9


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--reviews none --meta meta", "none: no such file"),
        ("--reviews reviews --meta none", "none: no such file"),
        ("--reviews reviews", "--meta is missing: give the metadata, or --no-require-text"),
        ("--reviews meta --meta meta", "none of the first 8 lines is a review in the layout of 2014, 2018 or 2023"),
        ("--reviews reviews --meta reviews", "reviews: these are reviews; give the file of metadata"),
        ("--reviews reviews --meta meta --year 2023", "is a review in the layout of 2023"),
        ("--reviews reviews --meta meta --text-fields titles", "choose from title, brand, .*; did you mean 'title'"),
        ("--reviews reviews --meta meta --text-fields title,title", "name each field once"),
        ("--reviews reviews --meta meta --max-bad -1", "--max-bad -1: must be 0 or more"),
        ("--reviews reviews --meta meta --since 2030-01-01", "'before --since' removed the last 72 interactions"),
        ("--reviews . --meta meta", ".: no such file"),
    ],
)
def test_mistakes_are_one_line(files: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    assert run(f"amazon {line} --name shop") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for part in said.split(".*"):
        assert part in captured.err
    assert not Path("dataset").exists()
