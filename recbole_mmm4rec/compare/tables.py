"""What tables of results hold, and their Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recbole_mmm4rec.compare.groups import KINDS, Groups
from recbole_mmm4rec.compare.notes import notes
from recbole_mmm4rec.compare.orders import Order
from recbole_mmm4rec.compare.protocol_words import metric_name, several, statistics_line
from recbole_mmm4rec.compare.published_rows import Published
from recbole_mmm4rec.compare.results import Cell, Table

COSTS = ("validation", "trainable parameters", "best epoch", "s an epoch", "s of training", "peak MiB")
TESTS = ("minus", "metric", "difference", "95 % interval", "p", "p (Holm)")
Style = Callable[[str], str]


def figure(value: float) -> str:
    """A metric with four decimals and no leading zero, as in ``.1280``."""
    return f"{value:.4f}".removeprefix("0") if value == value else "–"


def measured(cell: Cell, metric: str) -> str:
    """Mean and sample deviation over seeds, ``.1280 ± .0008``."""
    spread = cell.deviation(metric)
    return figure(cell.mean(metric)) + ("" if spread is None else f" ± {figure(spread)}")


def costs(cell: Cell, metric: str) -> list[str]:
    """The mean of the metric that was validated by and what the runs took, medians, in the order of :data:`COSTS`."""
    if not cell.records:
        return ["–"] * len(COSTS)
    peaks = [(record["gpu_peak_bytes"] or record["peak_bytes"]) / 2**20 for record in cell.records]
    seconds = cell.figures("train_seconds")
    epochs = [second / max(1.0, epoch) for second, epoch in zip(seconds, cell.figures("epochs"), strict=True)]
    return [
        figure(sum(record["valid"][metric] for record in cell.records) / len(cell.records)),
        f"{int(cell.records[0]['parameters']):,}",
        ", ".join(f"{epoch:.0f}" for epoch in cell.figures("best_epoch")),
        f"{_median(epochs):.2f}",
        f"{_median(seconds):.0f}",
        f"{_median(peaks):,.0f}",
    ]


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def graded(table: Table, metric: str, best: Style, second: Style, texts: dict[str, str]) -> dict[str, str]:
    """The texts of a column with the best one and the second best one marked, of the rows that may be these; equal
    means share their mark."""
    contenders = table.contenders(metric)
    means = sorted({round(cell.mean(metric), 12) for cell in contenders}, reverse=True)
    marked = dict(texts)
    for style, mean in zip((best, second), means, strict=False):
        for cell in contenders:
            if round(cell.mean(metric), 12) == mean:
                marked[cell.row.name] = style(texts[cell.row.name])
    return marked


def markdown(table: Table, published: Sequence[Published], groups: Sequence[Groups] = ()) -> str:
    """The Markdown of a table: metrics, costs, published rows, what is asked for beyond accuracy, tests."""
    metrics, shop = table.metrics, table.shop
    columns = {}
    for metric in metrics:
        texts = {cell.row.name: measured(cell, metric) for cell in table.cells}
        columns[metric] = graded(table, metric, "**{}**".format, "<u>{}</u>".format, texts)
    lines = [f"## {table.shop.name}", "", statistics_line(table.shop), ""]
    lines += _markdown_table(
        ["", *(metric_name(metric) for metric in metrics), *COSTS],
        [
            [cell.shown, *(columns[metric][cell.row.name] for metric in metrics), *costs(cell, shop.valid_metric)]
            for cell in table.cells
        ]
        + [
            [
                f"*{row.label}*",
                *(figure(row.metrics.get(metric, float("nan"))) for metric in metrics),
                *["–"] * len(COSTS),
            ]
            for row in published
        ],
    )
    lines += ["", legend(table, bool(published))]
    told = notes(table)
    lines += ["", *(f"- {note}" for note in told)] if told else []
    if table.beyond:
        lines += ["", beyond_line(table), ""]
        lines += _markdown_table(["", *map(metric_name, table.beyond)], beyond_rows(table))
    for found in groups:
        lines += ["", groups_line(found), "", *_markdown_table(*groups_rows(table, found))]
    if table.comparisons:
        lines += ["", tests_line(table), ""]
        lines += _markdown_table(TESTS, comparison_rows(table))
    return "\n".join(lines) + "\n"


def beyond_line(table: Table) -> str:
    """What the columns beyond accuracy mean, as RecBole defines them."""
    share = table.shop.protocol.get("tail_ratio") or 0.1
    tail = f"at most {share:g} interactions" if share > 1 else f"the {share * 100:g}% of items with the fewest"
    return (
        "Beyond accuracy, means over seeds, nothing of it ranked. Coverage: share of the items that anyone is shown; "
        "Popularity: mean interactions in training of the items shown; Gini: 0 where all items are shown equally "
        f"often, near 1 where one alone is; Tail: share of the items shown that are of the tail ({tail} in training)."
    )


def beyond_rows(table: Table) -> list[list[str]]:
    """A line for each row; – where a run was made before these were noted."""
    return [[cell.shown, *(_beyond(cell, metric) for metric in table.beyond)] for cell in table.cells]


def _beyond(cell: Cell, metric: str) -> str:
    found = [record["beyond"][metric] for record in cell.records if metric in record.get("beyond", {})]
    if not found or len(found) < len(cell.records):
        return "–"
    mean = sum(found) / len(found)
    return f"{mean:,.1f}" if metric.startswith("averagepopularity") else figure(mean)


def groups_line(groups: Groups) -> str:
    """What a table of groups shows."""
    return f"{metric_name(groups.metric)} by {KINDS[groups.kind]}, mean over the targets of a group and over seeds:"


def groups_rows(table: Table, groups: Groups) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a table of groups."""
    head = ["", *(f"{label} ({count:,})" for label, count in zip(groups.labels, groups.counts, strict=True))]
    shown = table.shown
    return head, [[shown[name], *map(figure, means)] for name, means in groups.means.items()]


