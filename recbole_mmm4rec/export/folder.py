"""The exported folder: each file made once, all of them under its name when all are there.

What is done lies in ``.NAME.part`` beside it until then, so that a command that was killed goes on with the next file.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file, whole_file
from recbole_mmm4rec.base.json_lines import check_fields, is_table, read_line
from recbole_mmm4rec.base.locks import alone
from recbole_mmm4rec.export import index as indexes
from recbole_mmm4rec.export.histories import real_histories, real_items
from recbole_mmm4rec.export.onnx_files import Histories, write_item_tower, write_user_tower
from recbole_mmm4rec.export.report import readme, report
from recbole_mmm4rec.model_folder.manifest import look_at, versions
from recbole_mmm4rec.model_folder.write import staying
from recbole_mmm4rec.recommend.recommender import Recommender

FORMAT = 1
"""Raised when a folder is used in another way than before."""
MANIFEST = "manifest.json"
ITEMS, USER_TOWER, ITEM_TOWER = "items.json", "user_tower.onnx", "item_tower.onnx"
_PACKAGES = ("recbole-mmm4rec", "torch", "onnx", "onnxscript", "onnxruntime", "faiss-cpu")


def index_file(kind: str) -> str:
    """The name of an index."""
    return f"index_{kind}.faiss"


@dataclass(frozen=True)
class Exported:
    """What an export has left.

    Attributes:
        folder: where it lies.
        differences: file to the largest difference between ONNX Runtime and PyTorch.
        measured: what was seen of each index.
        neighbours: whether the model adds neighbours to its scores, which is not part of an export.
    """

    folder: Path
    differences: dict[str, float]
    measured: list[indexes.Measured]
    neighbours: bool


def export(
    model: str | Path,
    output: str | Path | None = None,
    *,
    onnx: bool = True,
    kinds: Sequence[str] = tuple(indexes.KINDS),
    force: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Write a model folder's towers and indexes.

    Args:
        model: the model folder.
        output: the folder to write, ``export`` inside the model folder by default.
        onnx: whether to write the towers.
        kinds: of index to write.
        force: replace an export that is there.
        tell: is told of each file.

    Raises:
        UserError: a model folder that cannot be read, an output that is there or cannot be written, or towers that
            differ from PyTorch's.
    """
    target = Path(os.path.realpath(output if output is not None else Path(model) / "export"))  # a link stays one
    look_at(model)
    _check_target(target, force)
    work = target.with_name(f".{target.name}.part")
    with _unchanged(Path(model), target), alone(work, "export", f"--output {target}"):
        recommender = Recommender.load(model)
        _check_target(target, force)
        job = {
            "model": hash_file(recommender.content.path / "manifest.json"),
            "onnx": onnx,
            "kinds": list(kinds),
            "versions": versions(_PACKAGES),
        }
        steps = _Steps(work, job, tell)
        maker = _Maker(recommender, steps.files)
        steps.run(ITEMS, maker.items)
        if onnx:
            steps.run(USER_TOWER, maker.user_tower)
            steps.run(ITEM_TOWER, maker.item_tower)
        for kind in kinds:
            steps.run(index_file(kind), lambda kind=kind: maker.index(kind))  # type: ignore[misc]
        result = _result(target, steps, recommender.has_neighbours)
        _write_texts(recommender, result, steps.files, onnx)
        _write_manifest(recommender, job, steps.files)
        _put(steps.files, target, work)
    with suppress(OSError):
        work.rmdir()
    return result


def _unchanged(model: Path, target: Path) -> AbstractContextManager[None]:
    """Keep commands from changing a model folder that holds the export: they put another folder in its place."""
    return staying(model) if Path(os.path.realpath(model)) in target.parents else nullcontext()


def _check_target(target: Path, force: bool) -> None:
    """Refuse to overwrite what is no export, or is one and was not to be replaced."""
    if not target.exists():
        return
    if not force:
        raise UserError(f"--output {target}: is there already; --force replaces it, --output names another folder")
    try:
        known = "export" in read_line((target / MANIFEST).read_bytes())
    except (OSError, ValueError):
        known = False
    if not known:
        raise UserError(f"--output {target}: is no export, so --force does not replace it; name another folder")


class _Steps:
    """Files that are made one after another, and what was noted of each; those that are there are not made again.

    Args:
        work: folder of what is unfinished.
        job: what must be the same for files to count.
        tell: is told of each file.
    """

    def __init__(self, work: Path, job: dict[str, Any], tell: Callable[[str], None]) -> None:
        self.files, self._notes, self._tell = work / "files", work / "notes.json", tell
        self.notes: dict[str, Any] = {}
        try:
            found = read_line(self._notes.read_bytes())
            check_fields(found, {"notes": is_table, "job": is_table})
            self.notes = found["notes"] if found["job"] == job else {}
        except (OSError, ValueError):
            pass
        self._job = job
        if not self.notes:
            shutil.rmtree(self.files, ignore_errors=True)
        self.files.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, make: Callable[[], Any]) -> None:
        """Make a file, unless it is there, and note what ``make`` gives."""
        if name in self.notes and (self.files / name).is_file():
            self._tell(f"{name}: was there")
            return
        begin = time.perf_counter()
        self.notes[name] = make()
        with whole_file(self._notes) as file:
            file.write(json.dumps({"job": self._job, "notes": self.notes}).encode())
        self._tell(f"{name}: {time.perf_counter() - begin:.1f} s")


