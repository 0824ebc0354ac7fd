"""Two small plots as inline SVG, drawn as elements so that nothing needs escaping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import numpy as np

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 40
MOST_BARS, MOST_TICKS = 40, 12


def histogram(values: np.ndarray, x_label: str, y_label: str) -> ET.Element:
    """How often each size occurs; many different sizes are put together, the upper 1 % into the last bar.

    Args:
        values: (n,) positive integers.
        x_label: what is counted.
        y_label: what has such counts.
    """
    low, high = int(values.min()), int(np.quantile(values, 0.99, method="higher"))
    step = max(1, math.ceil((high - low + 1) / MOST_BARS))
    bars = max(1, math.ceil((high - low + 1) / step))
    heights = np.bincount(np.minimum((values - low) // step, bars - 1), minlength=bars)
    svg = _canvas(f"{y_label} by {x_label}")
    overflow = int(values.max()) >= low + bars * step
    top = int(heights.max())
    width = (WIDTH - LEFT - RIGHT) / bars
    for number, height in enumerate(heights.tolist()):
        size = (HEIGHT - TOP - BOTTOM) * height / top
        begin = low + number * step
        more = " and more" if number == bars - 1 and overflow else ""
        bar = _add(svg, "rect", x=LEFT + number * width + 0.5, y=HEIGHT - BOTTOM - size, width=width - 1, height=size)
        bar.set("class", "bar")
        span = f"{begin}" if step == 1 else f"{begin}–{begin + step - 1}"
        ET.SubElement(bar, "title").text = f"{span}{more}: {height:,}"
    ticks = [
        (LEFT + (at + 0.5) * width, f"{low + at * step:,}" + ("+" if overflow and at == bars - 1 else ""))
        for at in _spread(bars)
    ]
    _axes(svg, ticks, [(HEIGHT - BOTTOM, "0"), (TOP, f"{top:,}")], x_label, y_label)
    return svg


def popularity(counts: np.ndarray) -> ET.Element:
    """Interactions of the items by rank, both axes logarithmic.

    Args:
        counts: (n,) positive integers.
    """
    ordered = np.sort(counts)[::-1]
    ranks = np.unique(np.geomspace(1, len(ordered), 160).round().astype(np.int64))
    right, top = math.log10(max(2, len(ordered))), math.log10(max(2, int(ordered[0])))
    points = [
        (
            LEFT + (WIDTH - LEFT - RIGHT) * math.log10(rank) / right,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log10(count) / top,
        )
        for rank, count in zip(ranks.tolist(), ordered[ranks - 1].tolist(), strict=True)
    ]
    svg = _canvas("interactions of an item by its rank")
    line = ET.SubElement(svg, "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points))
    line.set("class", "line")
    x_ticks = [(LEFT + (WIDTH - LEFT - RIGHT) * power / right, f"{10**power:,}") for power in range(int(right) + 1)]
    y_ticks = [
        (HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * power / top, f"{10**power:,}") for power in range(int(top) + 1)
    ]
    _axes(svg, x_ticks, y_ticks, "rank of the item", "interactions")
    return svg


def _canvas(title: str) -> ET.Element:
    svg = ET.Element("svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img")
    svg.set("aria-label", title)
    return svg


def _axes(
    svg: ET.Element,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    x_label: str,
    y_label: str,
) -> None:
    floor = HEIGHT - BOTTOM
    _add(svg, "line", x1=LEFT, y1=floor, x2=WIDTH - RIGHT, y2=floor).set("class", "axis")
    _add(svg, "line", x1=LEFT, y1=TOP, x2=LEFT, y2=floor).set("class", "axis")
    for x, text in x_ticks:
        _text(svg, x, floor + 14, text, "middle")
    for y, text in y_ticks:
        _text(svg, LEFT - 6, y + 4, text, "end")
    _text(svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle")
    middle = (TOP + floor) / 2
    label = _text(svg, 12, middle, y_label, "middle")
    label.set("transform", f"rotate(-90 12 {middle:.1f})")


def _add(svg: ET.Element, tag: str, **numbers: float) -> ET.Element:
    return ET.SubElement(svg, tag, {name: f"{number:.1f}" for name, number in numbers.items()})


def _text(svg: ET.Element, x: float, y: float, text: str, anchor: str) -> ET.Element:
    element = _add(svg, "text", x=x, y=y)
    element.set("text-anchor", anchor)
    element.text = text
    return element


def _spread(bars: int) -> list[int]:
    return list(range(bars)) if bars <= MOST_TICKS else sorted({round(part * (bars - 1) / 5) for part in range(6)})
