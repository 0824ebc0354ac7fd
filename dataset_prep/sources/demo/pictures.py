"""Pictures of the demo shop: one object each, in colours and on backgrounds that say nothing."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96  # pixels
COLOURS = (
    (205, 25, 30),
    (245, 125, 15),
    (245, 215, 30),
    (140, 215, 40),
    (20, 115, 45),
    (40, 195, 185),
    (25, 65, 205),
    (120, 40, 185),
    (250, 120, 185),
    (110, 65, 30),
    (25, 25, 28),
    (250, 250, 250),
)
_DRAWN = 2 * SIDE  # drawn at twice the size, then reduced: smooth edges
# Corners in the unit square around (0, 0), y downwards.
_CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "bar": [(-1.15, -0.28), (1.15, -0.28), (1.15, 0.28), (-1.15, 0.28)],
    "arrow": [(-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1.1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)],
}


def draw(shape: str, rng: np.random.Generator) -> bytes:
    """A product picture as PNG: an object of this shape; colour, size, place, tilt and background are drawn by lot.

    Args:
        shape: a name in :data:`dataset_prep.sources.demo.shop.SHAPES`.
        rng: what decides everything else.

    Returns:
        The file's bytes, 96 x 96 pixels, without metadata.
    """
    background = _background(rng)
    paint = np.array(COLOURS[rng.integers(len(COLOURS))]) + rng.normal(0, 6, 3)
    mask = _mask(shape, rng)[:, :, None]
    light = _slope(rng, rng.uniform(6, 18))[:, :, None]
    pixels = background * (1 - mask) + (paint + light) * mask
    grain = rng.normal(0, rng.uniform(1, 4), (SIDE // 2, SIDE // 2)).repeat(2, 0).repeat(2, 1)
    image = Image.fromarray(np.clip(pixels + grain[:, :, None], 0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=6)
    return file.getvalue()


def _background(rng: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE, 3): a washed-out tint with a slope; some have stripes or the edge of a table."""
    tint = rng.uniform(150, 215) + rng.normal(0, 10, 3)
    pixels = np.asarray(tint + _slope(rng, rng.uniform(0, 25))[:, :, None])
    kind = rng.integers(4)
    if kind == 0:
        pixels += np.sin(_slope(rng, rng.uniform(10, 40)))[:, :, None] * 12
    elif kind == 1:
        pixels[int(rng.uniform(0.55, 0.9) * SIDE) :] -= rng.uniform(15, 40)
    return pixels


def _slope(rng: np.random.Generator, height: float) -> np.ndarray:
    """(SIDE, SIDE), rising from about -height to height in a direction drawn by lot."""
    angle = rng.uniform(0, 2 * math.pi)
    axis = np.linspace(-1, 1, SIDE)
    return np.asarray(height * (math.cos(angle) * axis[None, :] + math.sin(angle) * axis[:, None]))


def _mask(shape: str, rng: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE): 1 where the object is, 0 where it is not, between them along its edge."""
    radius = rng.uniform(0.24, 0.36) * _DRAWN
    image = Image.new("L", (_DRAWN, _DRAWN), 0)
    _outline(ImageDraw.Draw(image), shape, _DRAWN / 2, radius)
    shift = rng.uniform(-0.06, 0.06, 2) * _DRAWN
    tilt = float(rng.uniform(-35, 35))  # degrees
    image = image.rotate(tilt, Image.Resampling.BILINEAR, translate=(int(shift[0]), int(shift[1])))
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255


def _outline(pen: ImageDraw.ImageDraw, shape: str, middle: float, radius: float) -> None:
    def disc(x: float, y: float, r: float, fill: int = 255) -> None:
        x, y, r = middle + x * radius, middle + y * radius, r * radius
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def polygon(corners: list[tuple[float, float]], fill: int = 255) -> None:
        pen.polygon([(middle + x * radius, middle + y * radius) for x, y in corners], fill=fill)

    if shape == "disc":
        disc(0, 0, 0.95)
    elif shape == "ring":
        disc(0, 0, 1)
        disc(0, 0, 0.55, fill=0)
    elif shape == "frame":
        polygon([(1.1 * x, 1.1 * y) for x, y in _CORNERS["square"]])
        polygon([(0.6 * x, 0.6 * y) for x, y in _CORNERS["square"]], fill=0)
    elif shape == "triangle":
        polygon(_around([1.15] * 3))
    elif shape == "star":
        polygon(_around([1.15, 0.48] * 5))
    elif shape == "cross":
        polygon([(-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)])
        polygon([(-0.3, -1), (0.3, -1), (0.3, 1), (-0.3, 1)])
    elif shape == "drop":
        disc(0, 0.35, 0.7)
        polygon([(0, -1.25), (0.62, 0.1), (-0.62, 0.1)])
    elif shape == "crescent":
        disc(0, 0, 1)
        disc(0.5, 0, 0.85, fill=0)
    elif shape == "heart":
        disc(-0.48, -0.35, 0.53)
        disc(0.48, -0.35, 0.53)
        polygon([(-0.96, -0.12), (0, -0.5), (0.96, -0.12), (0, 1.1)])
    else:
        polygon(_CORNERS[shape])


def _around(radii: list[float]) -> list[tuple[float, float]]:
    turns = [2 * math.pi * n / len(radii) - math.pi / 2 for n in range(len(radii))]
    return [(r * math.cos(turn), r * math.sin(turn)) for r, turn in zip(radii, turns, strict=True)]
