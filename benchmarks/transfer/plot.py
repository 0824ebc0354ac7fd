"""The plot of a transfer: validation against epochs, and the effect against the amount of source data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.transfer.report import EFFECTS, Found, effect, fit, longest
from benchmarks.transfer.sets import Source
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.compare.plots import COLOURS


def draw(found: Sequence[Found], sources: Sequence[Source], out: Path) -> None:
    """Write ``OUT.svg`` and ``OUT.png``.

    Args:
        found: what is finished.
        sources: growing.
        out: the path without an ending.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"plots need matplotlib ({error}): pip install 'recbole-mmm4rec[bench]'") from error
    with rc_context({"svg.hashsalt": "recbole-mmm4rec", "font.size": 10}):
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, found, sources)
        _effects(right, found, sources)
        for axes in (left, right):
            axes.set_ylabel("validation Hit@10 on the target")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, fontsize=8)
        for ending, details in (("png", {"Software": None}), ("svg", {"Date": None})):
            with whole_file(out.with_suffix(f".{ending}")) as file:
                figure.savefig(file, format=ending, dpi=130, metadata=details)


def _curves(axes: Any, found: Sequence[Found], sources: Sequence[Source]) -> None:
    """One line a source and seed: the fine-tunings with ID tables from the longest pre-training, at the full rate."""
    for number, (name, label) in enumerate(_labels(sources).items()):
        for at, one in enumerate(longest(found, name, "train")):
            shown = {
                "color": COLOURS[number % len(COLOURS)],
                "label": label if at == 0 else None,
                "marker": ".",
                "linewidth": 1.5,
            }
            axes.plot(*zip(*sorted(one.curve().items()), strict=True), **shown)
    axes.set_xlabel("epochs on the target")


def _labels(sources: Sequence[Source]) -> dict[str, str]:
    return {"none": "from scratch"} | {one.name: f"{one.name} ({one.interactions:,})" for one in sources}


def _effects(axes: Any, found: Sequence[Found], sources: Sequence[Source]) -> None:
    """Points, filled for shares of the first source, and the line through those."""
    for colour, (label, kind, epoch) in zip(COLOURS, EFFECTS, strict=False):
        points = effect(found, sources, kind, epoch)
        for at, (source, value) in enumerate(points):
            shown = {"color": colour, "markerfacecolor": "none" if source.merged else colour}
            axes.plot(source.interactions, value, "o", label=label if at == 0 else None, **shown)
        alone = [(source.interactions, value) for source, value in points if not source.merged]
        if len(alone) > 2:
            line = fit(*zip(*alone, strict=True))
            ends = (alone[0][0], max(source.interactions for source, _ in points))
            axes.plot(ends, [line.at(end) for end in ends], "--", color=colour)
    axes.set_xscale("log")
    axes.set_xlabel("interactions of the source")
