"""Damage of bytes, of plain values, and of text: lines, fields, JSON, YAML."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from fuzzing.words import FLOATS, LINES, NUMBERS, TEXTS, TOKENS

Draw = random.Random


def in_bytes(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """Anything: a bit, a byte, a number, a cut, a doubled or foreign part."""
    at, end = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
    near = min(len(data), at + draw.randrange(1, 9))
    way = draw.randrange(9)
    if way == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    if way == 1:
        return data[:at] + draw.randbytes(near - at) + data[near:]
    if way == 2:
        width = draw.choice((1, 2, 4, 8))
        number = (draw.choice(NUMBERS) & 2 ** (8 * width) - 1).to_bytes(width, draw.choice(("little", "big")))
        return data[:at] + number + data[at + width :]
    if way == 3:
        return data[:at]
    if way == 4:
        return data[:at] + data[draw.choice((near, end)) :]
    if way == 5:
        return data[:end] + data[at:]
    if way == 6:
        return data[:at] + draw.choice(TOKENS) + data[draw.choice((at, near)) :]
    if way == 7 and others:
        other = draw.choice(others)
        first, last = sorted((draw.randrange(len(other) + 1), draw.randrange(len(other) + 1)))
        return data[:at] + other[first:last] + data[draw.choice((at, end)) :]
    return data[:at] + data[at:end][::-1] + data[end:]


def _value(draw: Draw) -> Any:
    kind = draw.randrange(9)
    if kind == 0:
        return draw.choice((None, True, False))
    if kind == 1:
        return draw.choice(NUMBERS)
    if kind == 2:
        return draw.choice(FLOATS)
    if kind < 6:
        return draw.choice(TEXTS)
    if kind == 6:
        return [_value(draw) for _ in range(draw.randrange(4))]
    if kind == 7:
        return {draw.choice(TEXTS): _value(draw) for _ in range(draw.randrange(3))}
    nested: Any = "x"
    for _ in range(draw.choice((5, 40, 300))):
        nested = [nested] if draw.random() < 0.5 else {"a": nested}
    return nested


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every place in a tree: its container and the key or number there."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < 5_000:
        part = waiting.pop()
        keys: Any = part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        for key in keys:
            found.append((part, key))
            waiting.append(part[key])
    return found


def in_tree(tree: Any, draw: Draw, other: Any = None) -> Any:
    """Plain values with one place changed: another value, left out, doubled, renamed, exchanged."""
    tree = copy.deepcopy(tree)
    places = _places(tree)
    if not places or draw.random() < 0.02:
        return _value(draw)
    part, key = draw.choice(places)
    way = draw.randrange(8)
    if way < 3:
        part[key] = _value(draw)
    elif way == 3:
        del part[key]
    elif way == 4:
        there, where = draw.choice(_places(other) or places)
        part[key] = copy.deepcopy(there[where])
    elif way == 5 and isinstance(part, dict):
        new = draw.choice((str(key)[:-1], str(key).upper(), f"{key}s", draw.choice(TEXTS)))
        part[new] = part.pop(key)
    elif way == 5:
        part.insert(key, copy.deepcopy(part[key]))
    elif way == 6 and isinstance(part, dict):
        part[draw.choice(TEXTS)] = _value(draw)
    elif isinstance(part[key], bool) or part[key] is None:
        part[key] = not part[key]
    elif isinstance(part[key], (int, float)):
        part[key] = draw.choice(
            (-part[key], part[key] + 1, part[key] * 2**31, str(part[key]), [part[key]], part[key] / 3)
        )
    elif isinstance(part[key], str):
        part[key] = in_text(part[key], draw)
    else:
        part[key] = draw.choice((list(part[key]), str(part[key])[:200], {}, [], [part[key], part[key]]))
    return tree


def in_text(text: str, draw: Draw) -> str:
    """A text that is cut, doubled, or has something strange in it."""
    at = draw.randrange(len(text) + 1)
    return draw.choice((text[:at], text + text, text[:at] + draw.choice(TEXTS) + text[at:], text.upper(), f" {text}"))


def dumped(tree: Any, draw: Draw) -> bytes:
    """JSON, now and then with what Python's writer never writes."""
    text = json.dumps(tree, ensure_ascii=draw.random() < 0.5)
    if draw.random() < 0.1:
        text = text.replace(
            draw.choice(("1", '"', ":", ",", "null")), draw.choice(("1e999", "9" * 5_000, "'", "NaN", "\\u")), 1
        )
    return text.encode("utf-8", "surrogatepass")