class _Maker:
    """Makes the files of one model.

    Args:
        recommender: the model.
        files: folder to write to.
    """

    def __init__(self, recommender: Recommender, files: Path) -> None:
        self._recommender, self._files = recommender, files

    @cached_property
    def _histories(self) -> Histories:
        return real_histories(self._recommender)

    @cached_property
    def _side(self) -> np.ndarray:
        """(I, D) float32, without padding."""
        side: np.ndarray = self._recommender.side.fused[1:].float().numpy()
        return np.ascontiguousarray(side)

    @cached_property
    def _queries(self) -> tuple[np.ndarray, np.ndarray]:
        """User vectors (Q, D), and the scores (Q, K) of the exact K best."""
        import faiss

        vectors = self._recommender.user_vectors
        made = [vectors(part.items, part.lengths, part.timestamps) for part in self._histories.parts()]
        queries = torch.cat(made).float().numpy()
        best = min(indexes.BEST, len(self._side))
        return queries, faiss.knn(queries, self._side, best, metric=faiss.METRIC_INNER_PRODUCT)[0]

    def items(self) -> None:
        """items.json: the ids in the order of their numbers."""
        with whole_file(self._files / ITEMS) as file:
            file.write(json.dumps(self._recommender.items.ids, ensure_ascii=False).encode())

    def user_tower(self) -> float:
        """user_tower.onnx; the largest difference."""
        tables = {name: table.float() for name, table in self._recommender.side.tables.items()}
        return write_user_tower(self._recommender.network, tables, self._histories, self._files / USER_TOWER)

    def item_tower(self) -> float:
        """item_tower.onnx; the largest difference."""
        network = self._recommender.network
        return write_item_tower(network, *real_items(network), self._files / ITEM_TOWER)

    def index(self, kind: str) -> dict[str, Any]:
        """An index; what was seen of it."""
        queries, exact = self._queries
        begin = time.perf_counter()
        index = indexes.build(kind, self._side, _bar)
        seconds = time.perf_counter() - begin
        # set with one half of the queries, seen with the other; of a single one, with that
        indexes.set_search(index, kind, queries[::2], exact[::2])
        other = slice(1, None, 2) if len(queries) > 1 else slice(None)
        seen = asdict(indexes.measure(index, kind, queries[other], exact[other], seconds))
        path = self._files / index_file(kind)
        indexes.write(index, path)
        return {**seen, "bytes": path.stat().st_size}


def _bar(name: str, count: int) -> Any:
    return tqdm(total=count, desc=name, unit=" items", disable=not sys.stderr.isatty())


def _result(target: Path, steps: _Steps, neighbours: bool) -> Exported:
    differences = {name: steps.notes[name] for name in (USER_TOWER, ITEM_TOWER) if name in steps.notes}
    names = map(index_file, indexes.KINDS)
    measured = [indexes.Measured(**steps.notes[name]) for name in names if name in steps.notes]
    return Exported(target, differences, measured, neighbours)


def _write_texts(recommender: Recommender, result: Exported, files: Path, onnx: bool) -> None:
    """README.md, report.md."""
    queries = len(real_histories(recommender).items)
    texts = {
        "README.md": readme(recommender, result.measured, onnx),
        "report.md": report(recommender, result.differences, result.measured, queries),
    }
    for name, text in texts.items():
        with whole_file(files / name) as file:
            file.write(text.encode())


def _write_manifest(recommender: Recommender, job: dict[str, Any], files: Path) -> None:
    """manifest.json: what the files were made of, and their bytes and hashes."""
    listed = {
        file.name: {"bytes": file.stat().st_size, "sha256": hash_file(file)}
        for file in sorted(files.iterdir())
        if file.name != MANIFEST
    }
    record = {
        "export": FORMAT,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": recommender.content.manifest["model"],
        "dataset": recommender.content.manifest["dataset"],
        "model_manifest": job["model"],
        "max_len": recommender.max_len,
        "modalities": list(recommender.modalities),
        "time": recommender.has_time,
        "neighbours_left_out": recommender.has_neighbours,
        "versions": job["versions"],
        "files": listed,
    }
    with whole_file(files / MANIFEST) as file:
        file.write((json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


def _put(files: Path, target: Path, work: Path) -> None:
    """Give the finished folder its name, and clear up."""
    aside = work / "before"
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        os.replace(target, aside)
    os.replace(files, target)
    shutil.rmtree(aside, ignore_errors=True)
    (work / "notes.json").unlink(missing_ok=True)
