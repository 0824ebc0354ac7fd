"""Lists for all users of a file: written in parts that a kill leaves behind whole, and joined at the end."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import file_hash, whole_file
from recbole_mmm4rec.base.json_lines import check_fields, is_count, read_line
from recbole_mmm4rec.base.locks import alone
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.recommend.results import Recommendations
from recbole_mmm4rec.recommend.user_files import User, ending_of, read_users

SHOWN_AFTER = 1.0
"""Seconds after which a bar is shown; a mistake is told in the first of them."""
USERS = 2_000
"""Users of a part."""
_JOB = "job.json"
_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
        ("popular", pa.bool_()),
    ]
)
HEADER = _SCHEMA.names
_COUNTS = {"users": is_count, "popular": is_count, "unknown": is_count}


@dataclass(frozen=True)
class Done:
    """What was written.

    Attributes:
        users: of them lists were made.
        popular: of them so many have the shop's popular items.
        unknown: ids in histories that the shop does not have.
        kept: users whose lists an earlier, killed command had made.
        notes: what there is to say of all lists.
    """

    users: int
    popular: int
    unknown: int
    kept: int
    notes: tuple[str, ...] = ()


def recommend_file(
    recommender: Recommender,
    source: Path,
    target: Path,
    k: int = 10,
    show_progress: bool = True,
    **asked: Any,
) -> Done:
    """Recommend for all users of a file; the same call after a kill goes on after the last part that was written.

    Args:
        recommender: the model.
        source: see :func:`~.user_files.read_users`.
        target: ``.csv`` and ``.parquet``: a row a recommended item, :data:`HEADER`; ``.jsonl``: a line a user with
            ``items``, ``unknown``, ``popular`` and ``notes``. It appears when all of it is written.
        k: items of a list.
        show_progress: a bar.
        asked: as for :meth:`Recommender.recommend`.

    Raises:
        UserError: a file or an argument that cannot be used.
    """
    ending = ending_of(target, "--output")
    ending_of(source, "--input")
    if not source.is_file():
        raise UserError(f"--input {source}: there is no such file")
    if target.resolve() == source.resolve():
        raise UserError(f"--output {target}: is the input itself; name another file")
    if target.is_dir():
        raise UserError(f"--output {target}: is a folder; name a file")
    parts = target.with_name(f".{target.name}.parts")
    with alone(parts, "command with this output", f"--output {target}"):
        _claim(parts, {"input": file_hash(source), "model": _mark(recommender), "k": k, "asked": asked, "users": USERS})
        try:
            counts = _parts(recommender, source, parts, ending, k, show_progress, asked)
        except UserError:
            if not any(parts.glob("part-*")):  # nothing to go on from
                (parts / _JOB).unlink()
            raise
        _join(target, [parts / f"part-{number:06d}{ending}" for number in range(len(counts))], ending)
        for file in parts.iterdir():
            if file.name != ".lock":
                file.unlink()
    with suppress(OSError):  # an earlier command made it; not empty: the next one works there already
        parts.rmdir()
    _, notes = recommender.items.allowed(*(asked.get(name) for name in ("only", "exclude", "where")))
    total = {name: sum(count[name] for count in counts) for name in ("users", "popular", "unknown", "kept")}
    return Done(**total, notes=tuple(notes))


def _parts(
    recommender: Recommender, source: Path, parts: Path, ending: str, k: int, show_progress: bool, asked: dict[str, Any]
) -> list[dict[str, int]]:
    """Write the parts that are not there; what is counted in each."""
    counts: list[dict[str, int]] = []
    users = read_users(source)
    hidden = not show_progress
    with tqdm(desc="Recommending", unit=" users", ncols=100, disable=hidden, delay=SHOWN_AFTER) as bar:
        for number in itertools.count():
            some = list(itertools.islice(users, USERS))
            if not some and number:
                return counts
            file = parts / f"part-{number:06d}{ending}"
            count = _counted(file)
            if count is None:
                count = _write_part(file, some, _lists(recommender, some, k, asked))
            counts.append(count)
            bar.update(len(some))
    return counts


def _mark(recommender: Recommender) -> str:
    listed = json.dumps(recommender.content.manifest["files"], sort_keys=True)
    return hashlib.sha256(listed.encode()).hexdigest()


def _claim(parts: Path, job: Mapping[str, Any]) -> None:
    """Keep the parts of the same job, and remove those of another one."""
    text = json.dumps(job, sort_keys=True).encode()
    file = parts / _JOB
    if file.is_file() and file.read_bytes() == text:
        return
    for old in parts.iterdir():
        if old.name != ".lock":
            old.unlink()
    with whole_file(file) as out:
        out.write(text)


def _lists(recommender: Recommender, some: Sequence[User], k: int, asked: Mapping[str, Any]) -> list[Recommendations]:
    histories = [user.history for user in some]
    times = [user.times for user in some] if any(user.times is not None for user in some) else None
    if not histories:
        recommender.recommend([], k, **asked)  # so that arguments are looked at
        return []
    try:
        found: list[Recommendations] = recommender.recommend(histories, k, timestamps=times, **asked)
    except UserError as error:
        for user in some:  # which row it was
            if user.times is not None:
                _checked(recommender, user, k, asked, error)
        raise
    return found


def _checked(recommender: Recommender, user: User, k: int, asked: Mapping[str, Any], first: UserError) -> None:
    try:
        recommender.recommend(user.history, k, timestamps=user.times, **asked)
    except UserError as error:
        raise UserError(f"{user.place}: {error}") from None


def _write_part(file: Path, some: Sequence[User], lists: Sequence[Recommendations]) -> dict[str, int]:
    count = {
        "users": len(some),
        "popular": sum(found.popular for found in lists),
        "unknown": sum(len(found.unknown) for found in lists),
        "kept": 0,
    }
    with whole_file(file) as out:
        if file.suffix == ".parquet":
            pq.write_table(_table(some, lists), out)
        elif file.suffix == ".jsonl":
            out.writelines(_line(user, found) for user, found in zip(some, lists, strict=True))
        else:
            text = io.StringIO(newline="")
            csv.writer(text).writerows(_rows(some, lists))
            out.write(text.getvalue().encode())
    with whole_file(file.with_suffix(".json")) as out:  # the last: a part without it is made again
        out.write(json.dumps(count).encode())
    return count


def _counted(file: Path) -> dict[str, int] | None:
    """The counts of a part that an earlier command has written; None where it has not."""
    note = file.with_suffix(".json")
    if not (file.is_file() and note.is_file()):
        return None
    try:
        count = read_line(note.read_bytes())
        check_fields(count, _COUNTS)
    except ValueError:  # damaged since: the part is made again
        return None
    return {**{name: count[name] for name in _COUNTS}, "kept": count["users"]}


def _rows(some: Sequence[User], lists: Sequence[Recommendations]) -> Iterator[tuple[Any, ...]]:
    for user, found in zip(some, lists, strict=True):
        for rank, entry in enumerate(found.items, 1):
            yield user.name, rank, entry.item, f"{entry.score:.6g}", found.popular


def _line(user: User, found: Recommendations) -> bytes:
    items = [{"item": entry.item, "score": entry.score} for entry in found.items]
    record = {"user_id": user.name, "items": items, "unknown": found.unknown, "popular": found.popular}
    return json.dumps({**record, "notes": found.notes}, ensure_ascii=False).encode() + b"\n"


def _table(some: Sequence[User], lists: Sequence[Recommendations]) -> pa.Table:
    rows = [
        (user.name, rank, entry.item, entry.score, found.popular)
        for user, found in zip(some, lists, strict=True)
        for rank, entry in enumerate(found.items, 1)
    ]
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(HEADER)}, schema=_SCHEMA)


def _join(target: Path, parts: Sequence[Path], ending: str) -> None:
    with whole_file(target) as out:
        if ending == ".parquet":
            with pq.ParquetWriter(out, _SCHEMA) as writer:
                for part in parts:
                    writer.write_table(pq.read_table(part))
            return
        if ending == ".csv":
            out.write((",".join(HEADER) + "\r\n").encode())
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, out)
