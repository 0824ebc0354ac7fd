"""Pictures of the demo shop: one coloured object each, on backgrounds that say nothing."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96  # pixels
DRAWN = 2 * SIDE  # drawn at twice the size, then reduced: smooth edges
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 25, 30),
    "orange": (245, 125, 15),
    "yellow": (245, 215, 30),
    "lime": (140, 215, 40),
    "green": (20, 115, 45),
    "turquoise": (40, 195, 185),
    "blue": (25, 65, 205),
    "violet": (120, 40, 185),
    "pink": (250, 120, 185),
    "brown": (110, 65, 30),
    "black": (25, 25, 28),
    "white": (250, 250, 250),
}
SHAPES = ("disc", "ring", "square", "triangle", "star", "cross", "hexagon", "drop")
_CORNERS = {"square": 4, "triangle": 3, "hexagon": 6}


def draw(colour: str, shape: str, rng: np.random.Generator) -> bytes:
    """A product picture as PNG: an object of this colour; its shape, size, place and background are drawn by lot.

    Args:
        colour: a name in ``COLOURS``.
        rng: what decides everything else.

    Returns:
        The file's bytes, 96 x 96 pixels, without metadata.
    """
    background = _background(rng)
    shade = rng.normal(0, 6, 3) + np.array(COLOURS[colour])
    mask = Image.new("L", (DRAWN, DRAWN), 0)
    _outline(ImageDraw.Draw(mask), shape, rng)
    small = np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)[:, :, None] / 255
    light = _slope(rng, rng.uniform(6, 18))[:, :, None]
    pixels = background * (1 - small) + (shade + light) * small
    grain = rng.normal(0, rng.uniform(1, 4), (SIDE // 2, SIDE // 2)).repeat(2, 0).repeat(2, 1)
    image = Image.fromarray(np.clip(pixels + grain[:, :, None], 0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=False, compress_level=6)
    return file.getvalue()


def _background(rng: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE, 3): a washed-out tint that slopes, half of the time with stripes or a table's edge."""
    tint = rng.uniform(150, 215) + rng.normal(0, 10, 3)
    pixels = tint + _slope(rng, rng.uniform(0, 25))[:, :, None]
    kind = rng.integers(4)
    if kind == 0:
        stripes = np.sin(_slope(rng, 1.0) * rng.uniform(10, 40)) * 12
        pixels = pixels + stripes[:, :, None]
    elif kind == 1:
        pixels[int(rng.uniform(0.55, 0.9) * SIDE) :] -= rng.uniform(15, 40)
    return np.asarray(pixels)


def _slope(rng: np.random.Generator, height: float) -> np.ndarray:
    """(SIDE, SIDE) from about -height to height, along a direction drawn by lot."""
    angle = rng.uniform(0, 2 * math.pi)
    axis = np.linspace(-1, 1, SIDE)
    return np.asarray(height * (math.cos(angle) * axis[None, :] + math.sin(angle) * axis[:, None]))


def _outline(pen: ImageDraw.ImageDraw, shape: str, rng: np.random.Generator) -> None:
    radius = rng.uniform(0.24, 0.36) * DRAWN
    x, y = rng.uniform(0.44, 0.56, 2) * DRAWN
    turn = rng.uniform(0, 2 * math.pi)
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "disc":
        pen.ellipse(box, fill=255)
    elif shape == "ring":
        pen.ellipse(box, outline=255, width=int(0.45 * radius))
    elif shape == "cross":
        for quarter in (0, math.pi / 2):
            pen.line(_along(x, y, radius, turn + quarter), fill=255, width=int(0.6 * radius))
    elif shape == "star":
        pen.polygon(_points(x, y, [radius, 0.45 * radius] * 5, turn), fill=255)
    elif shape == "drop":
        pen.ellipse((x - 0.7 * radius, y - 0.7 * radius, x + 0.7 * radius, y + 0.7 * radius), fill=255)
        tip = (x + 1.2 * radius * math.cos(turn), y + 1.2 * radius * math.sin(turn))
        side = _along(x, y, 0.62 * radius, turn + math.pi / 2)
        pen.polygon([tip, *side], fill=255)
    else:
        pen.polygon(_points(x, y, [1.1 * radius] * _CORNERS[shape], turn), fill=255)


def _along(x: float, y: float, radius: float, angle: float) -> list[tuple[float, float]]:
    dx, dy = radius * math.cos(angle), radius * math.sin(angle)
    return [(x - dx, y - dy), (x + dx, y + dy)]


def _points(x: float, y: float, radii: list[float], turn: float) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * n / len(radii) for n in range(len(radii))]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]
