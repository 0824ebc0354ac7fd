"""Bytes that are a picture, or a reason why they are none; pictures as they are meant to be seen."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_server import bomb_png, picture
from PIL import Image

from recbole_mmm4rec.encoders.pictures import FORMATS, BadPictureError, UnreadPictureError, check_picture, read_picture


@given(st.binary(max_size=200), st.integers(0, 200), st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP"]))
def test_damaged_bytes_never_give_more_than_a_reason(junk: bytes, at: int, kind: str) -> None:
    data = picture(kind=kind)
    for broken in (junk, data[:at], data[:at] + junk + data[at:], data[:at] + junk):
        assert outcome(broken) in FORMATS.values() or "\n" not in outcome(broken)
    assert outcome(data) == FORMATS[kind]


def outcome(data: bytes) -> str:
    try:
        return check_picture(data, 1_000_000)
    except BadPictureError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_bomb_is_refused_by_its_header_whatever_is_allowed() -> None:
    with pytest.raises(BadPictureError, match="more than 178,000,000 pixels"):
        check_picture(bomb_png(), 178_000_000)
    with pytest.raises(BadPictureError, match=r"12,000 x 12,000, more than 50,000,000 pixels"):
        check_picture(bomb_png(12_000), 50_000_000)


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").size == (20, 40)


def test_a_camera_picture_of_several_is_a_jpeg() -> None:
    first, second = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    content = io.BytesIO()
    first.save(content, "MPO", save_all=True, append_images=[second])
    assert check_picture(content.getvalue(), 100) == "jpg"
    assert read_picture(content.getvalue()).getpixel((3, 3)) == pytest.approx((254, 0, 0), abs=3)


def test_too_little_memory_says_nothing_of_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise MemoryError

    data = picture()
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(UnreadPictureError, match="too little memory"):
        read_picture(data)
