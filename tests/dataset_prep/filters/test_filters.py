"""Filters against plain loops, and through every source's command line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typed import run

from dataset_prep.filters.filters import Filters, apply_filters, k_core, repeats
from dataset_prep.filters.interactions import InteractionLog, Interactions

Row = tuple[str, str, int, float]
rows_of_a_shop = st.lists(
    st.tuples(
        st.sampled_from("uvwxyz"), st.sampled_from("abcdef"), st.integers(0, 5), st.sampled_from([1.0, 3.0, 5.0])
    ),
    max_size=60,
)


def log_of(rows: list[Row]) -> Interactions:
    log = InteractionLog(with_rating=True)
    for row in rows:
        log.add(*row)
    return log.finish()


def rows_of(table: Interactions) -> list[tuple[str, int, str]]:
    columns = zip(table.user.tolist(), table.time.tolist(), table.item.tolist(), strict=True)
    return [(table.users[user], time, table.items[item]) for user, time, item in columns]


def slow_core(rows: list[tuple[str, int, str]], k: int) -> list[tuple[str, int, str]]:
    while True:
        users, items = Counter(row[0] for row in rows), Counter(row[2] for row in rows)
        for row in rows:  # one at a time: no two of them leave together
            if users[row[0]] < k or items[row[2]] < k:
                rows = [other for other in rows if other is not row]
                break
        else:
            return rows


def slow_filter(rows: list[Row], filters: Filters, texts: dict[str, str]) -> list[tuple[str, int, str]]:
    least = -np.inf if filters.min_rating is None else filters.min_rating
    begin = -np.inf if filters.since is None else filters.since
    end = np.inf if filters.until is None else filters.until
    first = {row[:3]: at for at, row in reversed(list(enumerate(rows)))}
    there = {row[:3] for row in rows if row[3] >= least and begin <= row[2] < end}
    kept = [(user, time, item) for user, item, time in sorted(there, key=lambda row: (row[0], row[2], first[row]))]
    if filters.repeats != "all":
        times: dict[tuple[str, str], list[int]] = {}
        for user, time, item in kept:
            times.setdefault((user, item), []).append(time)
        choose = min if filters.repeats == "first" else max
        kept = [row for row in kept if row[1] == choose(times[row[0], row[2]])]
    if filters.latest:
        kept = [row for at, row in enumerate(kept) if sum(later[0] == row[0] for later in kept[at:]) <= filters.latest]
    if filters.require_text:
        kept = [row for row in kept if texts.get(row[2])]
    return slow_core(kept, filters.k_core)


@given(
    rows_of_a_shop,
    st.builds(
        Filters,
        k_core=st.integers(0, 3),
        min_rating=st.sampled_from([None, 2.0, 5.0]),
        since=st.sampled_from([None, 0, 2]),
        until=st.sampled_from([None, 4, 9]),
        repeats=st.sampled_from(["all", "first", "last"]),
        require_text=st.booleans(),
        latest=st.integers(0, 4),
    ),
)
@settings(max_examples=300)
def test_filters_agree_with_loops(rows: list[Row], filters: Filters) -> None:
    texts = {"a": "A", "b": "", "c": "C", "d": "D", "e": "E"}
    before = log_of(rows)
    table, steps = apply_filters(before, filters, texts)
    assert rows_of(table) == slow_filter(rows, filters, texts)
    assert table.users == sorted({row[0] for row in rows_of(table)})
    assert table.items == sorted({row[2] for row in rows_of(table)})
    for removed, left, right in (
        ("interactions", before.user, table.user),
        ("users", before.users, table.users),
        ("items", before.items, table.items),
    ):
        assert sum(getattr(step, removed) for step in steps) == len(left) - len(right)


@given(rows_of_a_shop, st.integers(1, 4))
def test_a_core_is_one_and_the_order_of_rows_does_not_matter(rows: list[Row], k: int) -> None:
    user = np.array([ord(row[0]) for row in rows], dtype=np.int64)
    item = np.array([ord(row[1]) for row in rows], dtype=np.int64)
    kept = k_core(user, item, k)
    assert all(count >= k for count in Counter(user[kept].tolist()).values())
    assert all(count >= k for count in Counter(item[kept].tolist()).values())
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    assert k_core(user[order], item[order], k).tolist() == kept[order].tolist()


def test_a_core_falls_link_by_link() -> None:
    chain = np.arange(50)  # user n has items n and n + 1: only from the ends does the 2-core fall apart
    user, item = np.concatenate([chain, chain]), np.concatenate([chain, chain + 1])
    assert not k_core(user, item, 2).any()
    ring = item % 50
    assert k_core(user, ring, 2).all()


def test_repeats_keep_the_first_or_the_last() -> None:
    user, item = np.array([0, 0, 0, 1, 1]), np.array([3, 2, 3, 3, 3])
    assert repeats(user, item, "first").tolist() == [True, True, False, True, False]
    assert repeats(user, item, "last").tolist() == [False, True, True, False, True]


def test_of_exact_repetitions_the_highest_rating_counts() -> None:
    rows: list[Row] = [("u", "a", 1, 2.0), ("u", "a", 1, 5.0), ("u", "a", 1, float("nan")), ("u", "b", 1, float("nan"))]
    for order in (rows, rows[::-1]):
        table, steps = apply_filters(log_of(order), Filters(min_rating=4), {})
        assert rows_of(table) == [("u", 1, "a")]
        assert [(step.what, step.interactions, step.users, step.items) for step in steps] == [
            ("rating below 4", 1, 0, 1)
        ]


INTERACTIONS = (
    "user_id,item_id,timestamp,rating\nu,a,100,5\nu,b,200,4\nu,a,300,1\nv,a,1514764800,5\nv,b,1514764799,\nw,c,400,5\n"
)
TABLE = "table --interactions i.csv --items p.csv --name shop"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("i.csv").write_text(INTERACTIONS)
    Path("p.csv").write_text("item_id,text\na,A\nb,\nc,C\nunseen,U\n")
    Path("s.tsv").write_text("user_id\titem_ids\nu\ta b a\nv\ta b\nw\tc\n")
    return tmp_path


def inter(name: str = "shop") -> list[str]:
    return [line.replace("\t", " ") for line in Path(f"dataset/{name}/{name}.inter").read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ("--min-rating 4", ["u a 100", "u b 200", "v a 1514764800", "w c 400"]),
        ("--since 300 --until 1514764800", ["u a 300", "v b 1514764799", "w c 400"]),
        ("--since 2018-01-01", ["v a 1514764800"]),
        ("--until 2018-01-01", ["u a 100", "u b 200", "u a 300", "v b 1514764799", "w c 400"]),
        ("--repeats first", ["u a 100", "u b 200", "v b 1514764799", "v a 1514764800", "w c 400"]),
        ("--repeats last --k-core 2", ["u b 200", "u a 300", "v b 1514764799", "v a 1514764800"]),
        ("--latest 1", ["u a 300", "v a 1514764800", "w c 400"]),
        ("--k-core 1", ["u a 100", "u b 200", "u a 300", "v b 1514764799", "v a 1514764800", "w c 400"]),
        ("--require-text --k-core 1", ["u a 100", "u a 300", "v a 1514764800", "w c 400"]),
    ],
)
def test_a_table_is_filtered(files: Path, options: str, left: list[str]) -> None:
    assert run(f"{TABLE} {options}") == 0
    assert inter() == left
    items = [line.split("\t")[0] for line in Path("dataset/shop/shop.item").read_text().splitlines()[1:]]
    assert items == sorted({line.split()[1] for line in left})  # nothing that nobody took


def test_what_was_removed_is_told_and_recorded(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{TABLE} --min-rating 4 --k-core 2 --require-text") == 2  # nothing is left
    assert "--name shop: '2-core' removed the last 4 interactions; ask for less" in capsys.readouterr().err
    assert not Path("dataset/shop").exists()
    assert run(f"{TABLE} --min-rating 4 --k-core 1 --repeats last") == 0
    out = capsys.readouterr().out
    assert "rating below 4 2 0 0" in " ".join(out.split())
    record = json.loads(Path("dataset/shop/shop.prep.json").read_text())
    assert record["options"]["filters"] == {
        "k_core": 1,
        "min_rating": 4.0,
        "since": None,
        "until": None,
        "repeats": "last",
        "require_text": False,
        "latest": 0,
    }
    assert record["removed_by_filters"] == [
        {"what": "rating below 4", "interactions": 2, "users": 0, "items": 0},
        {"what": "repeats, all but the last", "interactions": 0, "users": 0, "items": 0},
        {"what": "1-core", "interactions": 0, "users": 0, "items": 0},
    ]


def test_sequences_are_filtered(files: Path) -> None:
    line = "sequences --sequences s.tsv --items p.csv --name shop"
    assert run(f"{line} --repeats last --k-core 2") == 0
    assert inter() == ["u b 1", "u a 2", "v a 0", "v b 1"]
    with pytest.raises(SystemExit) as stopped:
        run(f"{line} --since 2018-01-01")  # positions are no dates
    assert stopped.value.code == 2


def test_a_recbole_set_is_filtered_in_all_its_files(files: Path) -> None:
    assert run("recbole ml-100k --min-rating 4 --k-core 30 --require-text") == 0
    folder = Path("dataset/ml-100k")
    rows = [line.split("\t") for line in (folder / "ml-100k.inter").read_text().splitlines()[1:]]
    assert min(float(row[2]) for row in rows) == 4
    for column, suffix in ((0, "user"), (1, "item")):
        counts = Counter(row[column] for row in rows)
        assert min(counts.values()) >= 30
        ids = [line.split("\t")[0] for line in (folder / f"ml-100k.{suffix}").read_text().splitlines()[1:]]
        assert sorted(ids) == sorted(counts)
    assert run("recbole ml-100k --name whole") == 0
    kept = [line.split("\t") for line in Path("dataset/whole/whole.inter").read_text().splitlines()[1:]]
    kept = [row for row in kept if float(row[2]) >= 4 and row[1] != "267"]  # the film without text
    size = 0
    while size != len(kept):
        size, users, items = len(kept), Counter(row[0] for row in kept), Counter(row[1] for row in kept)
        kept = [row for row in kept if users[row[0]] >= 30 and items[row[1]] >= 30]
    assert rows == kept  # in the order they had


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--k-core -1", "--k-core -1: must be 0 (none) or more"),
        ("--min-rating good", "--min-rating 'good': give a number"),
        ("--min-rating nan", "--min-rating 'nan': give a number"),
        ("--since 2018", None),
        ("--since 2018-02-30", "--since '2018-02-30': give UNIX seconds or a date"),
        ("--until yesterday", "--until 'yesterday': give UNIX seconds or a date"),
        ("--since 2018-01-02 --until 2018-01-02", "nothing lies between"),
        ("--k-core 9", "'9-core' removed the last 6 interactions; ask for less"),
        ("--min-rating 1 --columns rating=item_id", "i.csv line 2: rating 'a' is no number"),
        ("--min-rating 1 --columns rating=stars", "no column 'stars'"),
        ("--columns rating=stars", "--columns rating=stars: ratings are read for --min-rating alone; give that, too"),
        ("--time-from-order --time-unit s", "--time-unit s: with --time-from-order no timestamp is read; leave one"),
        ("--time-from-order --since 3", "with --time-from-order there are no dates"),
    ],
)
def test_filter_mistakes_are_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], options: str, said: str | None
) -> None:
    status = run(f"{TABLE} {options}")
    captured = capsys.readouterr()
    if said is None:  # a small number is a second of 1970, not a year
        assert status == 0
        assert inter() == ["v b 1514764799", "v a 1514764800"]
        return
    assert status == 2
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not Path("dataset").exists()
