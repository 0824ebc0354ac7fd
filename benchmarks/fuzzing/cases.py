"""What a reader of the fuzzer is, and the good files that damage begins with, all made by the program itself."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

Case = dict[str, bytes]
"""Files by name: one input."""


def as_it_is(case: Case) -> Case:
    """Nothing is mended after the damage."""
    return case


@dataclass(frozen=True)
class Reader:
    """Something that reads what others have written.

    Attributes:
        name: in the table.
        goal: inputs of a whole run; readers that take longer get fewer.
        cases: good inputs, and some that users have reported.
        read: reads the files in a folder, or raises a UserError.
        kinds: end of a file's name to how it is built, see damage.py; what is not named is never damaged.
        mend: makes checksums right again, so that what they guard is read.
        begin: makes what ``read`` needs, in the process that reads, and gives the function that does.
        cleared: the folder is emptied before each input, because reading writes there.
    """

    name: str
    goal: int
    cases: list[Case]
    kinds: Mapping[str, str]
    read: Callable[[Path], None] = lambda folder: None
    mend: Callable[[Case], Case] = as_it_is
    begin: Callable[[Path], Callable[[Path], None]] | None = None
    cleared: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


def kind_of(reader: Reader, name: str) -> str | None:
    """How a file of a case is built; None of one that is left as it is."""
    return next((kind for end, kind in reader.kinds.items() if name.endswith(end)), None)


def files_of(folder: Path) -> Case:
    """All files below a folder."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def made(folder: Path) -> Path:
    """The trained shop, its stock checkpoint and its model folder, made at the first run.

    Returns:
        folder with ``kiosk/`` (dataset, model, checkpoint) and ``stock/``.
    """
    from model_shop import train_kiosk, trained_once

    trained_once(folder)
    stock = folder / "stock"
    if not (stock / "done").exists():
        stock.mkdir(exist_ok=True)
        train_kiosk(stock, epochs=1, save_pth=True, model_folder=False)
        (stock / "done").touch()
    return folder


def pictures() -> list[bytes]:
    """A picture in each format, and of each kind of pixels."""
    from PIL import Image

    found = []
    for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16", "LA"):
        image = Image.new(mode, (19, 13), 1)
        for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "TIFF", "PPM", "ICO"):
            content = io.BytesIO()
            try:
                image.save(content, form)
            except (OSError, KeyError, ValueError):  # not every format has every kind
                continue
            found.append(content.getvalue())
    frames, turned = io.BytesIO(), io.BytesIO()
    colours = [Image.new("RGB", (9, 9), (shade, 0, 0)) for shade in (1, 90, 200)]
    colours[0].save(frames, "GIF", save_all=True, append_images=colours[1:])
    exif = Image.Exif()
    exif[274] = 6
    colours[0].save(turned, "JPEG", exif=exif)
    return [*found, frames.getvalue(), turned.getvalue(), b"<html></html>", b""]


def parquet(**columns: Any) -> bytes:
    """A small Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def lines(*records: Any) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()
