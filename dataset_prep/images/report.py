"""``images.report.jsonl``: why items have no picture, a line each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from dataset_prep.files.atomic import replace_file

FETCH, EMBED = "fetch", "embed"


@dataclass(frozen=True)
class Missing:
    """Why an item has no picture.

    Attributes:
        item: its token.
        stage: "fetch" when no picture came, "embed" when the one that is there could not be used.
        reason: in words.
        try_again: whether the next run of ``images`` should try; False where it would only fail again.
        asked: digest of what was asked for and of the limits, so that a changed URL or limit is tried again.
    """

    item: str
    stage: str
    reason: str
    try_again: bool = False
    asked: str = ""


def report_path(dataset_dir: Path) -> Path:
    """``DATASET_DIR/images.report.jsonl``."""
    return dataset_dir / "images.report.jsonl"


def read_report(path: Path) -> dict[str, Missing]:
    """The report by item; empty when there is none, and without lines that are not ours."""
    found: dict[str, Missing] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (FileNotFoundError, UnicodeDecodeError):
        return found  # none, or damaged: everything is tried again
    for line in lines:
        try:
            entry = Missing(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[entry.item] = entry
    return found


def write_report(path: Path, entries: Iterable[Missing]) -> None:
    """Writes the report sorted by item; moved into its place when whole."""
    ordered = sorted(entries, key=lambda entry: entry.item)
    replace_file(path, (json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in ordered))