def orders_line(order: Order) -> str:
    """What a table of orders shows."""
    return (
        f"{order.folder}: the order of the rows by test {metric_name(order.metric)}, each user's last item left out "
        f"and split at points in time that are the same for all; Kendall's τ-b {order.tau:+.2f}."
        + (" Seeds that are missing and signs as in the table of each." if any(map(any, order.marks)) else "")
    )


def orders_rows(order: Order) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a table of orders."""
    head = ["", "place, last item left out", "place, by points in time", "change"]
    lines = []
    for (name, first, of_first, second, of_second), (here, there) in zip(order.rows, order.marks, strict=True):
        change = f"{first - second:+d}" if first != second else "="
        lines.append([name, f"{first} ({figure(of_first)}){here}", f"{second} ({figure(of_second)}){there}", change])
    return head, lines


def orders_markdown(orders: Sequence[Order]) -> str:
    """The Markdown of what changes from one protocol to the other; nothing where there is nothing to compare."""
    lines = []
    for order in orders:
        lines += [orders_line(order), "", *_markdown_table(*orders_rows(order)), ""]
    return "\n".join(["## Protocols", "", *lines]) if lines else ""


def legend(table: Table, published: bool) -> str:
    """What the signs of a table mean."""
    seeds = table.cells[0].wanted if table.cells else 0
    text = (
        f"Test metrics, mean ± sample deviation over {seeds} seed{'s' * (seeds != 1)}; the best bold, the second best "
        f"underlined. Validation: the mean of {metric_name(table.shop.valid_metric)}. Times and memory are medians; "
        "peak memory is what the run added to its process before data and model were built, or that of the graphics "
        "card."
    )
    if several(table.shop):
        text += " Metrics are means over targets; the tests compare users, each with the mean over the own targets."
    if published:
        text += " Rows in italics are quoted, not measured here: other encoders and programs; they are not ranked."
    return text


def tests_line(table: Table) -> str:
    """What the table of tests shows."""
    metrics: dict[str, dict[str, None]] = {}
    for found in table.comparisons:
        metrics.setdefault(found.best, {})[metric_name(found.metric)] = None
    shown = table.shown
    best = "; ".join(f"{shown[row]} (best {' and '.join(names)})" for row, names in metrics.items())
    family = max(found.family for found in table.comparisons)
    untested = family - len(table.comparisons) // len({found.metric for found in table.comparisons})
    without = f", {untested} of them without a result here, which counts as p = 1" if untested > 0 else ""
    return (
        f"{best} minus every other row: mean difference over users of the metric averaged over "
        "seeds, percentile bootstrap interval, two-sided paired sign-flip permutation test over users, Holm's "
        f"correction over {family} row{'s' * (family != 1)} of a metric{without}.{_shared_seeds(table)}"
    )


def _shared_seeds(table: Table) -> str:
    tested = {name for found in table.comparisons for name in (found.best, found.other)}
    if all(cell.complete for cell in table.cells if cell.row.name in tested):
        return ""
    return " Where a row lacks seeds, both are taken on those that it has."


def comparison_rows(table: Table) -> list[list[str]]:
    """The lines of the table of tests."""
    shown, lines = table.shown, []
    for found in table.comparisons:
        interval = f"{found.low:+.4f} … {found.high:+.4f}"
        tests = [p_value(found.p), p_value(found.adjusted)]
        lines.append([shown[found.other], metric_name(found.metric), f"{found.difference:+.4f}", interval, *tests])
    return lines


def p_value(p: float) -> str:
    """A p-value with as many digits as it deserves."""
    return f"{p:.4f}" if p >= 0.001 else f"{p:.1e}"


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
