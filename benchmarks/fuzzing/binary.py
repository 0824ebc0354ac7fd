"""Damage of files with a structure of their own: safetensors, arrays, PyTorch's, pictures, Parquet, archives."""

from __future__ import annotations

import base64
import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

from fuzzing.plain import Draw, dumped, in_bytes, in_json, in_lines, in_tree, loaded
from fuzzing.words import FLOATS, NUMBERS


def in_safetensors(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """The header of a file of safetensors, and the JSON inside its metadata."""
    length = int.from_bytes(data[:8], "little")
    header = loaded(data[8 : 8 + length])
    if not isinstance(header, dict):
        return in_bytes(data, draw, others)
    told = header.get("__metadata__")
    if isinstance(told, dict) and isinstance(told.get("tree"), str) and draw.random() < 0.7:
        tree = loaded(told["tree"].encode())
        if tree is not None:
            told["tree"] = dumped(in_tree(tree, draw), draw).decode("utf-8", "replace")
            header = {"__metadata__": told, **{key: part for key, part in header.items() if key != "__metadata__"}}
    elif draw.random() < 0.2:
        return data[: 8 + length] + in_bytes(data[8 + length :], draw, others)
    else:
        header = in_tree(header, draw)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    told_length = len(text) if draw.random() < 0.95 else draw.choice(NUMBERS) % 2**64
    return told_length.to_bytes(8, "little") + text + data[8 + length :]


def in_npy(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """The header of an array: its kind, order, shape."""
    end = data.find(b"\n")
    if end < 10 or draw.random() < 0.2:
        return in_bytes(data, draw, others)
    text = data[10:end]
    words = (
        b"'<f4'",
        b"'<f8'",
        b"'|O'",
        b"'<U9'",
        b"'<c8'",
        b"(1, 2)",
        b"(-1,)",
        b"(99999999999,)",
        b"()",
        b"[('a','<f4')]",
    )
    shape = b"'shape': " + draw.choice(words)
    text = draw.choice(
        (
            text.replace(b"False", draw.choice((b"True", b"0", b"None", b"x"))),
            text[: text.find(b"'shape'")] + shape + b"}",
            text.replace(text.split(b",")[0].split(b":")[-1].strip(), draw.choice(words)),
            in_bytes(text, draw),
        )
    )
    version = draw.choice((1, 1, 1, 2, 3, 9))
    return (
        data[:6] + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text) + 1) + text + data[end:]
    )


class Run:
    """An object whose pickle runs something."""

    def __init__(self, draw: Draw) -> None:
        self.how = draw.randrange(3)

    def __reduce__(self) -> Any:
        import os

        return ((os.system, ("touch ran",)), (exec, ("open('ran', 'w')",)), (eval, ("1+1",)))[self.how]


