"""Lines of JSON: what is damaged is told with its line, and nothing of it gets further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.json_lines import (
    JsonLines,
    check_fields,
    is_count,
    is_date,
    is_finite,
    is_flag,
    is_number,
    is_text,
    list_of,
    one_of,
    or_none,
    read_line,
    table_of,
)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "is cut off or no JSON"),
        (b'{"a": 1', "is cut off or no JSON"),
        (b'{"a": "\xff"}', "is cut off or no JSON"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "is cut off or no JSON"),
        (b"[" * 100_000, "is cut off or no JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is cut off or no JSON"),
        (b"[1]", "is no JSON object"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "is nested in more than 32 levels"),
        (rb'{"a": {"b": ["\ud800"]}}', "half of a character"),
        (rb'{"\udfff": 1}', "half of a character"),
    ],
)
def test_what_is_no_plain_object_is_refused(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_line(line)


def test_a_plain_object_is_read() -> None:
    assert read_line('{"a": [1, {"b": "\\ud83d\\ude00é"}], "c": null}'.encode()) == {"a": [1, {"b": "😀é"}], "c": None}


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (is_text, ["", "é"], [1, None, "\ud800"]),
        (is_flag, [True, False], [0, 1, "true", None]),
        (is_count, [0, 5], [-1, True, 1.0, 2**63, "1"]),
        (is_number, [1, -2.5, float("nan")], [True, 10**30, "1", None]),
        (is_finite, [1, -2.5], [float("nan"), float("inf"), True]),
        (is_date, ["2024-05-06T07:08:09+00:00"], ["2024-05-06T07:08:09", "2024-02-31T00:00:00+00:00", "", 5]),
        (one_of("a", "b"), ["a", "b"], ["c", ["a"], None]),
        (list_of(is_count, 2), [[1, 2]], [[1], [1, "2"], "12", {}]),
        (table_of(is_count), [{}, {"a": 1}], [{"a": "1"}, [], None]),
        (or_none(is_count), [None, 1], [-1, ""]),
    ],
)
def test_kinds_of_values(check: Any, good: list[Any], bad: list[Any]) -> None:
    assert all(check(value) for value in good)
    assert not any(check(value) for value in bad)


def test_a_missing_key_and_a_wrong_value_are_named() -> None:
    with pytest.raises(ValueError, match="has no 'b'"):
        check_fields({"a": 1}, {"a": is_count, "b": is_count})
    with pytest.raises(ValueError, match="has a wrong 'a': -1"):
        check_fields({"a": -1}, {}, {"a": is_count})
    with pytest.raises(ValueError, match=r"has a wrong 'a': \"x{59}\.\.\.$"):
        check_fields({"a": "x" * 500}, {"a": is_count})


def test_a_line_of_another_kind_is_named_after_lines_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"

    def check(record: dict[str, Any]) -> None:
        check_fields(record, {"id": is_text})

    file.write_text('{"id": "a"}\n{"id": 1}\n')
    with pytest.raises(UserError, match=r"t\.jsonl, line 2: no record of a thing: it has a wrong 'id': 1; remove that"):
        JsonLines(file, "a thing", check)
    file.write_text('{"id": 1}\nnonsense\n')
    with pytest.raises(UserError, match="line 2: no record of a thing: it is cut off or no JSON"):
        JsonLines(file, "a thing", check)
    file.write_text('{"id": "a"}\n{"id": "torn')
    assert [record["id"] for record in JsonLines(file, "a thing", check).records] == ["a"]


def ids(file: Path) -> list[str]:
    """What somebody who opens a file finds there."""
    return [record["id"] for record in JsonLines(file, "a thing", lambda record: None).records]


def test_two_that_append_keep_each_others_lines(tmp_path: Path) -> None:
    """Where a folder cannot be locked, two commands may be at work in it."""
    file = tmp_path / "t.jsonl"
    one, other = (JsonLines(file, "a thing", lambda record: None) for _ in range(2))
    for number, lines in enumerate((one, other, other, one)):
        lines.append({"id": f"{number}"})
    assert ids(file) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("torn", [b'{"id": "torn', b"\xc3"])
def test_a_torn_line_is_cut_and_nothing_before_it(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(b'{"id": "a"}\n' + torn)
    one, other = (JsonLines(file, "a thing", lambda record: None) for _ in range(2))
    other.append({"id": "b"})
    with file.open("ab") as opened:  # that other was killed while it wrote
        opened.write(torn)
    one.append({"id": "c"})
    assert ids(file) == ["a", "b", "c"]
    assert file.read_bytes().count(b"\n") == 3


def test_a_file_that_was_shortened_meanwhile_is_not_filled_up(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    lines = JsonLines(file, "a thing", lambda record: None)
    lines.append({"id": "a"})
    lines.append({"id": "b"})
    file.write_text('{"id": "a"}\n')  # as the way out of a damaged line says
    lines.append({"id": "c"})
    assert ids(file) == ["a", "c"]
