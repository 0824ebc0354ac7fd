"""The feature store on disk: one frozen vector an item and modality, found by item token.

``DATASET_DIR/features/MODALITY/`` holds ``table.npy`` (rows, F), ``items.txt`` (one token a row), ``present.npy``
(rows,) and ``manifest.json``. It stands beside the atomic files, not in them: a binary table opens in milliseconds and
RecBole does not join it into every batch.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from recbole_mmm4rec.base.arrays import read_array
from recbole_mmm4rec.base.command_names import prepare
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.features.manifest import MODALITIES, Manifest
from recbole_mmm4rec.features.writer import aside, first_three, settle, write_store

__all__ = ["FeatureStore", "Manifest", "hash_inputs", "settle", "store_path", "write_store"]

T = TypeVar("T")

GATHER_ROWS = 8_192  # rows copied at a time, so that aligning never holds the table twice


def store_path(dataset_dir: str | Path, modality: str) -> Path:
    """The folder of a modality's store, ``DATASET_DIR/features/MODALITY``.

    Raises:
        UserError: ``modality`` is neither "text" nor "image".
    """
    if modality not in MODALITIES:
        raise UserError(f"unknown modality '{modality}': choose one of {', '.join(MODALITIES)}")
    return Path(dataset_dir) / "features" / modality


def hash_inputs(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 over (item token, input) pairs in their order; each string is preceded by its length in bytes."""
    digest = hashlib.sha256()
    for pair in pairs:
        for part in pair:
            data = part.encode()
            digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


class FeatureStore:
    """A modality's vectors, mapped from disk and checked.

    Attributes:
        path: the store's folder.
        manifest: what it holds.
        items: item tokens in row order.
        present: (rows,) bool; False where the item has no text or image (its row is zeros).
        table: (rows, F) float32 or float16, mapped read-only.
    """

    def __init__(self, path: Path, manifest: Manifest, items: list[str], present: np.ndarray, table: np.ndarray):
        self.path, self.manifest, self.items, self.present, self.table = path, manifest, items, present, table

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """Opens a store and checks every file against the manifest; the table's numbers are not read.

        Raises:
            UserError: a file is missing, cut off, or not what the manifest says; names it and the command that helps.
        """
        path = Path(path)
        # A run killed between the two renames of `write_store` leaves the older store aside, whole.
        folder = path if path.exists() or not aside(path).exists() else aside(path)
        manifest = _checked(folder / "manifest.json", path, _read_manifest)
        table = _checked(folder / "table.npy", path, lambda file: read_array(file, mapped=True), manifest)
        present = _checked(folder / "present.npy", path, read_array, manifest)
        items = _checked(folder / "items.txt", path, lambda file: _read_items(file, manifest), manifest)
        for name, array, shape, dtype in (
            ("table.npy", table, (manifest.rows, manifest.dim), manifest.dtype),
            ("present.npy", present, (manifest.rows,), "bool"),
        ):
            if array.shape != shape or array.dtype != dtype:
                found, said = f"{array.shape} {array.dtype}", f"{shape} {dtype}"
                raise UserError(f"{folder / name}: holds {found}, the manifest says {said}; {_remake(path, manifest)}")
        return cls(path, manifest, items, present, table)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row by item token, of every item; :meth:`align` does without it."""
        return {token: row for row, token in enumerate(self.items)}

    def align(self, tokens: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The vectors of ``tokens``, in their order.

        Args:
            tokens: item tokens; may repeat.

        Returns:
            (len(tokens), F) float32 vectors and (len(tokens),) bool, False where an item has none.

        Raises:
            UserError: tokens that the store lacks, or a needed row with NaN or infinite values.
        """
        rows = self.rows_of(tokens)
        out = np.empty((len(rows), self.manifest.dim), dtype=np.float32)
        self.read(rows, out)
        return out, np.asarray(self.present[rows])

    def find_rows(self, tokens: Sequence[str]) -> np.ndarray:
        """The rows of ``tokens``, (len(tokens),) int64, -1 where the store has none."""
        code, distinct = pd.factorize(np.array(tokens, dtype=object))
        # a table of these alone: a sample of a store of millions stays small
        found = pd.Index(distinct).get_indexer(pd.Index(self.items, dtype=object))
        listed = np.flatnonzero(found >= 0)
        row_of = np.full(len(distinct), -1, dtype=np.int64)
        row_of[found[listed]] = listed
        rows: np.ndarray = row_of[code]
        return rows

    def rows_of(self, tokens: Sequence[str]) -> np.ndarray:
        """The rows of ``tokens``, (len(tokens),) int64.

        Raises:
            UserError: tokens that the store lacks.
        """
        rows = self.find_rows(tokens)
        missing = [tokens[place] for place in np.flatnonzero(rows < 0)]
        if missing:
            raise UserError(
                f"{self.path}: {len(missing)} of {len(tokens)} items are not in it, first {first_three(missing)}; "
                f"the store of data set {self.manifest.dataset} has {len(self.items)} items; "
                f"{_remake(self.path, self.manifest)}"
            )
        return rows

    def read(self, rows: np.ndarray, out: np.ndarray | None = None) -> None:
        """Reads rows piece by piece, checks their numbers and copies them.

        Args:
            rows: (n,) int64 rows of the store; where one is -1 nothing is copied.
            out: (n, F) float32 or of the store's dtype, where they go; None to check them alone.

        Raises:
            UserError: NaN or infinite values; names the items.
        """
        order = np.argsort(rows, kind="stable")  # ascending rows: the mapped file is read front to back
        order = order[np.count_nonzero(rows < 0) :]
        bad: list[int] = []
        for start in range(0, len(order), GATHER_ROWS):
            at = order[start : start + GATHER_ROWS]
            block = self.table[rows[at]]
            bad.extend(rows[at[~np.isfinite(block.astype(np.float32)).all(axis=1)]].tolist())
            if out is not None:
                out[at] = block
        if bad:
            names = first_three([self.items[row] for row in bad])
            raise UserError(
                f"{self.path / 'table.npy'}: NaN or infinite values for {len(bad)} items, first {names}; "
                f"{_remake(self.path, self.manifest, force=True)}"
            )

    def check_inputs(self, tokens: Sequence[str], texts: Sequence[str]) -> None:
        """Makes sure that the vectors were made from these inputs; passes for vectors brought by the user.

        Args:
            tokens: item tokens in the order of the ``.item`` file.
            texts: their inputs.

        Raises:
            UserError: the inputs changed since.
        """
        if self.manifest.input_hash not in (None, hash_inputs(zip(tokens, texts, strict=True))):
            raise UserError(
                f"{self.path}: the {self.manifest.modality}s of {self.manifest.dataset}.item changed since the "
                f"embeddings were made; {_remake(self.path, self.manifest)}"
            )


