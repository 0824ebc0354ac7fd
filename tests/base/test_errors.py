"""Messages: one line, whatever they quote."""

from __future__ import annotations

import pickle
import unicodedata

import pytest
from any_input import steady
from hypothesis import given
from hypothesis import strategies as st

from recbole_mmm4rec.base.errors import LONGEST, UserError, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain: é, 'a' – 商品", "plain: é, 'a' – 商品"),
        ("no\nfile \r\n  here\u2028x", "no file here x"),
        ("a\tb\0c\x1b[2J", r"a\tb\x00c\x1b[2J"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_line_ends_become_blanks_and_what_a_terminal_obeys_is_spelt_out(text: str, line: str) -> None:
    assert one_line(text) == line
    assert str(UserError(text)) == line


def test_what_is_very_long_is_cut_in_the_middle() -> None:
    line = one_line("file: column " + "x" * 70_000 + "; write TABs")
    assert len(line) <= LONGEST
    assert line.startswith("file: column xxx")
    assert line.endswith("x; write TABs")


@steady
@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_every_text_becomes_one_line_that_stays_as_it_is(text: str) -> None:
    line = one_line(text)
    assert not {unicodedata.category(char) for char in line} & {"Cc", "Cs", "Zl", "Zp"}
    assert line.splitlines() in ([], [line])
    assert one_line(line) == line
    line.encode()


def test_a_mistake_travels_between_processes() -> None:
    again = pickle.loads(pickle.dumps(UserError("a\nb")))
    assert (type(again), str(again)) == (UserError, "a b")
