"""Search by words or a picture; the picture comes in the request and is looked at before it is believed."""

from __future__ import annotations

import io
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.answers import body_of
from recbole_mmm4rec.serve.current import Shop
from recbole_mmm4rec.serve.limits import decoded
from recbole_mmm4rec.serve.schemas import SearchAsked

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 20_000_000


def search(shop: Shop, asked: SearchAsked) -> bytes:
    """Items that fit words, a picture, or both, and a history."""
    image = None if asked.image is None else picture("image", decoded("image", asked.image))
    found = shop.recommender.search(
        asked.text,
        image=image,
        k=asked.k,
        history=asked.history,
        timestamps=asked.timestamps,
        only=asked.only,
        exclude=asked.exclude,
        where=asked.where,
    )
    return body_of(shop, found)


def picture(named: str, data: bytes) -> Any:
    """A decoded picture as RGB.

    Args:
        named: what it is called in a message.
        data: a file's bytes.

    Raises:
        UserError: no picture, damaged, or too large; Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise UserError("pictures need Pillow: pip install 'recbole-mmm4rec[images]'") from None
    try:
        found = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise UserError(f"{named}: more than {MOST_PIXELS:,} pixels") from None
    except Exception:  # a damaged header makes Pillow raise anything
        raise UserError(f"{named}: no picture in a known format ({', '.join(FORMATS)})") from None
    if found.width * found.height > MOST_PIXELS:
        raise UserError(f"{named}: more than {MOST_PIXELS:,} pixels")
    try:
        return ImageOps.exif_transpose(found).convert("RGB")
    except Exception:
        raise UserError(f"{named}: a damaged {found.format}") from None
