"""The report of missing pictures: read back, and whatever a damaged one holds is left out with its line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from mutate import changed, damaged

from dataset_prep.images.report import EMBED, FETCH, Missing, read_report, report_path, write_report

ENTRIES = [
    Missing("a", FETCH, "HTTP 404", False, "0f"),
    Missing("b", EMBED, "damaged PNG"),
    Missing("é 3", FETCH, "no connection", True, "1f"),
]


def test_a_report_is_read_back(tmp_path: Path) -> None:
    path = report_path(tmp_path)
    assert read_report(path) == {}
    write_report(path, reversed(ENTRIES))
    assert list(read_report(path).values()) == ENTRIES
    path.write_bytes(b"")
    assert read_report(path) == {}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "is cut off or no JSON"),
        ("", "is cut off or no JSON"),
        ('{"item": "a", "stage": "fetch"}', "has no 'reason'"),
        ('{"item": ["a"], "stage": "fetch", "reason": "r"}', "has a wrong 'item'"),
        ('{"item": "a", "stage": "bought", "reason": "r"}', "has a wrong 'stage'"),
        ('{"item": "a", "stage": "fetch", "reason": "r", "try_again": 1}', "has a wrong 'try_again'"),
        (r'{"item": "\ud800", "stage": "fetch", "reason": "r"}', "holds half of a character"),
        ('{"item": "a", "stage": "fetch", "reason": "r", "x": ' + "[" * 50 + "]" * 50 + "}", "is nested"),
    ],
)
def test_a_line_that_is_not_ours_is_left_out_and_named(
    tmp_path: Path, line: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = report_path(tmp_path)
    write_report(path, ENTRIES)
    first, *rest = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text(first + line + "\n" + "".join(rest), encoding="utf-8")
    assert list(read_report(path).values()) == ENTRIES
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}: 1 lines left out and made anew, the first: line 2 {why}")


def test_no_damage_ends_in_an_error(tmp_path: Path) -> None:
    path, copy = report_path(tmp_path), tmp_path / "copy"
    write_report(path, ENTRIES)
    contents = [line.encode("utf-8", "surrogatepass") for line in changed(asdict(ENTRIES[0]), 2, 200)]
    contents += damaged(path.read_bytes(), 3, 200)
    for content in contents:
        path.write_bytes(content + b"\n" + json.dumps(asdict(ENTRIES[1])).encode())
        found = read_report(path)
        assert "b" in found or not content.endswith(b"}")
        write_report(copy, found.values())
        assert read_report(copy) == dict(sorted(found.items()))