def loaded(data: bytes) -> Any:
    """A JSON value; None of anything else."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def in_json(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """A file of one JSON value."""
    tree = loaded(data)
    if not isinstance(tree, (dict, list)):
        return in_bytes(data, draw, others)
    return dumped(in_tree(tree, draw, loaded(draw.choice(others)) if others else None), draw)


def in_json_lines(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """A file of JSON lines: a line changed, or lines."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    if draw.random() < 0.6 and lines[at].startswith(b"{"):
        lines[at] = in_json(lines[at], draw, [draw.choice(other.split(b"\n")) for other in others[:3]])
        return b"\n".join(lines)
    return in_lines(data, draw, others)


def in_lines(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """Lines left out, doubled, exchanged, joined, cut, or of another file."""
    lines = data.split(b"\n")
    at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    way = draw.randrange(9)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(other, lines[at])
    elif way == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif way == 3:
        lines[at : at + 2] = [b"".join(lines[at : at + 2])]
    elif way == 4:
        lines.insert(at, draw.choice(TOKENS))
    elif way == 5:
        lines[at] = lines[at] + draw.choice((b"\r", b" ", b"\t", b"\0", b"\x0b", b"\x85"))
    elif way == 6 and others:
        lines[at] = draw.choice(draw.choice(others).split(b"\n"))
    elif way == 7:
        coding = draw.choice(("utf-16", "utf-16-le", "latin-1", "utf-32", "utf-8-sig", "utf-7", "cp1252"))
        return data.decode("utf-8", "replace").encode(coding, "replace")
    else:
        lines[at] = in_bytes(lines[at], draw, others)
    return b"\n".join(lines)


def in_fields(separator: bytes) -> Callable[[bytes, Draw, Sequence[bytes]], bytes]:
    """What damages a table with a separator."""

    def damaged(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
        if draw.random() < 0.3:
            return in_lines(data, draw, others)
        lines = data.split(b"\n")
        at = 0 if draw.random() < 0.3 else draw.randrange(len(lines))
        fields = lines[at].split(separator)
        place = draw.randrange(len(fields))
        way = draw.randrange(6)
        if way < 2:
            fields[place] = draw.choice(TOKENS)
        elif way == 2:
            del fields[place]
        elif way == 3:
            fields.insert(place, draw.choice(fields or [b""]))
        elif way == 4:
            fields[place] = in_bytes(fields[place], draw)
        else:
            other = draw.choice((b",", b"\t", b";", b" ", b"|", b"::"))
            return data.replace(separator, other) if draw.random() < 0.3 else data.replace(separator, other, 1)
        lines[at] = separator.join(fields)
        return b"\n".join(lines)

    return damaged


def in_yaml(data: bytes, draw: Draw, others: Sequence[bytes] = ()) -> bytes:
    """YAML: a value, a key, an indentation, a tag, an alias."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    key, colon, value = lines[at].partition(b":")
    way = draw.randrange(7)
    if way == 0:
        lines[at] = key + b": " + draw.choice((*LINES, *TOKENS))
    elif way == 1:
        lines[at] = b" " * draw.randrange(6) + lines[at].lstrip()
    elif way == 2:
        lines.insert(at, draw.choice(LINES))
    elif way == 3:
        lines[at] = draw.choice(TOKENS) + colon + value
    elif way == 4:
        import yaml

        try:
            tree = in_tree(yaml.safe_load(data), draw)
            return str(yaml.safe_dump(tree, allow_unicode=True, default_flow_style=draw.choice((True, False)))).encode()
        except Exception:  # the damage before is no YAML any more
            return in_bytes(data, draw, others)
    elif way == 5:
        lines[at] = key + b": " + dumped(_value(draw), draw)
    else:
        return in_lines(data, draw, others)
    return b"\n".join(lines)