def in_torch(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """A file of PyTorch's: its pickle changed, exchanged for one that runs something, its members mixed up."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # damaged before, or the old format
        if draw.random() < 0.3:
            return pickle.dumps(Run(draw), draw.choice((0, 2, 4)))
        return in_bytes(data, draw, others)
    if not parts:
        return in_bytes(data, draw, others)
    at = next((place for place, (name, _) in enumerate(parts) if name.endswith("data.pkl")), 0)
    name, content = parts[at]
    way = draw.randrange(8)
    if way < 3:
        parts[at] = (name, in_bytes(content, draw, others))
    elif way == 3:
        told = {"state_dict": {"a": 1}, "config": Run(draw), "epoch": draw.choice(NUMBERS)}
        parts[at] = (name, pickle.dumps(told, draw.choice((2, 4))))
    elif way == 4:
        where = draw.randrange(len(content))
        call = draw.choice(
            (
                b"cos\nsystem\n(S'touch ran'\ntR",
                b"cbuiltins\nexec\n(S'1'\ntR",
                b"ctorch\nload\n",
                b"cnumpy.core.multiarray\nscalar\n",
            )
        )
        parts[at] = (name, content[:where] + call + content[where:])
    elif way == 5:
        where = draw.randrange(len(parts))
        parts[where] = (parts[where][0], in_bytes(parts[where][1], draw))
    elif way == 6:
        where = draw.randrange(len(parts))
        parts[where] = (draw.choice(("../../out", "/tmp/out", "a/constants.pkl", "x", name)), parts[where][1])
    else:
        del parts[draw.randrange(len(parts))]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in dict(parts).items():
            archive.writestr(name, content)
    return made.getvalue()


def in_picture(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """A picture: its size in the header, with a right checksum where there is one."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 33 and draw.random() < 0.7:
        head = bytearray(data[12:29])
        if draw.random() < 0.6:
            at = draw.choice((4, 8))
            head[at : at + 4] = (draw.choice((0, 1, 3, 5_000, 70_000, 2**31 - 1))).to_bytes(4, "big")
        else:
            head[draw.randrange(12, 17)] = draw.randrange(256)
        return data[:12] + bytes(head) + zlib.crc32(head).to_bytes(4, "big") + data[33:]
    if data[:2] == b"BM" and draw.random() < 0.5:
        at = draw.choice((10, 14, 18, 22, 28, 30, 46))
        return data[:at] + (draw.choice(NUMBERS) % 2**32).to_bytes(4, "little") + data[at + 4 :]
    start = data.find(b"\xff\xc0")
    if data[:2] == b"\xff\xd8" and start > 0 and draw.random() < 0.3:
        at = start + draw.choice((2, 4, 5, 7, 9))
        return data[:at] + draw.randbytes(2) + data[at + 2 :]
    if draw.random() < 0.1:
        return gzip.compress(data)
    return in_bytes(data, draw, others)


def in_table(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """A Parquet file: columns renamed, left out, doubled or of other kinds; or its bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if draw.random() < 0.4:
        return in_bytes(data, draw, others)
    try:
        table = pq.read_table(io.BytesIO(data))
    except Exception:  # damaged before
        return in_bytes(data, draw, others)
    if not table.num_columns:
        return in_bytes(data, draw, others)
    columns, names = list(table.columns), list(table.column_names)
    at = draw.randrange(len(names))
    way = draw.randrange(5)
    if way == 0:
        names[at] = draw.choice((*names, "x", "", "ITEM_ID", "é", "user_id", "a" * 300))
    elif way == 1:
        del columns[at], names[at]
    elif way == 2:
        columns.append(columns[at])
        names.append(names[at])
    else:
        columns[at] = _column(table.num_rows, draw)
    made = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_arrays(columns, names=names), made)
    except Exception:  # no such table can be written
        return in_bytes(data, draw, others)
    return made.getvalue()


def _column(rows: int, draw: Draw) -> Any:
    """A column of any kind that Parquet knows."""
    import decimal

    import pyarrow as pa

    made: tuple[tuple[Any, Any], ...] = (
        ([None] * rows, pa.null()),
        ([draw.choice(NUMBERS) % 2**62 for _ in range(rows)], pa.int64()),
        ([draw.choice(FLOATS) for _ in range(rows)], pa.float64()),
        ([draw.choice((None, "x", "é", "1", "")) for _ in range(rows)], pa.string()),
        ([draw.randbytes(3) for _ in range(rows)], pa.binary()),
        ([draw.random() < 0.5 for _ in range(rows)], pa.bool_()),
        ([["a", None]] * rows, pa.list_(pa.string())),
        ([[1.5, float("nan")]] * rows, pa.list_(pa.float32())),
        ([{"a": 1}] * rows, pa.struct([("a", pa.int64())])),
        ([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
        ([decimal.Decimal("1.5")] * rows, pa.decimal128(10, 2)),
        ([10**18] * rows, pa.timestamp("ns")),
        ([1] * rows, pa.date32()),
        ([1] * rows, pa.time64("us")),
        ([10**15] * rows, pa.duration("s")),
        ([1.0] * rows, pa.float16()),
    )
    values, kind = draw.choice(made)
    if kind == pa.float16():
        import numpy as np

        return pa.array(np.ones(rows, np.float16))
    return pa.array(values, kind)


def in_gzip(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """What is packed, damaged, or the archive."""
    if draw.random() < 0.4:
        return in_bytes(data, draw, others)
    try:
        inner = gzip.decompress(data)
    except Exception:  # damaged before
        return in_bytes(data, draw, others)
    return gzip.compress(in_lines(inner, draw), 1)


def in_request(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """A request's JSON; pictures in it are damaged as pictures."""
    tree = loaded(data)
    if isinstance(tree, dict) and draw.random() < 0.3:
        for part in (tree, *(one for one in tree.get("items") or () if isinstance(one, dict))):
            if isinstance(part.get("image"), str):
                try:
                    content = base64.b64decode(part["image"])
                except ValueError:
                    continue
                part["image"] = base64.b64encode(in_picture(content, draw)).decode()
        return dumped(tree, draw)
    return in_json(data, draw, others)