def _checked(file: Path, path: Path, read: Callable[[Path], T], manifest: Manifest | None = None) -> T:
    try:
        return read(file)
    except FileNotFoundError:
        raise UserError(f"{file}: missing; {_remake(path, manifest)}") from None
    except UserError as error:
        raise UserError(f"{file}: {error}; {_remake(path, manifest)}") from None
    except PermissionError as error:  # nothing that making it again would mend
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: cannot be read ({str(error).splitlines()[0]}); {_remake(path, manifest)}") from None


def _read_manifest(file: Path) -> Manifest:
    return Manifest.from_json(file.read_text(encoding="utf-8"))


def _read_items(file: Path, manifest: Manifest) -> list[str]:
    data = file.read_bytes()
    items = data.decode().split("\n")[:-1]
    if len(items) != manifest.rows:
        raise UserError(f"has {len(items)} items, the manifest says {manifest.rows}")
    if len(set(items)) != len(items):
        raise UserError("names an item twice")
    if hashlib.sha256(data).hexdigest() != manifest.items_hash:
        raise UserError("does not have the items_hash of the manifest")
    return items


def _remake(path: Path, manifest: Manifest | None, force: bool = False) -> str:
    """What to do about a store; as it was made, where the manifest can be read."""
    options = ["--image-encoder"] if path.name == "image" else []
    options = options if manifest is None else options_of(manifest)
    if not options and manifest is not None:
        return (
            f"bring its vectors again with '{prepare('vectors', path.parent.parent, f'--{manifest.modality}', 'FILE')}'"
        )
    again = prepare("embed", path.parent.parent, *options, *(["--force"] if force else []))
    return f"make it again with '{again}'"


def options_of(manifest: Manifest) -> list[str]:
    """The options of ``prep embed`` that a store was made with, FILE for a checkpoint; none where it was brought."""
    settings = manifest.settings
    column = str(settings.get("column", "text"))
    if manifest.input_hash is None and not settings.keys() - {"column"}:
        return []
    kind, _, rest = manifest.encoder.partition(":")
    from_file = (kind == "timm" and manifest.encoder_version is None) or (kind == "open_clip" and "/" not in rest)
    options = [f"--{manifest.modality}-encoder", shlex.quote(manifest.encoder) + ("@FILE" if from_file else "")]
    for option, value, usual in (
        ("--column", column if manifest.modality == "text" else "text", "text"),
        ("--dtype", manifest.dtype, "float32"),
        ("--precision", settings.get("precision", "fp32"), "fp32"),
        ("--max-seq-length", settings.get("max_seq_length"), None),
    ):
        options += [option, shlex.quote(str(value))] if value != usual else []
    return [*options, *([] if manifest.normalized else ["--no-normalize"])]
