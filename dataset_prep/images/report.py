"""``images.report.jsonl``: why items have no picture, a line each."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from dataset_prep.files.atomic import replace_file
from dataset_prep.images.files import picture_folder, picture_stem
from recbole_mmm4rec.base.json_lines import Fields, check_fields, is_flag, is_text, one_of, read_line

FETCH, EMBED = "fetch", "embed"
_REQUIRED: Fields = {"item": is_text, "stage": one_of(FETCH, EMBED), "reason": is_text}
_OPTIONAL: Fields = {"try_again": is_flag, "asked": is_text}

logger = logging.getLogger(__name__)


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
    """The report by item; empty when there is none. Lines that are not ours are left out, and the first is named."""
    found: dict[str, Missing] = {}
    broken: list[str] = []
    content = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else (), 1):
        try:
            record = read_line(line)
            check_fields(record, _REQUIRED, _OPTIONAL)
        except ValueError as error:
            broken.append(f"line {number} {error}")
            continue
        found[record["item"]] = Missing(**{key: record[key] for key in (*_REQUIRED, *_OPTIONAL) if key in record})
    if broken:
        logger.warning("%s: %d lines left out and made anew, the first: %s", path, len(broken), broken[0])
    return found


def write_report(path: Path, entries: Iterable[Missing]) -> None:
    """Writes the report sorted by item; moved into its place when whole."""
    ordered = sorted(entries, key=lambda entry: entry.item)
    replace_file(path, (json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in ordered))


def remove_pictures(dataset_dir: Path, items: Collection[str]) -> int:
    """Removes the pictures of items, and what the report says of them; returns how many pictures there were."""
    pictures, report = picture_folder(dataset_dir), report_path(dataset_dir)
    stems = set(map(picture_stem, items)) if pictures.is_dir() else set()
    files = [file for file in pictures.iterdir() if file.name.partition(".")[0] in stems] if stems else []
    for file in files:
        file.unlink()
    if report.exists():
        entries = read_report(report)
        left = [entry for item, entry in entries.items() if item not in items]
        if len(left) < len(entries):
            write_report(report, left)
    return len(files)
