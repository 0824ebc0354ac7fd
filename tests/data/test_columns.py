"""Two readers of atomic files, the fast one and the plain one: whatever is in a file, all its rows or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recbole.data.dataset import Dataset, SequentialDataset
from tiny_data import NAME, make_config, make_dataset, write_inter, write_vectors

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.arrow import MISSING, read_with_arrow
from recbole_mmm4rec.data.columns import read_columns, read_plainly

HEADER = {"user_id": "token", "item_id": "token", "timestamp": "float", "tags": "token_seq"}
FIRST = "\t".join(f"{name}:{kind}" for name, kind in HEADER.items())
BLOCK = 256  # so that files of a test have several
QUOTES = ["u\ta\t0"] + [f'"p\t{item}\t{time}' for time, item in enumerate("abcd")]
QUOTES += [f'"q\t{item}\t{time}' for time, item in enumerate("bcde", 100)]

ANY = st.text(st.characters(exclude_characters="\t\n", exclude_categories=["Cs"]), max_size=8)
WORD = st.one_of(
    ANY,
    st.sampled_from(
        [*sorted(MISSING), '"', '"a', 'a"', '""', "''", " ", " x ", "\\", "\\n", "\0", "\r", "a\r", "\ufeff"]
    ),
    st.sampled_from(["007", "0", "370.0", "x" * 3 * BLOCK, "é€", "\x85", "\u2028", "\x0b", "\x1c"]),
)
NUMBER = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(["", "NaN", "NAN", " 3 ", "+7", "1e5", ".5", "5.", "1e400", "1e-400", "inf", "-Infinity", "\xa03"]),
    st.sampled_from(["1_0", "0x10", "nan(1)", "1,5", "-", " ", "١", "1e", '"1"', "123456789.123456789"]),
)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_mmm4rec.data.arrow._BLOCK", BLOCK)


def rows_as_the_format_has_them(content: bytes) -> list[list[str]] | None:
    """The rows below the header, by the format's definition; None for a file that is none."""
    rows = []
    for line in content.decode().split("\n")[1:]:
        text = line.removesuffix("\r")
        if text:
            fields = text.split("\t")
            if len(fields) != len(HEADER) or "\r" in text or "\0" in text:
                return None
            rows.append(fields)
    return rows


def number_of(text: str) -> float | None:
    if text in MISSING:
        return np.nan
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def expected(content: bytes) -> pd.DataFrame | None:
    """The frame of a file, from the definition; None where it must be refused."""
    rows = rows_as_the_format_has_them(content)
    numbers = None if rows is None else [number_of(row[2]) for row in rows]
    if rows is None or numbers is None or not rows or None in numbers:
        return None
    columns = list(zip(*rows, strict=True))
    tokens = [[None if word in MISSING else word for word in columns[at]] for at in (0, 1)]
    texts = ["" if word in MISSING else word for word in columns[3]]
    return pd.DataFrame({"user_id": tokens[0], "item_id": tokens[1], "timestamp": numbers, "tags": texts}, dtype=object)


def values(frame: pd.DataFrame) -> list[list[object]]:
    """Cells as Python values, a missing one None."""
    plain = frame.astype(object)
    return plain.where(plain.notna(), None).to_numpy().tolist()


def content_of(rows: Sequence[Sequence[str]], ending: str) -> bytes:
    return ending.join([FIRST, *("\t".join(row) for row in rows), ""]).encode()


@settings(max_examples=300)
@given(st.lists(st.tuples(WORD, WORD, NUMBER, WORD), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n", "\n\n"]))
@example([('"p', "a", "0", ""), ('"p', "b", "1", ""), ("q", 'x"', "2", "")], "\n")
def test_both_readers_give_what_the_format_says(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, str]], ending: str
) -> None:
    path = tmp_path_factory.mktemp("data") / "tiny.inter"
    path.write_bytes(content_of(rows, ending))
    wanted = expected(path.read_bytes())
    if wanted is None:
        assert read_with_arrow(path, HEADER, list(HEADER), "\t") is None
        for read in (read_columns, read_plainly):
            with pytest.raises(UserError, match=r"tiny\.inter line \d+: "):
                read(path, HEADER, list(HEADER), "\t", "utf-8")
        return
    plain = read_plainly(path, HEADER, list(HEADER), "\t", "utf-8")
    assert values(plain) == values(wanted)
    fast = read_with_arrow(path, HEADER, list(HEADER), "\t")
    if fast is not None:  # or it leaves the file to the plain reader
        pd.testing.assert_frame_equal(fast, plain, check_exact=True)
    chosen = read_columns(path, HEADER, ["tags", "item_id"], "\t", "utf-8")
    pd.testing.assert_frame_equal(chosen, plain[["tags", "item_id"]])


@settings(max_examples=100)
@given(st.binary(max_size=200))
@example(b"a\tb\t1\tx\rc\td\t2\ty\n")
@example(b'"a\tb\t1\tx\n"c\td\t2\ty\n')
@example(b"a\tb\t1\n")
def test_any_bytes_are_read_alike_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    path = tmp_path_factory.mktemp("data") / "tiny.inter"
    path.write_bytes(FIRST.encode() + b"\n" + body)
    fast = read_with_arrow(path, HEADER, list(HEADER), "\t")
    try:
        plain = read_plainly(path, HEADER, list(HEADER), "\t", "utf-8")
    except UserError as error:
        said, plain = str(error), None
    if plain is None:
        assert fast is None
        assert said.startswith(f"{path} line ")
        assert "\n" not in said
        return
    assert len(plain) == len(rows_as_the_format_has_them(path.read_bytes()) or [])
    if fast is not None:
        pd.testing.assert_frame_equal(fast, plain, check_exact=True)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r\n\r\n"])
