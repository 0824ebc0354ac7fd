"""Plots: validation against epochs and seconds of training; the test by groups of targets."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.compare.groups import KINDS, Groups
from recbole_mmm4rec.compare.protocol_words import metric_name
from recbole_mmm4rec.compare.results import Cell, Table

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#888888", "#222222", "#a05a2c"]
"""Told apart by colour-blind readers, too (Okabe and Ito), and three more."""
STYLES = ["-", "--", ":"]


def convergence(table: Table, folder: Path) -> dict[str, bytes]:
    """Draw a data set's plot and write it as PNG and SVG.

    Args:
        table: the data set with its runs.
        folder: where ``convergence-NAME.png`` and ``.svg`` go.

    Returns:
        suffix to content, ``png`` and ``svg``.

    Raises:
        UserError: matplotlib is not installed.
    """
    with _figures() as figure_class:
        figure = figure_class(figsize=(10, 5.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for number, cell in enumerate(cell for cell in table.cells if cell.records):
            style = _style(number)
            for at, (epochs, seconds, values) in enumerate(_curves(cell, table.shop.valid_metric)):
                label = _label(cell.shown) if at == 0 else None
                shown = {**style, "alpha": 1.0 if at == 0 else 0.35, "linewidth": 1.6 if at == 0 else 1.0}
                mark = "o" if len(epochs) == 1 else None
                left.plot(epochs, values, label=label, marker=mark, **shown)
                right.plot(seconds, values, marker=mark, **shown)
        left.set_xlabel("epochs (0: before training)")
        right.set_xlabel("seconds of training")
        left.set_ylabel(f"validation {metric_name(table.shop.valid_metric)}")
        left.xaxis.get_major_locator().set_params(integer=True)
        return _written(figure, (left, right), folder / f"convergence-{table.shop.name}")


def by_groups(table: Table, groups: Sequence[Groups], folder: Path) -> bytes | None:
    """Draw the rows' means in each group of targets and write ``groups-NAME.png`` and ``.svg``.

    Args:
        table: the data set with its runs.
        groups: its targets in groups; nothing is drawn without.
        folder: where the files go.

    Returns:
        the SVG, or None.
    """
    if not groups:
        return None
    with _figures() as figure_class:
        figure = figure_class(figsize=(10, 5.2), layout="constrained")
        every = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        names = [cell.row.name for cell in table.cells]
        for axes, found in zip(every, groups, strict=True):
            places = range(len(found.labels))
            for name, means in found.means.items():
                label = _label(table.shown[name]) if found is groups[0] else None
                axes.plot(places, means, label=label, marker="o", linewidth=1.6, **_style(names.index(name)))
            told = [f"{label}\n{count:,}" for label, count in zip(found.labels, found.counts, strict=True)]
            axes.set_xticks(places, told)
            axes.set_xlabel(f"{KINDS[found.kind]}; below, targets of the group")
        every[0].set_ylabel(f"test {metric_name(groups[0].metric)}")
        return _written(figure, every, folder / f"groups-{table.shop.name}")["svg"]


def _label(name: str) -> str:
    """A row's name in a legend, which leaves out those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def _style(number: int) -> dict[str, str]:
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number // len(COLOURS) % len(STYLES)]}


def _written(figure: Any, every: Sequence[Any], path: Path) -> dict[str, bytes]:
    """Finish a figure and write it as PNG and SVG; suffix to content."""
    for axes in every:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    if any(axes.get_legend_handles_labels()[0] for axes in every):  # there is nothing yet before the first run
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    drawn = {}
    for suffix in ("png", "svg"):
        content = io.BytesIO()
        metadata = {"Date": None} if suffix == "svg" else {}
        figure.savefig(content, format=suffix, dpi=160, metadata=metadata)
        drawn[suffix] = content.getvalue()
        with whole_file(path.with_name(f"{path.name}.{suffix}")) as file:
            file.write(drawn[suffix])
    return drawn


def _curves(cell: Cell, metric: str) -> Iterator[tuple[list[float], list[float], list[float]]]:
    """Epochs, seconds and values of each seed's validations."""
    for record in cell.records:
        history = record["history"]
        yield (
            [entry["epoch"] for entry in history],
            [entry["seconds"] for entry in history],
            [entry["result"][metric] for entry in history],
        )


@contextmanager
def _figures() -> Iterator[type]:
    """matplotlib's figure without a window, with the same ids in every SVG."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"plots need matplotlib ({error}): pip install 'recbole-mmm4rec[bench]'") from error
    # no mathematics: a name may have any number of dollar signs
    with matplotlib.rc_context({"svg.hashsalt": "recbole-mmm4rec", "font.size": 10, "text.parse_math": False}):
        yield Figure
