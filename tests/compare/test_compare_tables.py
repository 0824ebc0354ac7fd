"""Tables of results that were made up: marks, formats, escapes; the page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from recbole_mmm4rec.compare.config import Pretraining, Row
from recbole_mmm4rec.compare.job import Shop
from recbole_mmm4rec.compare.latex import escaped, latex
from recbole_mmm4rec.compare.notes import notes
from recbole_mmm4rec.compare.published_rows import Published
from recbole_mmm4rec.compare.report import Section, page
from recbole_mmm4rec.compare.results import Cell, Comparison, Table
from recbole_mmm4rec.compare.tables import costs, figure, markdown, measured, p_value

PROTOCOL = {"metrics": ["Hit", "NDCG"], "topk": [10], "MAX_ITEM_LIST_LENGTH": 20, "stopping_step": 5}
SHOP = Shop("shop", "abc", {"users": 8442, "items": 4385, "interactions": 59384}, PROTOCOL, "hit@10")
QUOTED = Published("Theirs", "shop", SHOP.statistics, "text", {"hit@10": 0.2}, "arXiv 1, table 2")


def cell(name: str, hits: list[float], ndcgs: list[float], **changes: Any) -> Cell:
    """A row with one run for each value."""
    facts = {"parameters": 12345, "best_epoch": 3, "epochs": 4, "train_seconds": 8.0, "time_up": False}
    facts |= {"peak_bytes": 3 * 2**20, "gpu_peak_bytes": None, "max_seconds": 60.0, **changes}
    records = tuple(
        {**facts, "test": {"hit@10": hit, "ndcg@10": ndcg}, "valid": {"hit@10": 2 * hit}}
        for hit, ndcg in zip(hits, ndcgs, strict=True)
    )
    row = Row(name, "Pop", {}, {}, ("shop",), None, ())
    return Cell(row, tuple(range(len(hits))), 2, records, (), {}, None)


def table(*cells: Cell) -> Table:
    """The cells with one comparison, of the first two of them."""
    best, other = cells[0].row.name, cells[min(1, len(cells) - 1)].row.name
    found = Comparison("hit@10", best, other, 0.03, -0.01, 0.07, 0.0004, 0.0012, 2)
    return Table(SHOP, cells, (found,))


THREE = table(cell("A_1", [0.12, 0.14], [0.05, 0.05]), cell("B", [0.10, 0.10], [0.06, 0.08]), cell("C", [0.13], [0.01]))


def rows(text: str) -> list[list[str]]:
    """Cells of the lines of Markdown tables."""
    return [[part.strip() for part in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_mean_and_sample_deviation_by_hand() -> None:
    assert measured(cell("A", [0.12, 0.14], [0, 0]), "hit@10") == ".1300 ± .0141"  # √(2 · .01²)
    assert measured(cell("A", [0.12], [0]), "hit@10") == ".1200"
    assert measured(cell("A", [], []), "hit@10") == "–"
    assert (figure(1.0), figure(0.0), figure(0.12346)) == ("1.0000", ".0000", ".1235")


def test_the_best_is_bold_and_the_second_underlined() -> None:
    found = {line[0]: line[1:3] for line in rows(markdown(THREE, []))[2:5]}
    assert found["A_1"] == ["**.1300 ± .0141**", "<u>.0500 ± .0000</u>"]
    assert found["B"] == ["<u>.1000 ± .0000</u>", "**.0700 ± .0141**"]
    assert found["C (1 of 2 seeds)"] == [".1300", ".0100"]  # of one seed, it is not beside those of two


def test_what_stands_with_every_table() -> None:
    text = markdown(THREE, [QUOTED])
    assert "8,442 users, 4,385 items, 59,384 interactions after filters" in text
    assert rows(text)[5][:3] == ["*Theirs (text; arXiv 1, table 2)*", ".2000", "–"]  # quoted rows are not ranked
    assert rows(text)[-1] == ["B", "Hit@10", "+0.0300", "-0.0100 … +0.0700", "4.0e-04", "0.0012"]
    assert {len(line) for line in rows(text)} == {9, 6}
    assert "\nA_1 (best Hit@10) minus every other row: mean difference" in text


def test_costs_are_medians() -> None:
    assert costs(cell("A", [0.1, 0.2], [0, 0]), "hit@10") == [".3000", "12,345", "3, 3", "2.00", "8", "3"]
    assert costs(cell("A", [], []), "hit@10") == ["–"] * 6
    card = cell("A", [0.1], [0], gpu_peak_bytes=2**20)
    assert costs(card, "hit@10")[-1] == "1"  # of the card alone, however much the process holds


def test_how_much_sooner_a_pre_trained_row_is_as_good() -> None:
    """Against the row of the same settings alone, seed by seed."""
    history = [{"epoch": epoch, "seconds": 1.0, "result": {"hit@10": hit}} for epoch, hit in enumerate((0.1, 0.3, 0.4))]
    first = {"dataset": "food", "epochs": 2, "train_seconds": 5.0, "seed": 1, "time_up": False}
    scratch = cell("A", [0.15, 0.25], [0, 0], best_epoch=6)
    tuned = replace(cell("A, pre-trained", [0.2, 0.2], [0, 0], history=history), pretraining=first)
    row = replace(tuned.row, pretrained=Pretraining("food", {}, 1, None))
    row = replace(row, settings={"pretrained_layers": 1}, trials=({"learning_rate": 1}, {"learning_rate": 2}))
    tuned = replace(tuned, row=row)  # what becomes of the start, and what was searched, are no other model
    other = replace(cell("B", [0.1, 0.1], [0, 0]), row=replace(scratch.row, settings={"k": 2}))
    searched = "A, pre-trained: ; the best of 2 trials by validation, first seed."
    assert notes(table(scratch, other, tuned)) == [
        searched,
        "A, pre-trained: pre-trained on food, 2 epochs, 5 s, seed 1.",
        "A, pre-trained: as good on validation as A at its best after 1, never epochs, which took that 6, 6; "
        "seed by seed.",
    ]
    cut_off = {**first, "time_up": True, "max_seconds": 4.0}
    late = replace(cell("A, late", [0.1], [0], history=history[:1]), pretraining=cut_off)
    late = replace(late, row=replace(late.row, pretrained=row.pretrained))
    assert notes(table(scratch, late))[-2:] == [
        "A, late: pre-trained on food, 2 epochs, 5 s, seed 1, ended by the limit of 4 s.",
        "A, late: as good on validation as A at its best never, which took that 6; seed by seed.",
    ]


def test_a_time_limit_is_told() -> None:
    slow = table(cell("A", [0.1], [0.1], time_up=True))
    assert "A (1 of 2 seeds) †" in markdown(slow, [])
    assert notes(slow) == ["† Training was ended by the limit of 60 s: it might still have got better."]
    assert "†" not in markdown(THREE, [])


def test_a_limit_of_epochs_is_told() -> None:
    short = table(cell("A", [0.1], [0.1], epochs_up=True, epochs=12), cell("B", [0.1], [0.1], epochs_up=False))
    text = markdown(short, [])
    assert "A (1 of 2 seeds) §" in text
    assert "B (1 of 2 seeds) |" in text
    assert notes(short) == ["§ Training was ended by the limit of 12 epochs: it might still have got better."]
    assert r"A (1 of 2 seeds) \S{}" in latex(short, [])
    assert "§" not in markdown(THREE, [])


def test_runs_of_different_machines_are_told() -> None:
    one = cell("A", [0.1], [0.1], device="cpu", threads=1, environment={"processor": "X, 2 cores"})
    two = cell("B", [0.1], [0.1], device="cpu", threads=2, environment={"processor": "X, 2 cores"})
    assert notes(table(one, one)) == []
    (told,) = notes(table(one, two))
    assert "1 threads of X, 2 cores, no graphics card; 2 threads of X, 2 cores" in told


def test_latex() -> None:
    text = latex(THREE, [QUOTED])
    assert r"A\_1 & \textbf{.1300 $\pm$ .0141} & \underline{.0500 $\pm$ .0000} \\" in text
    assert r"\textit{Theirs (text; arXiv 1, table 2)} & .2000 & -- \\" in text
    for line in (r"\begin{tabular}{lrr}", r"\toprule", r"\bottomrule", r"\end{tabular}", r"\end{table}"):
        assert line in text.splitlines()
    assert text.count(r"\midrule") == 3  # that of the tests among them
    assert text.count("{") == text.count("}")
    assert escaped("50 % of a_b & {c} ± $") == r"50 \% of a\_b \& \{c\} $\pm$ \$"


@pytest.mark.parametrize(("p", "text"), [(1.0, "1.0000"), (0.05, "0.0500"), (0.0001, "1.0e-04")])
def test_p_values(p: float, text: str) -> None:
    assert p_value(p) == text


class Loads(HTMLParser):
    """Notes everything that a page would load, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of an element."""
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]


def test_the_page_loads_nothing_and_escapes_everything() -> None:
    hostile = table(cell("<script>alert(1)</script>", [0.1, 0.2], [0.1, 0.1]), cell("B", [0.3, 0.2], [0.1, 0.1]))
    configuration = "title: <img src=http://example.org/x.png>\n"
    facts = {"command": "python <x>"}
    text = page("A & B", [Section(hostile, (), [QUOTED], b"<svg/>")], (), facts, configuration)
    found = Loads()
    found.feed(text)
    assert found.loads == ["data:image/svg+xml;base64,PHN2Zy8+"]
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert found.tags.count("img") == 1
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import", text)
    for wanted in ("A &amp; B", "8,442 users", "Theirs (text; arXiv 1, table 2)", "python &lt;x&gt;", "p (Holm)"):
        assert wanted in text


def test_the_best_is_marked_on_the_page() -> None:
    text = page("x", [Section(THREE)], (), {}, "")
    assert text.count('<td class="best">') == 2
    assert text.count('<td class="second">') == 2
    assert re.findall(r"class=\"best\">(\.\d+)", text) == [".1300", ".0700"]
