"""Tables of results as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_mmm4rec.compare.notes import notes
from recbole_mmm4rec.compare.protocol_words import metric_name, statistics_line
from recbole_mmm4rec.compare.published_rows import Published
from recbole_mmm4rec.compare.results import Table
from recbole_mmm4rec.compare.tables import (
    TESTS,
    beyond_line,
    beyond_rows,
    comparison_rows,
    figure,
    graded,
    legend,
    measured,
    tests_line,
)

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$\dagger$", "–": "--", "−": "$-$",
    "…": r"\dots{}", "√": r"$\sqrt{}$", "§": r"\S{}", "‡": r"$\ddagger$", "¶": r"\P{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def escaped(text: str) -> str:
    """A text in LaTeX."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def latex(table: Table, published: Sequence[Published]) -> str:
    """The LaTeX of a table with its notes, of what is asked for beyond accuracy, and of its tests; needs booktabs."""
    metrics = table.metrics
    columns = {}
    for metric in metrics:
        texts = {cell.row.name: escaped(measured(cell, metric)) for cell in table.cells}
        columns[metric] = graded(table, metric, r"\textbf{{{}}}".format, r"\underline{{{}}}".format, texts)
    rows = [[escaped(cell.shown), *(columns[metric][cell.row.name] for metric in metrics)] for cell in table.cells]
    quoted = [
        [
            rf"\textit{{{escaped(row.label)}}}",
            *(escaped(figure(row.metrics.get(metric, float("nan")))) for metric in metrics),
        ]
        for row in published
    ]
    head = ["", *map(metric_name, metrics)]
    caption = f"{statistics_line(table.shop)} {legend(table, bool(published))}"
    lines = [r"% needs \usepackage{booktabs}", *_float(caption, head, [rows, quoted], notes(table))]
    if table.beyond:
        further = [list(map(escaped, row)) for row in beyond_rows(table)]
        lines += _float(f"{table.shop.name}: {beyond_line(table)}", ["", *map(metric_name, table.beyond)], [further])
    if table.comparisons:
        tests = [list(map(escaped, row)) for row in comparison_rows(table)]
        lines += _float(f"{table.shop.name}: {tests_line(table)}", TESTS, [tests])
    return "\n".join(lines) + "\n"


def _float(
    caption: str, head: Sequence[str], parts: Sequence[Sequence[Sequence[str]]], below: Sequence[str] = ()
) -> list[str]:
    """The lines of a table: ``parts`` are rows in LaTeX with a rule between them, everything else is plain text."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(map(escaped, head)) + r" \\",
    ]
    for part in filter(None, parts):
        lines += [r"\midrule", *(" & ".join(row) + r" \\" for row in part)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if below:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
        lines += [*(rf"{escaped(note)}\par" for note in below), r"\end{minipage}"]
    return [*lines, r"\end{table}"]
