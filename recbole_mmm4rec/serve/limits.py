"""What a request may cost, and how one is refused: a status and one line; which pictures are believed."""

from __future__ import annotations

import binascii
import io
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

from recbole_mmm4rec.base.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 20_000_000
FAILED = "the service failed here; its log says where"
CHANGED = "the model is being changed; come again in a second"


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        k: items of an answer.
        history: items of a history, and of each list of ids beside it ten times as many.
        body: bytes of a request.
        picture_body: bytes of a request that may hold pictures.
        waiting: requests that wait for the model; more are told to come again.
        seconds: for a request's body to arrive.
        added: items of one request that adds items.
    """

    k: int = 100
    history: int = 1_000
    body: int = 512 * 1024
    picture_body: int = 8 * 1024 * 1024
    waiting: int = 1_024
    seconds: float = 10.0
    added: int = 100


class RefusedError(Exception):
    """A request that gets no other answer than this line.

    Attributes:
        status: of HTTP.
        line: what is said.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


def check_count(named: str, count: int, most: int, option: str = "") -> None:
    """Refuse more than a limit.

    Args:
        named: what is too much, with its number, such as ``k=1000``.
        count, most: the number, and the limit.
        option: what raises the limit.

    Raises:
        UserError: with both.
    """
    if count > most:
        raise UserError(f"{named}: at most {most:,} here" + (f" ({option} allows more)" if option else ""))


def check_same(made: Any, now: Any) -> None:
    """Refuse vectors of another model's encoders.

    Args:
        made: of which encoders the vectors are.
        now: of which the model's features are.

    Raises:
        RefusedError: not of the same.
    """
    if made != now:
        raise RefusedError(503, CHANGED)


def decoded(named: str, text: str) -> bytes:
    """The bytes of base64.

    Raises:
        UserError: it is none.
    """
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{named}: the picture's bytes as base64 are wanted") from None


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
