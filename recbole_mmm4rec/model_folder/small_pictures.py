"""Pictures of a shop's items, small enough to travel with the model."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.picture_files import find_pictures, picture_stem
from recbole_mmm4rec.encoders.pictures import MOST_PIXELS, BadPictureError, need_pillow, read_picture

logger = logging.getLogger(__name__)

SIDE = 160
"""Pixels of the longer side."""
QUALITY = 80
"""Of the JPEGs."""


def small_pictures(folder: Path, items: Sequence[str], show_progress: bool = False) -> pa.Array | None:
    """The pictures of a data set as small JPEGs.

    Args:
        folder: of the pictures.
        items: ids, in the order of item numbers.
        show_progress: a bar.

    Returns:
        (I,) binary, null where an item has none or one that cannot be read; None where no item has one, or pictures
        cannot be read here.
    """
    files = find_pictures(folder)
    if not files:
        return None
    try:
        need_pillow()
    except UserError as error:
        logger.warning("the model folder has no pictures: %s", error)
        return None
    bar = tqdm(items, desc="Pictures", ncols=100, unit=" items", disable=not show_progress)
    made = pa.array([_small(files.get(picture_stem(item))) for item in bar], pa.large_binary())
    return None if made.null_count == len(made) else made


def small_jpeg(source: Path | bytes) -> bytes:
    """A picture as a small JPEG.

    Raises:
        BadPictureError: it is none that can be read.
    """
    picture = read_picture(source, MOST_PIXELS)
    picture.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=QUALITY)
    return content.getvalue()


def _small(file: Path | None) -> bytes | None:
    try:
        return None if file is None else small_jpeg(file)
    except BadPictureError:
        return None
