"""Texts and picture addresses from rows of metadata of any shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_prep.sources.amazon.html_text import plain_text
from dataset_prep.sources.amazon.items import item_text, picture_addresses


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<b>A</b>&amp;amp; B", "A & B"),
        ("5 < 6 and 7 > 3, I <3 it", "5 < 6 and 7 > 3, I <3 it"),
        ("x &lt;br&gt; y&nbsp;z", "x y z"),
        ("<script>var a = '<b>';</script>T<style>p {}</style>", "T"),
        ("</span></span><!-- none -->", ""),
        ("AT&T R&D &copy; &quot;q&quot;", 'AT&T R&D © "q"'),
        ("a\x00b\ud800<p>c", "ab c"),
    ],
)
def test_html_becomes_plain_text(html: str, text: str) -> None:
    assert plain_text(html) == text


@given(st.text(st.sampled_from("<>&;a/!-[?='\" #x1\x00\ud800"), max_size=40))
def test_any_html_becomes_some_text(html: str) -> None:
    assert "  " not in plain_text(html)


def test_a_text_is_made_of_any_shape() -> None:
    record = {"title": "Who?", "category": [["A", ["B"]], "A", None, 3, {"x": "y"}], "feature": "F!", "description": []}
    assert item_text(record, ("description", "categories", "features", "title")) == "A B. F! Who?"
    assert item_text({}, ("title",)) == ""


@pytest.mark.parametrize(
    ("record", "addresses"),
    [
        (
            {"images": [{"hi_res": None, "large": None}, {"thumb": "http://t", "hi_res": "http://h"}]},
            ["http://h", "http://t"],
        ),
        ({"imageURL": [], "imageURLHighRes": ["http://h"]}, ["http://h"]),
        ({"imUrl": "http://i"}, ["http://i"]),
        ({"images": "none", "imUrl": None}, []),
    ],
)
def test_the_first_picture_largest_first(record: dict[str, Any], addresses: list[str]) -> None:
    assert picture_addresses(record) == addresses
