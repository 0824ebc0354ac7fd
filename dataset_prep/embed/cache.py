"""Vectors by the content they were made from, in shard files that a killed run leaves finished.

``features/.cache/MODALITY/ENCODER_KEY/`` holds for each shard ``ID.npy`` (n, dim) float32, ``ID.keys`` (n keys of 32
bytes) and, if some inputs could not be used, ``ID.failed.json``. ``ID.keys`` is moved into its place last: a shard
without it is not there. The folder can be removed at any time; it only saves encoding again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dataset_prep.files.atomic import replace_file
from recbole_mmm4rec.base.arrays import read_array
from recbole_mmm4rec.base.json_lines import is_text, read_line, table_of

KEY_BYTES = 32
CHUNK_BYTES = 2**27  # gathered at a time: a shard is opened once for each piece


class VectorCache:
    """The cached vectors of one encoder with one group of settings.

    Args:
        folder: of this encoder and its settings; need not exist.
        dim: width of a vector.
    """

    def __init__(self, folder: Path, dim: int):
        self._folder, self._dim = folder, dim
        self._names: list[str] = []
        self._failed: dict[bytes, str] = {}
        self._keys = np.empty(0, dtype=f"S{KEY_BYTES}")  # sorted; NumPy leaves out NULs at the end on both sides
        self._places = np.empty((0, 2), dtype=np.int64)  # shard and row by sorted key
        self._read()

    def begin(self, afresh: bool) -> None:
        """Makes the folder ready.

        Args:
            afresh: forget what is there, unless an unfinished run that was told the same left it.
        """
        mark = self._folder / "afresh"
        if afresh and not mark.exists():
            self.remove()
            self._folder.mkdir(parents=True)
            mark.touch()
            self._read()
        self._folder.mkdir(parents=True, exist_ok=True)

    def finish(self) -> None:
        """Ends what :meth:`begin` began."""
        (self._folder / "afresh").unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes the folder."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Positions of the keys with neither a vector nor a failure, each different key once, in order."""
        found = self._find(keys)[0] if keys else np.empty(0, dtype=bool)
        first: dict[bytes, int] = {}
        for position in np.flatnonzero(~found).tolist():
            if keys[position] not in self._failed:
                first.setdefault(keys[position], position)
        return list(first.values())

    def failure(self, key: bytes) -> str | None:
        """Why an input gave no vector, or None."""
        return self._failed.get(key)

    def save(self, keys: Sequence[bytes], vectors: np.ndarray, failed: Mapping[bytes, str]) -> None:
        """Writes a shard.

        Args:
            keys: of the vectors.
            vectors: (len(keys), dim) float32.
            failed: reasons by the keys of inputs that gave no vector.
        """
        name = hashlib.sha256(b"".join([*keys, *failed])).hexdigest()[:32]
        if failed:
            reasons = {key.hex(): reason for key, reason in failed.items()}
            replace_file(self._folder / f"{name}.failed.json", [json.dumps(reasons, ensure_ascii=False)])
        part = self._folder / "shard.tmp"
        try:
            with part.open("wb") as handle:
                np.save(handle, np.ascontiguousarray(vectors, dtype=np.float32))
            os.replace(part, self._folder / f"{name}.npy")
            part.write_bytes(b"".join(keys))
            os.replace(part, self._folder / f"{name}.keys")
        finally:
            part.unlink(missing_ok=True)

    def reload(self) -> None:
        """Takes in the shards written since."""
        self._read()

    def vectors(self, keys: Sequence[bytes | None], dtype: str) -> Iterator[np.ndarray]:
        """Consecutive blocks of the vectors of ``keys``, zeros for None; a hundred megabytes in memory at a time."""
        size = max(1, CHUNK_BYTES // (4 * self._dim))
        for start in range(0, len(keys), size):
            part = keys[start : start + size]
            block = np.zeros((len(part), self._dim), dtype=np.float32)
            wanted = [row for row, key in enumerate(part) if key is not None]
            found, at = self._find([key for key in part if key is not None])
            assert found.all()  # the caller encoded what was missing
            places = self._places[at]
            rows = np.array(wanted, dtype=np.int64)
            for shard in np.unique(places[:, 0]):
                here = places[:, 0] == shard
                table = read_array(self._folder / f"{self._names[shard]}.npy", mapped=True)
                block[rows[here]] = table[places[here, 1]]
            with np.errstate(over="ignore"):  # told by the writer of the store
                yield block.astype(dtype)

    def _find(self, keys: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        wanted = np.array(keys, dtype=f"S{KEY_BYTES}")
        at = np.searchsorted(self._keys, wanted)
        if not len(self._keys):
            return np.zeros(len(keys), dtype=bool), at
        at = np.minimum(at, len(self._keys) - 1)
        return self._keys[at] == wanted, at

    def _read(self) -> None:
        self._names, self._failed = [], {}
        keys: list[np.ndarray] = []
        places: list[np.ndarray] = []
        for file in sorted(self._folder.glob("*.keys")):
            shard = self._read_keys(file)
            if shard is None:
                file.unlink()  # damaged: its inputs are encoded again
                continue
            number = np.full(len(shard), len(self._names), dtype=np.int64)
            places.append(np.stack([number, np.arange(len(shard))], axis=1))
            keys.append(shard)
            self._names.append(file.stem)
        if keys:
            every = np.concatenate(keys)
            order = np.argsort(every, kind="stable")
            self._keys, self._places = every[order], np.concatenate(places)[order]
        else:
            self._keys, self._places = self._keys[:0], self._places[:0]

    def _read_keys(self, file: Path) -> np.ndarray | None:
        try:
            table = read_array(file.with_suffix(".npy"), mapped=True)
            shard = np.frombuffer(file.read_bytes(), dtype=f"S{KEY_BYTES}")
            reasons = self._folder / f"{file.stem}.failed.json"
            failed = read_line(reasons.read_bytes()) if reasons.exists() else {}
            if table.shape != (len(shard), self._dim) or table.dtype != np.float32 or not table_of(is_text)(failed):
                return None
            self._failed.update((bytes.fromhex(key), reason) for key, reason in failed.items())
        except (OSError, ValueError):
            return None
        return shard
