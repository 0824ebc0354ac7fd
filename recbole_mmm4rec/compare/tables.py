"""Tables of results as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recbole_mmm4rec.compare.groups import KINDS, Groups
from recbole_mmm4rec.compare.orders import Order
from recbole_mmm4rec.compare.protocol_words import metric_name, several, statistics_line
from recbole_mmm4rec.compare.published_rows import Published
from recbole_mmm4rec.compare.records import Record
from recbole_mmm4rec.compare.results import Cell, Comparison, Table

TRANSFER = ("pretrained_layers", "frozen", "unfreeze_after", "learning_rates")
"""Settings of what becomes of a pre-trained start."""
COSTS = ("validation", "trainable parameters", "best epoch", "s an epoch", "s of training", "peak MiB")
Style = Callable[[str], str]


def figure(value: float) -> str:
    """A metric with four decimals and no leading zero, as in ``.1280``."""
    return f"{value:.4f}".removeprefix("0") if value == value else "–"


def measured(cell: Cell, metric: str) -> str:
    """Mean and sample deviation over seeds, ``.1280 ± .0008``."""
    spread = cell.deviation(metric)
    return figure(cell.mean(metric)) + ("" if spread is None else f" ± {figure(spread)}")


def row_name(cell: Cell) -> str:
    """The row's name with what a reader must know: seeds that are missing, limits that ended a run."""
    missing = "" if len(cell.records) == cell.wanted else f" ({len(cell.records)} of {cell.wanted} seeds)"
    return cell.row.name + missing + (" †" if cell.time_up else "") + (" §" if cell.epochs_up else "")


def costs(cell: Cell, metric: str) -> list[str]:
    """The mean of the metric that was validated by and what the runs took, medians, in the order of :data:`COSTS`."""
    if not cell.records:
        return ["–"] * len(COSTS)
    peaks = [max(record["peak_bytes"], record["gpu_peak_bytes"] or 0) / 2**20 for record in cell.records]
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
    """The texts of a column with the best one and the second best one marked; equal means share their mark."""
    means = sorted({round(cell.mean(metric), 12) for cell in table.cells if cell.records}, reverse=True)
    marked = dict(texts)
    for style, mean in zip((best, second), means, strict=False):
        for cell in table.cells:
            if cell.records and round(cell.mean(metric), 12) == mean:
                marked[cell.row.name] = style(texts[cell.row.name])
    return marked


def notes(table: Table) -> list[str]:
    """Remarks below a table."""
    found = []
    if any(cell.time_up for cell in table.cells):
        limits = sorted({record["max_seconds"] for cell in table.cells for record in cell.records if record["time_up"]})
        spelt = ", ".join(f"{limit:g}" for limit in limits)
        found.append(f"† Training was ended by the limit of {spelt} s: it might still have got better.")
    if any(cell.epochs_up for cell in table.cells):
        limits = sorted(
            {record["epochs"] for cell in table.cells for record in cell.records if record.get("epochs_up")}
        )
        spelt = ", ".join(f"{limit}" for limit in limits)
        found.append(f"§ Training was ended by the limit of {spelt} epochs: it might still have got better.")
    places = {_place(record) for cell in table.cells for record in cell.records if "threads" in record}
    if len(places) > 1:
        found.append(f"Runs of this table differ in what they computed on: {'; '.join(sorted(places))}.")
    for cell in table.cells:
        if cell.row.trials and cell.records:
            told = ", ".join(f"{key} {value}" for key, value in cell.trial.items())
            found.append(
                f"{cell.row.name}: {told}; the best of {len(cell.row.trials)} trials by validation, first seed."
            )
        if cell.pretraining is not None:
            first = cell.pretraining
            ended = f", ended by the limit of {first['max_seconds']:g} s" if first["time_up"] else ""
            found.append(
                f"{cell.row.name}: pre-trained on {first['dataset']}, {first['epochs']} epochs, "
                f"{first['train_seconds']:.0f} s, seed {first['seed']}{ended}."
            )
            found += sooner(cell, table)
        found += [f"Failed: {error}" for error in cell.errors]
    return found


def sooner(cell: Cell, table: Table) -> list[str]:
    """After how many epochs a pre-trained row was as good on validation as the same row from scratch ever was.

    The same row has the same model and settings, those of the transfer left aside; each has what was searched for it.
    """
    metric, told = table.shop.valid_metric, []
    alike = _from_scratch(cell, table)
    for other in table.cells:
        if other.pretraining is not None or _from_scratch(other, table) != alike:
            continue
        goals = dict(zip(other.seeds, other.records, strict=True))
        pairs = [(goals[seed], mine) for seed, mine in zip(cell.seeds, cell.records, strict=True) if seed in goals]
        if pairs:
            needed = [_first_as_good(mine, goal["valid"][metric], metric) for goal, mine in pairs]
            before = ", ".join(f"{goal['best_epoch']:.0f}" for goal, _ in pairs)
            came = "never" if set(needed) == {"never"} else f"after {', '.join(needed)} epochs"
            told.append(
                f"{cell.row.name}: as good on validation as {other.row.name} at its best {came}, "
                f"which took that {before}; seed by seed."
            )
    return told


def _from_scratch(cell: Cell, table: Table) -> tuple[str, Mapping[str, Any]]:
    """The model and what the row would be without a pre-trained start."""
    settings = cell.row.settings_on(table.shop.entry)
    return cell.row.model, {key: value for key, value in settings.items() if key not in TRANSFER}


def _first_as_good(record: Record, goal: float, metric: str) -> str:
    """The first epoch whose validation is at least ``goal``; "never" where none is."""
    found = [entry["epoch"] for entry in record["history"] if entry["result"][metric] >= goal]
    return f"{min(found)}" if found else "never"


