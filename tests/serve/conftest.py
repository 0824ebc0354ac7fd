"""A model folder with pictures, for the service's tests."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from recbole_mmm4rec.recommend.items import Items
from recbole_mmm4rec.recommend.recommender import Recommender

WITHOUT = ("k05", "k17")
"""Items without a picture."""


def _small(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 60), (number * 7 % 256, 90, 160)).save(buffer, "JPEG")
    return buffer.getvalue()


def load_pictured(folder: Path) -> Recommender:
    """A model with a picture for all items but two."""
    model = Recommender.load(folder)
    pictures = [None if item in WITHOUT else _small(number) for number, item in enumerate(model.items.ids)]
    model.items = Items(model.items.table, pa.array(pictures, pa.binary()))
    return model


@pytest.fixture(scope="session")
def shop_folder(model_folder: Path) -> Path:
    """The model folder."""
    return model_folder


@pytest.fixture(scope="session")
def load() -> Callable[[Path], Recommender]:
    """Reads it."""
    return load_pictured
