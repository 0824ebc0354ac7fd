"""Arrays on disk: NumPy's own files are read as NumPy reads them, damaged ones end in one kind of error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutate import damaged

from recbole_mmm4rec.base.arrays import read_array


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.zeros((0, 3), dtype=np.float32),
        np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        np.array([True, False]),
        np.arange(3, dtype=">i4"),
        np.array(7, dtype=np.uint8),
    ],
    ids=str,
)
def test_numpys_files_are_read(tmp_path: Path, array: np.ndarray, mapped: bool) -> None:
    file = tmp_path / "a.npy"
    for version in ((1, 0), (2, 0), (3, 0)):
        with file.open("wb") as handle:
            np.lib.format.write_array(handle, array, version)
        found = read_array(file, mapped)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "array",
    [np.array(["a"]), np.array([{}]), np.zeros(3, "f4,i4"), np.array([1j]), np.array(["2024"], "M8[D]")],
    ids=str,
)
def test_what_is_no_number_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match="no plain numbers"):
        read_array(tmp_path / "a.npy")


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no array of NumPy's"),
        (b"PK\x03\x04" + b"0" * 100, "no array of NumPy's"),
        (b"\x93NUMPY\x09\x00\x76\x00" + b" " * 200, "no array of NumPy's"),
        (b"\x93NUMPY\x01\x00\x76\x00{", "damaged header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 9_000, "damaged header"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (3"), "damaged header"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "damaged header"),
        (header("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}"), "damaged header"),
        (header("{'descr': '<f4', 'shape': (1,)}"), "damaged header"),
        (header("(" * 4_000), "damaged header"),
        (header("__import__('os').abort()"), "damaged header"),
        (
            header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**15},)}}"),
            "cut off after [0-9]+ of ",
        ),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}") + b"x", "has .* bytes where"),
    ],
)
def test_damaged_files_say_what_is_wrong(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    for mapped in (False, True):
        with pytest.raises(ValueError, match=why):
            read_array(tmp_path / "a.npy", mapped)


def test_no_damage_ends_in_another_error(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.arange(12, dtype=np.float32).reshape(4, 3))
    whole = file.read_bytes()
    outcomes: dict[str, int] = {}
    for content in damaged(whole[:130], 1, 300):
        file.write_bytes(content + whole[130:])
        try:
            found: Any = read_array(file)
            outcomes["read"] = outcomes.get("read", 0) + 1
            assert found.nbytes <= len(content) + len(whole)
        except ValueError as error:
            outcomes[str(error)[:9]] = outcomes.get(str(error)[:9], 0) + 1
    assert min(outcomes[kind] for kind in ("read", "has a dam", "is no arr")) > 2
