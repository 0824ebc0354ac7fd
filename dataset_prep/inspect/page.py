"""The page of ``inspect``: one HTML file that needs nothing else. It is built of elements, which escape themselves."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from dataset_prep.inspect.plots import histogram, popularity
from recbole_mmm4rec.encoders.pictures import MOST_PIXELS, BadPictureError, read_picture

LARGE, SMALL = 160, 88  # pixels of a picture's longer side
MOST_PICTURE_BYTES = 4_000_000  # of all pictures on the page, as text
LONGEST_TEXT, LONGEST_CAPTION = 300, 90  # characters
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --dim: #777; --mark: #3b76c4; }
@media (prefers-color-scheme: dark) { :root { --dim: #aaa; --mark: #7fb0ee; } }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 16px; max-width: 1180px; }
h1 { font-size: 1.5em; margin: 0 0 .6em; overflow-wrap: anywhere; }
h2 { font-size: 1.15em; margin: 1.8em 0 .6em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; width: 30%; }
td { overflow-wrap: anywhere; }
.plots { display: flex; flex-wrap: wrap; gap: 16px; }
.plots svg { flex: 1 1 320px; max-width: 560px; min-width: 0; background: var(--soft); border-radius: 8px; }
svg text { font-size: 11px; fill: currentColor; }
.bar { fill: var(--mark); } .line { fill: none; stroke: var(--mark); stroke-width: 2; } .axis { stroke: var(--dim); }
.card { border: 1px solid var(--line); border-radius: 10px; padding: 12px; margin: 0 0 14px; }
.head { display: flex; gap: 12px; align-items: flex-start; margin-bottom: 8px; }
.head p { margin: 0 0 4px; overflow-wrap: anywhere; min-width: 0; }
.dim { color: var(--dim); font-size: .85em; }
.large, .small { display: flex; align-items: center; justify-content: center; background: var(--soft);
  border-radius: 6px; overflow: hidden; color: var(--dim); font-size: .75em; text-align: center; flex: none; }
.large { width: 160px; height: 160px; } .small { width: 88px; height: 88px; }
.large img, .small img { width: 100%; height: 100%; object-fit: contain; }
h3 { font-size: .85em; margin: 8px 0 4px; color: var(--dim); font-weight: 600; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 8px; }
.tile { min-width: 0; } .tile p { margin: 2px 0 0; font-size: .8em; line-height: 1.3; overflow-wrap: anywhere; }
@media (max-width: 480px) { .large { width: 110px; height: 110px; } .row { grid-template-columns: repeat(2, 1fr); }
  th, td { display: block; width: auto; border: 0; } tr { display: block; border-bottom: 1px solid var(--line); } }
"""


@dataclass(frozen=True)
class Card:
    """An item of the contact sheet.

    Attributes:
        item: its position.
        neighbours: by what they were found, the nearest items with their cosines.
    """

    item: int
    neighbours: dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Content:
    """What the page shows.

    Attributes:
        name: of the data set.
        facts: the table, a name and a value a row.
        by_user: (users,) interactions of each.
        by_item: (items,) interactions of each item that has any.
        tokens, texts, pictures, counts: by item position: id, text, file, interactions.
        cards: the contact sheet.
        twins: kinds of near duplicates with examples, each two item positions and a cosine.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    by_user: np.ndarray
    by_item: np.ndarray
    tokens: Sequence[str]
    texts: Sequence[str]
    pictures: Sequence[Path | None]
    counts: Sequence[int]
    cards: Sequence[Card]
    twins: dict[str, list[tuple[int, int, float]]] = field(default_factory=dict)


def render(content: Content) -> str:
    """The page as text.

    Args:
        content: what it shows.
    """
    html = ET.Element("html", lang="en")
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": POLICY})
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    ET.SubElement(head, "title").text = f"{content.name}: inspection"
    ET.SubElement(head, "style").text = STYLE
    body = ET.SubElement(html, "body")
    _tag(body, "h1", f"Data set {content.name}")
    table = ET.SubElement(ET.SubElement(body, "table"), "tbody")
    for name, value in content.facts:
        row = ET.SubElement(table, "tr")
        _tag(row, "th", name)
        _tag(row, "td", value)
    if len(content.by_user):
        _tag(body, "h2", "Lengths and popularity")
        plots = ET.SubElement(body, "div", {"class": "plots"})
        plots.append(histogram(content.by_user, "interactions of a user", "users"))
        plots.append(popularity(content.by_item))
    sheet = _Sheet(content)
    if content.cards:
        _tag(body, "h2", "Items and their neighbours, from the most to the least popular")
        for card in content.cards:
            sheet.card(body, card)
    for kind, pairs in content.twins.items():
        if pairs:
            _tag(body, "h2", f"{kind}: examples")
            sheet.pairs(body, pairs)
    return "<!DOCTYPE html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


class _Sheet:
    """Draws items and keeps count of the pictures' bytes."""

    def __init__(self, content: Content):
        self._content = content
        self._left = MOST_PICTURE_BYTES

    def card(self, parent: ET.Element, card: Card) -> None:
        box = ET.SubElement(parent, "div", {"class": "card"})
        head = ET.SubElement(box, "div", {"class": "head"})
        self._picture(head, card.item, LARGE, "large")
        words = ET.SubElement(head, "div")
        _tag(words, "p", _cut(self._content.texts[card.item], LONGEST_TEXT) or "(no text)")
        _tag(words, "p", f"{self._about(card.item)}", "dim")
        for by, found in card.neighbours.items():
            _tag(box, "h3", f"Nearest by {by}")
            row = ET.SubElement(box, "div", {"class": "row"})
            for item, cosine in found:
                self._tile(row, item, f"{cosine:.3f}")

    def pairs(self, parent: ET.Element, pairs: Sequence[tuple[int, int, float]]) -> None:
        for one, other, cosine in pairs:
            box = ET.SubElement(parent, "div", {"class": "card"})
            row = ET.SubElement(box, "div", {"class": "row"})
            self._tile(row, one, f"{cosine:.3f}")
            self._tile(row, other, f"{cosine:.3f}")

    def _tile(self, parent: ET.Element, item: int, cosine: str) -> None:
        tile = ET.SubElement(parent, "div", {"class": "tile"})
        self._picture(tile, item, SMALL, "small")
        _tag(tile, "p", _cut(self._content.texts[item], LONGEST_CAPTION) or "(no text)")
        _tag(tile, "p", f"{cosine} · {_cut(self._content.tokens[item], 40)}", "dim")

    def _about(self, item: int) -> str:
        return f"{_cut(self._content.tokens[item], 120)} · {self._content.counts[item]:,} interactions"

    def _picture(self, parent: ET.Element, item: int, side: int, kind: str) -> None:
        frame = ET.SubElement(parent, "div", {"class": kind})
        file = self._content.pictures[item]
        if file is None:
            frame.text = "no picture"
            return
        if self._left <= 0:
            frame.text = "left out, the page is full"
            return
        try:
            source = _thumbnail(file, side)
        except BadPictureError:
            frame.text = "unreadable"
            return
        self._left -= len(source)
        ET.SubElement(frame, "img", src=source, alt="")


def _thumbnail(file: Path, side: int) -> str:
    picture = read_picture(file, MOST_PIXELS)
    picture.thumbnail((side, side))
    data = io.BytesIO()
    picture.save(data, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _tag(parent: ET.Element, tag: str, text: str, kind: str | None = None) -> ET.Element:
    element = ET.SubElement(parent, tag, {"class": kind} if kind else {})
    element.text = _CONTROL.sub("\ufffd", text)
    return element


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
