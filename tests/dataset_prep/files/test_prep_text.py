"""Cleaning and id checks, measured against how RecBole reads a file."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.texts import MAX_CHARS, READ_AS_MISSING, check_id, check_set_name, clean_text, is_script
from recbole_mmm4rec.data.arrow import MISSING


def read_like_recbole(rows: list[tuple[str, str]]) -> pd.DataFrame:
    content = "item_id:token\ttext:token_seq\n" + "".join(f"{item}\t{text}\n" for item, text in rows)
    content.encode()  # a lone surrogate could not be written
    return pd.read_csv(io.StringIO(content), delimiter="\t", dtype=str, engine="python")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  Toy \t Story\r\n(1995) ", "Toy Story (1995)"),
        ("a\u00a0b\u2028c\x0bd", "a b c d"),
        ("a\x00b\x07c\x9fd\ud800e", "abcde"),
        ("\ufffdÉtude – 4 ½″", "\ufffdÉtude – 4 ½″"),
        ('5" pipe', '5" pipe'),
        ('"quoted" title', '\u201cquoted" title'),
        (" \t\n\x00", ""),
        ("x" * (MAX_CHARS + 5), "x" * MAX_CHARS),
    ],
)
def test_text_becomes_one_clean_line(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


@given(st.lists(st.text(st.characters(), max_size=30), min_size=1, max_size=6))
def test_recbole_reads_back_any_clean_text(raw: list[str]) -> None:
    texts = [clean_text(text) for text in raw]
    frame = read_like_recbole([(f"i{row}", text) for row, text in enumerate(texts)])
    read = frame["text:token_seq"].fillna("").tolist()
    assert read == ["" if text in READ_AS_MISSING else text for text in texts]


@given(st.text(st.characters(), max_size=8))
def test_recbole_reads_back_any_id_that_passes(value: str) -> None:
    try:
        check_id(value, "item_id", "here")
    except UserError:
        return  # which ids are refused, and how, stands below
    assert read_like_recbole([(value, "x"), ("z", "y")])["item_id:token"].tolist() == [value, "z"]


@pytest.mark.parametrize("value", ["007", "B000FN15YM", "a-b_c:d", "naïve", 'a"b', "nan1"])
def test_usual_ids_pass(value: str) -> None:
    assert check_id(value, "item_id", "here") == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "is empty"),
        ("a b", "holds a blank"),
        ("a\tb", "holds a TAB"),
        ("a\n", "holds a line break"),
        ("a\0", "holds a NUL"),
        ("a\u00a0", r"holds the character U\+00A0"),
        ("\ud800", r"holds the character U\+D800"),
        ('"a', "quotation mark"),
        ("NA", "missing value"),
        ("nan", "missing value"),
    ],
)
def test_ids_that_recbole_would_lose_are_refused(value: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        check_id(value, "sku", "f.csv line 3")
    assert str(caught.value).startswith("f.csv line 3: sku ")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "-x", "x\n"])
def test_set_names_name_a_folder(name: str) -> None:
    with pytest.raises(UserError, match="--name"):
        check_set_name(name)
    assert check_set_name("Amazon_Books-5.0") == "Amazon_Books-5.0"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("var aPageStart = (new Date()).getTime();var ue_t0=ue_t0||+new Date();", True),
        (" window.ue_ihb = (window.ue_ihb || 0) + 1;", True),
        ("(function(a,b){})();", True),
        ("function f() { return 1; }", True),
        ("if (window.ue) {}", True),
        ("document.write('x');", True),
        ("Var = Variance; a primer", False),
        ("var wheel bearing kit; (2 pcs)", False),
        ("Let It Be (Remastered)", False),
        ("Window. A Novel (2003)", False),
        ("Functions (of time)", False),
        ("", False),
    ],
)
def test_a_script_is_told_from_a_title(text: str, script: bool) -> None:
    assert is_script(text) is script


def test_missing_values_are_those_of_the_loader() -> None:
    assert READ_AS_MISSING | {""} == MISSING
