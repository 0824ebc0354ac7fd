"""Texts and picture addresses from rows of metadata of any shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_prep.sources.amazon.html_text import plain_text
from dataset_prep.sources.amazon.items import item_text
from dataset_prep.sources.amazon.lines import parse_record
from dataset_prep.sources.amazon.pictures import picture_addresses, unread_pictures


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
        ("&amp;lt;b&amp;gt;x", "x"),
        ("<p>&amp;lt;b&amp;gt;x &amp;amp; y</p>", "x & y"),
        ("<b>" * 400 + "deep &amp; text" + "</b>" * 400, "deep & text"),
        ("top <b>" * 300 + "<script>a<b</script><!-- <i>c -->1 < 2<style>d", ("top " * 300 + "1 < 2")),
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


def test_nan_is_no_text() -> None:
    assert item_text(parse_record(b'{"title": NaN, "brand": "B", "description": [NaN]}'), ("title", "brand")) == "B."


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
        ({"image": ["https://i/a._SS40_.jpg", "https://i/b._SS40_.jpg"]}, ["https://i/a._SS40_.jpg"]),  # early 2018
        ({"image": "https://i/a.jpg"}, ["https://i/a.jpg"]),
        (
            {"image": ["https://i/a._SS40_.jpg"], "imageURLHighRes": ["https://i/a.jpg"]},
            ["https://i/a.jpg", "https://i/a._SS40_.jpg"],
        ),
        (
            {
                "images": {
                    "hi_res": [None, "http://h1"],
                    "large": [],
                    "thumb": ["http://t0"],
                    "variant": ["MAIN", "PT01"],
                }
            },
            ["http://t0"],
        ),
        (
            {
                "images": {
                    "hi_res": ["http://h0", "http://h1"],
                    "large": ["http://l0"],
                    "thumb": [],
                    "variant": ["MAIN"],
                }
            },
            ["http://h0", "http://l0"],
        ),
        (  # Prime Video of 2023
            {
                "images": [
                    {
                        "360w": "https://c/s.webp",
                        "1080w": "https://c/l.webp",
                        "720w": "https://c/m.webp",
                        "variant": "MAIN",
                    }
                ]
            },
            ["https://c/l.webp", "https://c/m.webp", "https://c/s.webp"],
        ),
        ({"images": [{"720w": "https://c/c.webp", "variant": "MAIN"}]}, ["https://c/c.webp"]),
        ({"images": ["http://a", "http://b"]}, ["http://a"]),
        ({"images": [{"url": "http://a", "alt": "a cat"}]}, ["http://a"]),
        ({"images": {1: ["http://a"]}, 2: "http://b"}, ["http://a"]),  # a Python literal has such keys
        ({"images": [[[{"large": "http://a"}]]]}, ["http://a"]),
    ],
)
def test_the_first_picture_largest_first(record: dict[str, Any], addresses: list[str]) -> None:
    assert picture_addresses(record) == addresses


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"imgs": ["http://a"]}, "'imgs': ['http://a']"),
        (
            {"title": "T", "images": [{"main": "a.jpg", "variant": "MAIN"}]},
            "'images': [{'main': 'a.jpg', 'variant': 'MAIN'}]",
        ),
        ({"images": [], "imUrl": "", "imageURL": [None]}, None),
        ({"images": {"hi_res": [None], "variant": ["MAIN"]}}, None),
        ({"title": "Images of the sea"}, None),
    ],
)
def test_a_shape_that_is_not_read_is_quoted(record: dict[str, Any], said: str | None) -> None:
    assert picture_addresses(record) == []
    assert unread_pictures(record) == said


def test_a_row_of_any_depth_is_quoted_in_a_few_words() -> None:
    deep: Any = "http://a"
    for _ in range(5_000):
        deep = {"x": [deep]}
    assert len(unread_pictures({"images": deep}) or "") < 200


SCRIPT = "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();"


def test_a_row_whose_title_is_a_script_is_no_text() -> None:
    assert item_text({"title": SCRIPT, "brand": "B"}, ("title", "brand")) == ""
    assert (
        item_text({"title": "Variance (2nd ed.); var = s", "brand": "B"}, ("title", "brand"))
        == "Variance (2nd ed.); var = s. B."
    )