def _place(record: Record) -> str:
    """Where a run was computed: under a limit of time, runs are comparable on the same place alone."""
    environment = record.get("environment", {})
    card = environment.get("graphics card", "none") if record["device"] != "cpu" else "no graphics card"
    return f"{record['threads']} threads of {environment.get('processor', 'a processor')}, {card}"


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
            [row_name(cell), *(columns[metric][cell.row.name] for metric in metrics), *costs(cell, shop.valid_metric)]
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
    lines += ["", *(f"- {note}" for note in notes(table))] if notes(table) else []
    if table.beyond:
        lines += ["", beyond_line(table), ""]
        lines += _markdown_table(["", *map(metric_name, table.beyond)], beyond_rows(table))
    for found in groups:
        lines += ["", groups_line(found), "", *_markdown_table(*groups_rows(found))]
    if table.comparisons:
        lines += ["", tests_line(table), ""]
        head = ["minus", "metric", "difference", "95 % interval", "p", "p (Holm)"]
        lines += _markdown_table(head, [comparison_row(found) for found in table.comparisons])
    return "\n".join(lines) + "\n"


def beyond_line(table: Table) -> str:
    """What the columns beyond accuracy mean, as RecBole defines them."""
    share = table.shop.protocol.get("tail_ratio") or 0.1
    tail = f"at most {share:g} interactions" if share > 1 else f"the {share:.0%} of items with the fewest"
    return (
        "Beyond accuracy, means over seeds, nothing of it ranked. Coverage: share of the items that anyone is shown; "
        "Popularity: mean interactions in training of the items shown; Gini: 0 where all items are shown equally "
        f"often, near 1 where one alone is; Tail: share of the items shown that are of the tail ({tail} in training)."
    )


def beyond_rows(table: Table) -> list[list[str]]:
    """A line for each row; – where a run was made before these were noted."""
    return [[row_name(cell), *(_beyond(cell, metric) for metric in table.beyond)] for cell in table.cells]


def _beyond(cell: Cell, metric: str) -> str:
    found = [record["beyond"][metric] for record in cell.records if metric in record.get("beyond", {})]
    if not found or len(found) < len(cell.records):
        return "–"
    mean = sum(found) / len(found)
    return f"{mean:,.1f}" if metric.startswith("averagepopularity") else figure(mean)


def groups_line(groups: Groups) -> str:
    """What a table of groups shows."""
    return f"{metric_name(groups.metric)} by {KINDS[groups.kind]}, mean over the targets of a group and over seeds:"


def groups_rows(groups: Groups) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a table of groups."""
    head = ["", *(f"{label} ({count:,})" for label, count in zip(groups.labels, groups.counts, strict=True))]
    return head, [[name, *map(figure, means)] for name, means in groups.means.items()]


def orders_line(order: Order) -> str:
    """What a table of orders shows."""
    return (
        f"{order.folder}: the order of the rows by test {metric_name(order.metric)}, each user's last item left out "
        f"and split at points in time that are the same for all; Kendall's τ-b {order.tau:+.2f}."
    )


def orders_rows(order: Order) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a table of orders."""
    head = ["", "place, last item left out", "place, by points in time", "change"]
    lines = []
    for name, first, of_first, second, of_second in order.rows:
        change = f"{first - second:+d}" if first != second else "="
        lines.append([name, f"{first} ({figure(of_first)})", f"{second} ({figure(of_second)})", change])
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
    best = "; ".join(f"{row} (best {' and '.join(names)})" for row, names in metrics.items())
    return (
        f"{best} minus every other row: mean difference over users of the metric averaged over "
        "seeds, percentile bootstrap interval, two-sided paired sign-flip permutation test over users, Holm's "
        "correction over the rows of a metric."
    )


def comparison_row(found: Comparison) -> list[str]:
    """A line of the table of tests."""
    interval = f"{found.low:+.4f} … {found.high:+.4f}"
    tests = [p_value(found.p), p_value(found.adjusted)]
    return [found.other, metric_name(found.metric), f"{found.difference:+.4f}", interval, *tests]


def p_value(p: float) -> str:
    """A p-value with as many digits as it deserves."""
    return f"{p:.4f}" if p >= 0.001 else f"{p:.1e}"


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$\dagger$", "–": "--", "−": "$-$",
    "…": r"\dots{}", "√": r"$\sqrt{}$", "§": r"\S{}",
}  # fmt: skip


def escaped(text: str) -> str:
    """A text in LaTeX."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def latex(table: Table, published: Sequence[Published]) -> str:
    """The LaTeX of a table; needs the package booktabs."""
    metrics = table.metrics
    columns = {}
    for metric in metrics:
        texts = {cell.row.name: escaped(measured(cell, metric)) for cell in table.cells}
        columns[metric] = graded(table, metric, r"\textbf{{{}}}".format, r"\underline{{{}}}".format, texts)
    rows = [
        " & ".join([escaped(row_name(cell)), *(columns[metric][cell.row.name] for metric in metrics)])
        for cell in table.cells
    ]
    quoted = [
        " & ".join([
            rf"\textit{{{escaped(row.label)}}}",
            *(escaped(figure(row.metrics.get(metric, float("nan")))) for metric in metrics),
        ])
        for row in published
    ]  # fmt: skip
    caption = escaped(f"{statistics_line(table.shop)} {legend(table, bool(published))}")
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        " & ".join(["", *(metric_name(metric) for metric in metrics)]) + r" \\",
        r"\midrule",
        *(row + r" \\" for row in rows),
        *([r"\midrule"] if quoted else []),
        *(row + r" \\" for row in quoted),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
