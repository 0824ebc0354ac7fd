"""Pictures of a data set on disk: one file an item, named by its token's sha256, looked at before it is believed."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_mmm4rec.base.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "AVIF": "avif"}
DEFAULT_MAX_PIXELS = 50_000_000
MOST_PIXELS = 178_956_970  # where Pillow itself refuses
_STEM = re.compile(r"[0-9a-f]{64}")


class BadPictureError(Exception):
    """Bytes that give no picture; the message is the reason, for a report."""


def picture_folder(dataset_dir: Path) -> Path:
    """Where a data set's pictures lie: ``DATASET_DIR/images``."""
    return dataset_dir / "images"


def picture_stem(token: str) -> str:
    """File name of an item's picture without its suffix: the sha256 of the item token, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def find_pictures(folder: Path) -> dict[str, Path]:
    """The pictures in a folder by stem; of two with one stem the first by name. A link that leads nowhere is none."""
    entries = os.scandir(folder) if folder.is_dir() else ()
    names = sorted(e.name for e in entries if e.is_file(follow_symlinks=False) or os.path.isfile(e.path))
    found: dict[str, Path] = {}
    for name in names:
        stem, _, suffix = name.partition(".")
        if _STEM.fullmatch(stem) and suffix in FORMATS.values():
            found.setdefault(stem, folder / name)
    return found


def save_picture(folder: Path, token: str, data: bytes, suffix: str) -> None:
    """Writes an item's picture whole or not at all."""
    stem = picture_stem(token)
    part = folder / f".{stem}.tmp"
    part.write_bytes(data)
    os.replace(part, folder / f"{stem}.{suffix}")


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed run was writing."""
    for part in folder.glob(".*.tmp"):
        part.unlink(missing_ok=True)


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
    return FORMATS[str(_decode(data, max_pixels).format)]


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
        raise BadPictureError(f"cannot be read ({error.strerror})") from None
    picture = _decode(data, max_pixels)
    try:
        return ImageOps.exif_transpose(picture).convert("RGB")
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
    except Exception as error:
        raise BadPictureError(f"damaged {picture.format} ({_reason(error)})") from None
    return picture


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
