"""Inputs: good files with some damage, each by how it is built."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fuzzing.binary import in_gzip, in_npy, in_picture, in_request, in_safetensors, in_table, in_torch
from fuzzing.cases import Case, Reader, kind_of
from fuzzing.plain import Draw, in_bytes, in_fields, in_json, in_json_lines, in_lines, in_yaml

BY_KIND: dict[str, Callable[[bytes, Draw, Sequence[bytes]], bytes]] = {
    "json": in_json,
    "jsonl": in_json_lines,
    "lines": in_lines,
    "tsv": in_fields(b"\t"),
    "csv": in_fields(b","),
    "yaml": in_yaml,
    "safetensors": in_safetensors,
    "npy": in_npy,
    "torch": in_torch,
    "picture": in_picture,
    "parquet": in_table,
    "gzip": in_gzip,
    "request": in_request,
    "words": in_fields(b" "),
}


def damage(data: bytes, kind: str, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """A file's bytes, damaged.

    Args:
        data: of a good file.
        kind: how it is built: json, lines, tsv, csv, yaml, safetensors, npy, torch, picture, parquet, gzip, bytes.
        draw: decides.
        others: good files of the same kind, to take parts from.
    """
    made = data
    for _ in range(draw.choice((1, 1, 1, 2, 2, 4, 8))):
        how = BY_KIND.get(kind) if draw.random() < 0.75 else None
        try:
            made = (how or in_bytes)(made, draw, others)
        except Exception:  # of any kind: nothing is left of how it was built
            made = in_bytes(made, draw, others)
    return made[: 2**21]


def input_of(reader: Reader, seed: int, number: int) -> Case:
    """One input: a good case with one or two of its files damaged; every thousandth is left as it is."""
    draw = random.Random(f"{seed} {reader.name} {number}")
    case = dict(draw.choice(reader.cases))
    if number % 1_000 == 0:
        return case
    names = [name for name in case if kind_of(reader, name) is not None]
    for name in {draw.choice(names) for _ in range(draw.choice((1, 1, 2)))}:
        kind = kind_of(reader, name)
        assert kind is not None
        others = [other[name] for other in draw.sample(reader.cases, min(3, len(reader.cases))) if name in other]
        case[name] = damage(case[name], kind, draw, others)
    return reader.mend(case)
