"""The report: one HTML page that loads nothing, built of elements, which escape themselves."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from recbole_mmm4rec.compare.groups import Groups
from recbole_mmm4rec.compare.notes import notes
from recbole_mmm4rec.compare.orders import Order
from recbole_mmm4rec.compare.protocol_words import metric_name, statistics_line
from recbole_mmm4rec.compare.published_rows import Published
from recbole_mmm4rec.compare.results import Table
from recbole_mmm4rec.compare.tables import (
    COSTS,
    TESTS,
    beyond_line,
    beyond_rows,
    comparison_rows,
    costs,
    figure,
    graded,
    groups_line,
    groups_rows,
    legend,
    measured,
    orders_line,
    orders_rows,
    tests_line,
)

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --dim: #666; --page: #fff; --best: #e4f2e7; }
@media (prefers-color-scheme: dark) { :root { --dim: #aaa; --page: #16181b; --best: #1d3a25; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 16px; max-width: 1200px;
  background: var(--page); }
h1 { font-size: 1.5em; margin: 0 0 .5em; overflow-wrap: anywhere; }
h2 { font-size: 1.25em; margin: 2em 0 .5em; overflow-wrap: anywhere; }
h3 { font-size: 1em; margin: 1.6em 0 .4em; }
p, ul { margin: .5em 0; max-width: 75ch; } .dim { color: var(--dim); font-size: .9em; } ul { padding-left: 1.2em; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; font-size: .9em; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 5px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; } tr:last-child > * { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page); z-index: 1;
  white-space: normal; min-width: 130px; max-width: 300px; border-right: 1px solid var(--line); }
.best { font-weight: 700; background: var(--best); } .second { text-decoration: underline; }
.quoted td { font-style: italic; color: var(--dim); } .tests td:first-child { max-width: 420px; }
.plot { display: block; width: 100%; min-width: 760px; background: #fff; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; } dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--soft); padding: 12px; border-radius: 8px; font-size: .85em; }
code { overflow-wrap: anywhere; }
@media (max-width: 600px) { body { padding: 12px; } th, td { padding: 5px 7px; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 6px; } th:first-child, td:first-child { min-width: 104px; max-width: 132px; } }
"""


@dataclass(frozen=True)
class Section:
    """A table on the page.

    Attributes:
        table: with its runs.
        groups: its targets in groups.
        quoted: published rows.
        convergence, by_groups: SVG, or None.
    """

    table: Table
    groups: Sequence[Groups] = ()
    quoted: Sequence[Published] = ()
    convergence: bytes | None = None
    by_groups: bytes | None = None


def page(
    title: str, sections: Sequence[Section], changes: Sequence[Order], facts: Mapping[str, str], configuration: str
) -> str:
    """The whole page.

    Args:
        title: its heading.
        sections: one for each table.
        changes: of the order of models between protocols.
        facts: what there is to say about machine, programs and command.
        configuration: the comparison file.
    """
    html = ET.Element("html", lang="en")
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": POLICY})
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", title)
    _add(head, "style", STYLE)
    body = ET.SubElement(html, "body")
    _add(body, "h1", title)
    for section in sections:
        _section(body, section)
    if changes:
        _add(body, "h2", "Protocols")
    for change in changes:
        _add(body, "p", orders_line(change))
        _grid(body, *orders_rows(change))
    _add(body, "h2", "How this was made")
    listed = ET.SubElement(body, "dl")
    for name, fact in facts.items():
        _add(listed, "dt", name)
        _add(listed, "dd", fact)
    _add(body, "h3", "Configuration")
    _add(ET.SubElement(body, "pre"), "code", configuration)
    return "<!doctype html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


def _add(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, {name.rstrip("_"): value for name, value in attributes.items()})
    element.text = text
    return element


def _section(body: ET.Element, section: Section) -> None:
    table, quoted = section.table, section.quoted
    _add(body, "h2", table.shop.name)
    _add(body, "p", statistics_line(table.shop))
    _metrics(body, table, quoted)
    _add(body, "p", legend(table, bool(quoted)), class_="dim")
    remarks = notes(table)
    if remarks:
        listed = ET.SubElement(body, "ul")
        for remark in remarks:
            _add(listed, "li", remark)
    _add(body, "h3", "What it took")
    _grid(body, ["", *COSTS], [[cell.shown, *costs(cell, table.shop.valid_metric)] for cell in table.cells])
    if table.beyond:
        _add(body, "h3", "Beyond accuracy")
        _add(body, "p", beyond_line(table), class_="dim")
        _grid(body, ["", *map(metric_name, table.beyond)], beyond_rows(table))
    for found in section.groups:
        _add(body, "p", groups_line(found))
        _grid(body, *groups_rows(table, found))
    if section.by_groups is not None:
        _image(body, section.by_groups, f"Test metric of each model on {table.shop.name} by group of targets")
    if table.comparisons:
        _add(body, "h3", "Differences")
        _add(body, "p", tests_line(table), class_="dim")
        _grid(body, TESTS, comparison_rows(table), "tests")
    if section.convergence is not None:
        _add(body, "h3", "Convergence")
        alt = f"Validation metric of each model on {table.shop.name} against epochs and seconds"
        _image(body, section.convergence, alt)
        _add(body, "p", "The first seed in full colour, the others pale.", class_="dim")


def _image(body: ET.Element, plot: bytes, alt: str) -> None:
    source = "data:image/svg+xml;base64," + base64.b64encode(plot).decode()
    frame = ET.SubElement(body, "div", {"class": "wide"})  # on a phone it is as large, and scrolls
    ET.SubElement(frame, "img", {"class": "plot", "src": source, "alt": alt})


def _metrics(body: ET.Element, table: Table, quoted: Sequence[Published]) -> None:
    """The table of test metrics."""
    grid = _grid(body, ["", *(metric_name(metric) for metric in table.metrics)], [])
    marks = {metric: _marks(table, metric) for metric in table.metrics}
    for cell in table.cells:
        line = ET.SubElement(grid, "tr")
        _add(line, "td", cell.shown)
        for metric in table.metrics:
            mark = marks[metric][cell.row.name]
            _add(line, "td", measured(cell, metric), **({"class": mark} if mark else {}))
    for row in quoted:
        line = ET.SubElement(grid, "tr", {"class": "quoted"})
        _add(line, "td", row.label)
        for metric in table.metrics:
            _add(line, "td", figure(row.metrics.get(metric, float("nan"))))


def _marks(table: Table, metric: str) -> dict[str, str]:
    """Row to the class of its cell, empty for most."""
    nothing = {cell.row.name: "" for cell in table.cells}
    return graded(table, metric, lambda _: "best", lambda _: "second", nothing)


def _grid(body: ET.Element, head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> ET.Element:
    """A table that scrolls sideways by itself."""
    grid = ET.SubElement(ET.SubElement(body, "div", {"class": "wide"}), "table", {"class": kind} if kind else {})
    for tag, line in (("th", head), *(("td", row) for row in rows)):
        element = ET.SubElement(grid, "tr")
        for text in line:
            _add(element, tag, text)
    return grid
