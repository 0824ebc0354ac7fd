"""Tables, sequences and RecBole's own sets become atomic files, through the command line."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typed import run

from dataset_prep.filters.interactions import InteractionLog
from dataset_prep.sources.recbole_sets import title_sentence

INTERACTIONS = "user_id,item_id,timestamp\nu2,b,5\nu1,c,7.9\nu1,a,7\nu2,b,5\nu10,z,1\n"
ITEMS = "item_id\ttext\nc\t C  text\na\tA text\na\tlater text\nq\t\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("i.csv").write_text(INTERACTIONS)
    Path("p.tsv").write_text(ITEMS)
    return tmp_path


TABLE = "table --interactions i.csv --items p.tsv --name shop"


def test_a_table_becomes_sorted_atomic_files(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(TABLE) == 0
    assert Path("dataset/shop/shop.inter").read_text() == (
        "user_id:token\titem_id:token\ttimestamp:float\nu1\ta\t7\nu1\tc\t7\nu10\tz\t1\nu2\tb\t5\n"
    )
    assert Path("dataset/shop/shop.item").read_text() == (
        "item_id:token\ttext:token_seq\na\tA text\nb\t\nc\tC text\nq\t\nz\t\n"
    )
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "shop: 3 users, 5 items, 4 interactions; 2 items (40.0 %) with text"
    assert said[-2:] == ["written to dataset/shop", "next: python -m dataset_prep embed shop"]
    record = json.loads(Path("dataset/shop/shop.prep.json").read_text())
    assert record["counts"] == {
        "users": 3,
        "items": 5,
        "interactions": 4,
        "items_with_text": 2,
        "items_never_interacted_with": 1,
        "items_missing_from_the_item_table": 2,
        "repeated_interactions_dropped": 1,
        "repeated_rows_of_the_item_table_dropped": 1,
    }
    assert record["share_of_items_with_text"] == 0.4
    for name, digest in record["outputs"].items():
        assert hashlib.sha256((files / "dataset/shop" / name).read_bytes()).hexdigest() == digest
    assert str(files) not in Path("dataset/shop/shop.prep.json").read_text()


def test_shuffled_lines_give_the_same_files(files: Path) -> None:
    head, *lines = INTERACTIONS.splitlines(keepends=True)
    run(TABLE)
    before = {suffix: Path(f"dataset/shop/shop.{suffix}").read_bytes() for suffix in ("inter", "item")}
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        Path("i.csv").write_text(head + "".join(lines))
        assert run(TABLE) == 0  # the outputs are the same, so no --force is asked for
        assert {suffix: Path(f"dataset/shop/shop.{suffix}").read_bytes() for suffix in ("inter", "item")} == before


def test_the_hash_seed_does_not_matter(files: Path) -> None:
    written = []
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "dataset_prep", *TABLE.split(), "--out", seed]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        written.append({file.name: file.read_bytes() for file in Path(seed, "shop").iterdir()})
    assert len(written[0]) == 3
    assert written[0] == written[1] == written[2]


def test_line_order_can_stand_for_time(files: Path) -> None:
    Path("i.csv").write_text("user_id,item_id\nu,c\nv,b\nu,a\nu,c\n")
    assert run(f"{TABLE} --time-from-order") == 0
    lines = Path("dataset/shop/shop.inter").read_text().splitlines()[1:]
    assert lines == ["u\tc\t0", "u\ta\t1", "u\tc\t2", "v\tb\t0"]


def test_other_column_names_and_units(files: Path) -> None:
    Path("i.csv").write_text("ts,who,sku\n1600000000999,007,a\n1600000001000,007,c\n")
    Path("p.tsv").write_text("title\tsku\nA\ta\n")
    columns = "--columns user_id=who,item_id=sku,timestamp=ts,text=title"
    assert run(f"{TABLE} {columns} --time-unit ms") == 0
    lines = Path("dataset/shop/shop.inter").read_text().splitlines()[1:]
    assert lines == ["007\ta\t1600000000", "007\tc\t1600000001"]


def test_what_happened_within_a_second_keeps_its_order(files: Path) -> None:
    Path("i.csv").write_text(
        "user_id,item_id,timestamp\nu,z,1600000000100\nu,m,1600000000400\nu,a,1600000000900\nu,z,1600000000700\n"
    )
    columns = "--time-unit ms"
    Path("p.tsv").write_text("item_id\ttext\nz\tZ\n")
    for options, wanted in (("", "zmza"), ("--latest 2 --force", "za"), ("--repeats first --force", "zma")):
        assert run(f"{TABLE} {columns} {options}") == 0
        lines = Path("dataset/shop/shop.inter").read_text().splitlines()[1:]
        assert lines == [f"u\t{item}\t1600000000" for item in wanted]
    assert json.loads(Path("dataset/shop/shop.prep.json").read_text())["counts"]["repeated_interactions_dropped"] == 0


@pytest.mark.parametrize(
    ("content", "extra", "said"),
    [
        ("user_id,item_id,timestamp\nu,a,5\nv,b,5\n", "", "every timestamp is 5.*use --time-from-order"),
        ("user_id,item_id,timestamp\n", "", "i.csv: no interactions"),
        ("user_id,item_id,timestamp\nu,a,1\nu v,b,5\n", "", "i.csv line 3: user_id 'u v' holds a blank"),
        ("user_id,item_id,timestamp\nu,a,1\nv,,5\n", "", "i.csv line 3: item_id is empty"),
        ("user_id,item_id,timestamp\nu,a,1600000000000\n", "", "i.csv line 2: .*add --time-unit ms"),
        ("user_id,itemid,timestamp\nu,a,1\n", "", "no column 'item_id' among .*did you mean 'itemid'"),
        (INTERACTIONS, "--columns user_idd=x", "choose from .*did you mean 'user_id'"),
        (INTERACTIONS, "--columns user_id", "write NAME=COLUMN"),
        (INTERACTIONS, "--columns text=a,text=b", "text is given twice"),
        (INTERACTIONS, "--name ../x", "--name '../x'"),
        (INTERACTIONS, "--items none.tsv", "none.tsv: no such file"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    files: Path, capsys: pytest.CaptureFixture[str], content: str, extra: str, said: str
) -> None:
    Path("i.csv").write_text(content)
    assert run(f"{TABLE} {extra}") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert pd.Series([captured.err]).str.contains(said).all(), captured.err
    assert not Path("dataset").exists()


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ("200.0", "200", "(here '200', there '200.0'; without '.0' at the end they match)"),
        ("0200", "200", "(here '200', there '0200'; without zeros at the beginning they match)"),
        ("AB", "ab", "(here 'ab', there 'AB'; without capitals they match)"),
        ("x", "200", "(here '200', there 'x')"),
        ("", "200", "(here '200')"),
    ],
)
@pytest.mark.parametrize("source", ["table --interactions i.csv", "sequences --sequences s.csv"])
def test_ids_that_never_match_are_refused(
    files: Path, capsys: pytest.CaptureFixture[str], source: str, there: str, here: str, said: str
) -> None:
    Path("i.csv").write_text(f"user_id,item_id,timestamp\nu,{here},1\nv,{here},2\n")
    Path("s.csv").write_text(f"user_id,item_ids\nu,{here}\n")
    Path("p.csv").write_text("item_id,text\n" + (f"{there},A\n" if there else ""))
    for filters in ("", "--require-text"):
        assert run(f"{source} --items p.csv --name shop {filters}") == 2
        wanted = f"error: p.csv: has none of the 1 items of the interactions {said}; write the ids alike"
        assert capsys.readouterr().err.startswith(wanted)
    assert not Path("dataset").exists()


def test_it_is_told_how_many_ids_match(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(TABLE) == 0
    assert "  2 of 4 items with interactions are in the item table\n" in capsys.readouterr().out
    Path("p.tsv").write_text("item_id\ttext\n" + "".join(f"{item}\tT\n" for item in "abcz"))
    assert run(f"{TABLE} --force") == 0
    assert "in the item table" not in capsys.readouterr().out


def test_further_columns_of_items_are_kept_as_they_stand(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.csv").write_text('item_id,text,kind,Price\nc,C,"two\twords",007\na,A,,1.50\na,later,x,y\n')
    assert run("table --interactions i.csv --items p.csv --name shop --keep Price,kind") == 0
    assert Path("dataset/shop/shop.item").read_text() == (
        "item_id:token\ttext:token_seq\tPrice:token\tkind:token\na\tA\t1.50\t\nb\t\t\t\nc\tC\t007\ttwo words\nz\t\t\t\n"
    )
    assert json.loads(Path("dataset/shop/shop.prep.json").read_text())["options"]["keep"] == ["Price", "kind"]
    Path("q.csv").write_text("item_id,text,rating\na,A,4.5\n")
    assert run("table --interactions i.csv --items q.csv --name rated --keep rating --columns text=rating") == 0
    assert Path("dataset/rated/rated.item").read_text().splitlines()[1] == "a\t4.5\t4.5"
    capsys.readouterr()
    for keep, word in (
        ("colour", "no column 'colour'"),
        ("text", "of that name"),
        ("user_id", "of that name"),
        ("kind,kind", "named twice"),
    ):
        assert run(f"table --interactions i.csv --items p.csv --name other --keep {keep}") == 2
        assert word in capsys.readouterr().err
    assert not Path("dataset/other").exists()


def test_nan_in_json_lines_is_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = float("nan")
    rows = [{"item_id": "a", "text": nothing, "image": nothing, "kind": nothing}, {"item_id": "b", "image": "x.jpg"}]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = "table --items p.jsonl --name shop --keep kind --interactions"
    assert run(f"{line} i.csv") == 0
    assert Path("dataset/shop/shop.item").read_text().splitlines()[1:3] == ["a\t\t\t", "b\t\tx.jpg\t"]
    good = {"user_id": "u", "item_id": "a", "timestamp": 1}
    for column in good:
        Path("j.jsonl").write_text(json.dumps({**good, column: nothing}) + "\n")
        capsys.readouterr()
        assert run(f"{line} j.jsonl --force") == 2
        assert f"j.jsonl line 1: {column}" in (said := capsys.readouterr().err)
        assert "empty" in said


def test_texts_that_are_a_script_are_none(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.tsv").write_text("item_id\ttext\na\tvar aPageStart = (new Date()).getTime();\nb\tB\n")
    assert run(TABLE) == 0
    assert "  1 texts that are a script dropped\n" in capsys.readouterr().out
    assert "a\t\n" in Path("dataset/shop/shop.item").read_text()


def test_another_set_is_replaced_only_when_forced(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(TABLE)
    before = {file.name: file.read_bytes() for file in Path("dataset/shop").iterdir()}
    Path("i.csv").write_text("user_id,item_id,timestamp\nu,a,1\nu,b,2\n")
    assert run(TABLE) == 2
    assert "dataset/shop holds another data set (shop.inter differs); use --force" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in Path("dataset/shop").iterdir()} == before
    assert run(f"{TABLE} --force") == 0
    assert Path("dataset/shop/shop.inter").read_text().splitlines()[1:] == ["u\ta\t1", "u\tb\t2"]


def test_the_same_again_changes_nothing_and_a_damaged_file_is_made_again(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TABLE)
    inter = Path("dataset/shop/shop.inter")
    before, inode = inter.read_bytes(), inter.stat().st_ino
    capsys.readouterr()
    assert run(TABLE) == 0
    assert "already up to date in dataset/shop" in capsys.readouterr().out
    assert inter.stat().st_ino == inode
    inter.write_bytes(before[:-4])
    Path("dataset/shop/.shop.item.tmp").write_text("half")
    assert run(TABLE) == 0  # the record says that the files come from these inputs
    assert inter.read_bytes() == before
    assert sorted(file.name for file in inter.parent.iterdir()) == ["shop.inter", "shop.item", "shop.prep.json"]


def test_a_stale_user_file_goes_with_the_set_it_belonged_to(files: Path) -> None:
    assert run("recbole ml-100k --name shop") == 0
    assert Path("dataset/shop/shop.user").exists()
    assert run(f"{TABLE} --force") == 0
    assert sorted(file.name for file in Path("dataset/shop").iterdir()) == [
        "shop.inter",
        "shop.item",
        "shop.prep.json",
    ]


@given(st.lists(st.tuples(*(st.sampled_from(["a", "b", "c"]),) * 2, st.integers(0, 3)), max_size=20))
def test_the_log_is_the_set_of_what_was_added_by_user_and_time(triples: list[tuple[str, str, int]]) -> None:
    log = InteractionLog()
    for user, item, time in triples:
        log.add(user, item, time)
    table = log.finish()
    rows = zip(table.user.tolist(), table.time.tolist(), table.item.tolist(), strict=True)
    added = list(dict.fromkeys((user, time, item) for user, item, time in triples))
    expected = sorted(added, key=lambda row: row[:2])  # stable: of equal times as they came
    assert [(table.users[user], time, table.items[item]) for user, time, item in rows] == expected
    assert table.duplicates == len(triples) - len(expected)


SEQUENCES = "sequences --sequences s.tsv --items p.tsv --name shop"


def test_sequences_take_positions_for_times(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.tsv").write_text("user_id\titem_ids\nu2\tc a c\nu1\tz\nu3\t\n")
    assert run(SEQUENCES) == 0
    lines = Path("dataset/shop/shop.inter").read_text().splitlines()[1:]
    assert lines == ["u1\tz\t0", "u2\tc\t0", "u2\ta\t1", "u2\tc\t2"]
    out = capsys.readouterr().out
    assert "2 users, 4 items, 4 interactions" in out
    assert "1 users without items dropped" in out
    assert "1 items missing from the item table" in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("user_id\titem_ids\nu\ta\nv\tb\nu\tc\n", "s.tsv line 4: user 'u' was there before (s.tsv line 2)"),
        ("user_id\titem_ids\nu\ta NA\n", "s.tsv line 2: item_ids 'NA' is a word that RecBole reads as a missing"),
        ("user_id\titem_ids\nu\t\n", "s.tsv: no interactions"),
        ("user\titem_ids\nu\ta\n", "no column 'user_id' among user, item_ids"),
    ],
)
def test_malformed_sequences_are_named(
    files: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    Path("s.tsv").write_text(content)
    assert run(SEQUENCES) == 2
    assert said in capsys.readouterr().err


def test_recbole_ml_100k_is_copied_with_texts(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.util

    assert run("recbole ml-100k") == 0
    assert "943 users, 1,682 items, 100,000 interactions; 1,681 items (99.9 %) with text" in capsys.readouterr().out
    spec = importlib.util.find_spec("recbole")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "dataset_example/ml-100k"
    made = Path("dataset/ml-100k")
    for suffix in ("inter", "user", "kg", "link"):
        assert (made / f"ml-100k.{suffix}").read_bytes() == (source / f"ml-100k.{suffix}").read_bytes()
    assert {file.suffix for file in made.iterdir()} == {file.suffix for file in source.iterdir()} | {".json"}
    items = (made / "ml-100k.item").read_text(encoding="utf-8").splitlines()
    assert [line.rsplit("\t", 1)[0] for line in items] == (source / "ml-100k.item").read_text("utf-8").splitlines()
    assert items[0].endswith("\ttext:token_seq")
    assert items[1].endswith("\tToy Story (1995). Animation Children's Comedy.")
    assert items[267].endswith("\tunknown\t")  # the one film of which nothing is known


def test_filters_take_links_of_items_along(files: Path) -> None:
    assert run("recbole ml-100k --k-core 20 --min-rating 4 --name core") == 0
    items = {line.split("\t")[0] for line in Path("dataset/core/core.item").read_text("utf-8").splitlines()[1:]}
    links = {line.split("\t")[0] for line in Path("dataset/core/core.link").read_text("utf-8").splitlines()[1:]}
    assert links < items
    assert len(links) > 100
    assert len(Path("dataset/core/core.kg").read_bytes()) > 1_000_000


@pytest.mark.parametrize(
    ("title", "year", "genres", "text"),
    [
        ("Twelve Monkeys", "1995", "Drama Sci-Fi", "Twelve Monkeys (1995). Drama Sci-Fi."),
        ("Great Giving (1995)", "V", "Animation", "Great Giving (1995). Animation."),
        ("I.Q.", "unknown", "Comedy", "I.Q. Comedy."),
        ("Good Morning", "1971", "unknown", "Good Morning (1971)."),
        ("unkonwn", "unkonwn", "unknown", ""),  # codespell:ignore unkonwn
    ],
)
def test_titles_become_sentences(title: str, year: str, genres: str, text: str) -> None:
    assert title_sentence(title, year, genres) == text


def test_unknown_recbole_sets_list_what_there_is(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("recbole ml-1000k") == 2
    assert "it has: ml-100k; did you mean 'ml-100k'?" in capsys.readouterr().err


def test_a_folder_in_the_way_is_one_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file")
    assert run(f"{TABLE} --out taken") == 2
    assert capsys.readouterr().err.startswith("error: taken/shop: ")


@pytest.mark.parametrize("line", ["", "tables", "table --name x", "embed x --dtype float64", "table --inter i.csv"])
def test_wrong_arguments_are_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(line)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_every_subcommand_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for subcommand in ("recbole", "table", "sequences", "amazon", "demo", "merge", "images", "embed", "inspect"):
        with pytest.raises(SystemExit) as stopped:
            run(f"{subcommand} --help")
        assert stopped.value.code == 0
        assert f"python -m dataset_prep {subcommand} " in capsys.readouterr().out.partition("example")[2]