def test_the_usual_files_take_the_fast_way(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "tiny.inter"
    path.write_bytes(content_of([('"u', 'a "b"', "1", "x y"), ("NA", "c", "", "None")], ending))
    found = read_with_arrow(path, HEADER, list(HEADER), "\t")
    assert found is not None
    assert values(found) == [['"u', 'a "b"', 1.0, "x y"], [None, "c", None, ""]]


def test_a_large_file_has_one_list_of_tokens(tmp_path: Path) -> None:
    """Several of the reader's blocks, so that codes of later blocks must go on where the first ones ended."""
    random = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", str(t), "") for t, (u, i) in enumerate(random.integers(0, 300, size=(3000, 2)))]
    path = tmp_path / "tiny.inter"
    path.write_bytes(content_of(rows, "\n"))
    found = read_with_arrow(path, HEADER, list(HEADER), "\t")
    assert found is not None
    assert found["user_id"].tolist() == [row[0] for row in rows]
    assert found["user_id"].cat.categories.tolist() == list(dict.fromkeys(row[0] for row in rows))


@pytest.mark.parametrize(
    ("encoding", "separator"), [("latin-1", "\t"), ("utf-16", "\t"), ("utf-8", "::"), ("utf-8-sig", "§")]
)
def test_other_encodings_and_separators(tmp_path: Path, encoding: str, separator: str) -> None:
    path = tmp_path / "tiny.inter"
    header = {"user_id": "token", "item_id": "token"}
    text = separator.join(["user_id:token", "item_id:token"]) + "\n" + separator.join(['"é', "b"]) + "\n"
    path.write_bytes(text.encode(encoding))
    assert values(read_columns(path, header, ["item_id", "user_id"], separator, encoding)) == [["b", '"é']]


def sets_of_quotes(root: Path) -> tuple[Dataset, ...]:
    """RecBole's general and sequential data set, and ours."""
    write_inter(root, [line.split("\t") for line in QUOTES])
    write_vectors(root, list("abcde"))
    config = make_config(root)
    return Dataset(config), SequentialDataset(config), make_dataset(root)


def test_ids_that_begin_with_a_quotation_mark_lose_no_row(tmp_path: Path) -> None:
    """By RecBole's reader "p ends where "q begins, over the lines between them."""
    for dataset in sets_of_quotes(tmp_path):
        assert dataset.inter_num == len(QUOTES) == 9
        assert dataset.field2id_token["user_id"].tolist() == ["[PAD]", "u", '"p', '"q']
        assert dataset.field2id_token["item_id"].tolist() == ["[PAD]", *"abcde"]


def test_features_of_every_kind_equal_those_of_the_file(tmp_path: Path) -> None:
    write_inter(tmp_path, [("u", "a", 1), ("u", "b", 2)])
    (tmp_path / NAME / f"{NAME}.item").write_bytes(
        b"\xef\xbb\xbfitem_id:token\tname:token\tprice:float\ttags:token_seq\tsizes:float_seq\r\n"
        b'a\t"x\t1.5\t"k l" m\t1 2.5\r\nb\ty"\t\t\t\r\n'
    )
    dataset = Dataset(make_config(tmp_path, load_col=None, seq_len={"tags": 2}))
    assert dataset.field2id_token["name"].tolist() == ["[PAD]", '"x', 'y"']
    assert dataset.field2id_token["tags"].tolist() == ["[PAD]", '"k', 'l"']
    assert dataset.item_feat["price"].tolist() == [1.5, 1.5, 1.5]  # a missing one is the mean
    assert [list(sizes) for sizes in dataset.item_feat["sizes"]] == [[], [1, 2.5], []]
    assert (dataset.field2seqlen["tags"], dataset.field2seqlen["sizes"]) == (2, 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1\tx\n", "line 2: 4 fields where the header has 3"),
        (
            b"user_id:token\titem_id:token\ttimestamp:float\tx:float\nu\ta\t1\n",
            "line 2: 3 fields where the header has 4",
        ),
        (b"user_id:token\tuser_id:token\ttimestamp:float\nu\ta\t1\n", "line 1: column 'user_id' is there twice"),
        (b"user_id:token\titem_id:token\ttimestamp:float\nu\t\xe9\t1\n", "line 2: not UTF-8.*encoding: latin-1"),
        (b"user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1\nv\tb\tx\n", "line 3: timestamp 'x' is not a number"),
        (
            b"user_id:token,item_id:token,timestamp:float\n",
            r"separated by ',' and not by '\\t': set field_separator: ','",
        ),
        (b"user_id:token item_id:token\n", "separated by ' '"),
    ],
)
def test_a_broken_file_is_refused_with_its_line_by_every_data_set(tmp_path: Path, content: bytes, said: str) -> None:
    write_inter(tmp_path, [])
    write_vectors(tmp_path, ["a"])
    (tmp_path / NAME / f"{NAME}.inter").write_bytes(content)
    config = make_config(tmp_path, load_col=None)
    for make in (lambda: Dataset(config), lambda: SequentialDataset(config), lambda: make_dataset(tmp_path)):
        with pytest.raises(UserError, match=rf"tiny\.inter.*{said}") as caught:
            make()
        assert "\n" not in str(caught.value)


def test_a_general_data_set_without_items_is_refused(tmp_path: Path) -> None:
    write_inter(tmp_path, [("u", "a", 1)], "user_id:token item:token timestamp:float")
    with pytest.raises(UserError, match=r"ITEM_ID_FIELD: column 'item_id' .*\(loaded are user_id, timestamp\)"):
        Dataset(make_config(tmp_path, "BPR"))
