"""Pictures looked at before they are believed: the formats that are read, and why a file gives none."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_mmm4rec.base.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "AVIF": "avif"}
DEFAULT_MAX_PIXELS = 50_000_000
MOST_PIXELS = 178_956_970
"""Where Pillow itself refuses; what a data set's folder holds has passed the user's own limit."""


class BadPictureError(Exception):
    """Bytes that give no picture; the message is the reason, for a report."""


class UnreadPictureError(BadPictureError):
    """A picture that could not be looked at, which says nothing of its bytes: another time it may be read."""


def check_picture(data: bytes, max_pixels: int) -> str:
    """Decodes a picture to its last row.

    Args:
        data: the file's bytes.
        max_pixels: width times height allowed; compared with the header, before anything is decoded.

    Returns:
        The suffix that the content calls for, whatever the file was called.

    Raises:
        BadPictureError: empty, another kind of file, cut off, damaged or too large.
    """
    kind = str(_decode(data, max_pixels).format)
    return FORMATS["JPEG" if kind == "MPO" else kind]  # of several pictures, as cameras write it, the first one counts


def read_picture(source: Path | bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """A picture as RGB, turned as its EXIF orientation says.

    Args:
        source: a file or its bytes.
        max_pixels: as in :func:`check_picture`.

    Raises:
        BadPictureError: as :func:`check_picture`, or the file cannot be read.
    """
    from PIL import ImageOps

    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise UnreadPictureError(f"cannot be read ({error.strerror})") from None
    picture = _decode(data, max_pixels)
    try:
        return ImageOps.exif_transpose(picture).convert("RGB")
    except MemoryError:
        raise UnreadPictureError("too little memory") from None
    except Exception as error:  # broken EXIF blocks fail in many ways
        raise BadPictureError(f"damaged {picture.format} ({_reason(error)})") from None


def need_pillow() -> None:
    """Makes sure that pictures can be read.

    Raises:
        UserError: Pillow is not installed.
    """
    try:
        import PIL.Image
    except ImportError:
        raise UserError("pictures need Pillow: pip install 'recbole-mmm4rec[images]'") from None
    # Between half its limit and its limit Pillow only warns; our own limit decides.
    warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


def _decode(data: bytes, max_pixels: int) -> Picture:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise BadPictureError("empty file")
    try:
        picture = Image.open(io.BytesIO(data), formats=list(FORMATS))
    except Image.DecompressionBombError:
        raise BadPictureError(f"more than {max_pixels:,} pixels") from None
    except UnidentifiedImageError:
        kind = "an HTML or XML page" if data.lstrip()[:1] == b"<" else "no known picture format"
        raise BadPictureError(f"no picture but {kind}" if "page" in kind else kind) from None
    except Exception as error:  # Pillow's plug-ins raise whatever a damaged header makes them
        raise BadPictureError(f"damaged header ({_reason(error)})") from None
    width, height = picture.size
    if width * height > max_pixels:
        raise BadPictureError(f"{width:,} x {height:,}, more than {max_pixels:,} pixels")
    try:
        picture.load()
    except MemoryError:
        raise UnreadPictureError("too little memory") from None
    except Exception as error:
        raise BadPictureError(f"damaged {picture.format} ({_reason(error)})") from None
    return picture


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
