"""Search by words or a picture; the picture comes in the request and is looked at before it is believed."""

from __future__ import annotations

import io

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.answers import body_of
from recbole_mmm4rec.serve.limits import decoded
from recbole_mmm4rec.serve.schemas import SearchAsked
from recbole_mmm4rec.serve.shop import Shop

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 20_000_000


def search(shop: Shop, asked: SearchAsked) -> bytes:
    """Items that fit words, a picture, or both, and a history."""
    image = None if asked.image is None else picture("image", asked.image)
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


def picture(named: str, text: str) -> bytes:
    """The bytes of a picture in base64, once its header is one of a picture that is not too large.

    Args:
        named: what it is called in a message.
        text: base64; nothing else, no address and no name of a file.

    Raises:
        UserError: no base64, no picture, or too large; Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UserError("pictures need Pillow: pip install 'recbole-mmm4rec[images]'") from None
    data = decoded(named, text)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as found:
            pixels = found.width * found.height
    except Image.DecompressionBombError:
        raise UserError(f"{named}: more than {MOST_PIXELS:,} pixels") from None
    except Exception:  # a damaged header makes Pillow raise anything
        raise UserError(f"{named}: no picture in a known format ({', '.join(FORMATS)})") from None
    if pixels > MOST_PIXELS:
        raise UserError(f"{named}: more than {MOST_PIXELS:,} pixels")
    return data
