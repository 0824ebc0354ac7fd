"""``vectors``: one's own vectors of texts and pictures, put into the feature stores."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset_prep.files.arguments import add_set
from dataset_prep.files.set_files import SetFiles
from dataset_prep.vectors.files import Brought, read_vectors
from dataset_prep.vectors.order import read_order, rows_by_number
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.features.store import store_path, write_store
from recbole_mmm4rec.features.writer import first_three

BLOCK_ROWS = 8_192  # copied at a time

EPILOG = """files:
  .npy, .npz, .pt, .safetensors    a table (items, numbers), with ids beside it (ids), or a vector by id
  .parquet                         a column of ids (item_id) and one of lists, or of numbers
  RecBole's atomic layout          a token and a float_seq column, as embed --export-atomic writes it
  .feat1CLS                        float32 numbers alone, as UniSRec writes them

A file without ids: row N is item N; else --ids says which item a row is.

examples:
  %(prog)s baby --text text_feat.npy --image image_feat.npy --ids i_id_mapping.csv
  %(prog)s shop --text mine.parquet --text-encoder my-model
"""


@dataclass(frozen=True)
class Own:
    """Vectors of one modality.

    Attributes:
        modality: "text" or "image".
        file: of the vectors.
        encoder: what made them; None where nobody says.
    """

    modality: str
    file: Path
    encoder: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``vectors`` is told."""
    parser.description = "Puts vectors that you have into the feature stores; items without one count as absent."
    parser.epilog = EPILOG
    add_set(parser)
    parser.add_argument("--text", type=Path, metavar="FILE", help="vectors of texts")
    parser.add_argument("--image", type=Path, metavar="FILE", help="vectors of pictures")
    parser.add_argument(
        "--ids", type=Path, metavar="FILE", help="item ids in the order of rows, or each with the number of its row"
    )
    for modality in ("text", "image"):
        parser.add_argument(
            f"--{modality}-encoder",
            metavar="NAME",
            help=f"what made the {modality} vectors: sets with the same name can be merged and transferred",
        )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    given = vars(arguments)
    for m in ("text", "image"):
        if given[f"{m}_encoder"] is not None and given[m] is None:
            said = f"--{m}-encoder {given[f'{m}_encoder']}: there are no {m} vectors"
            raise UserError(f"{said}; add --{m} FILE, or leave it out")
    own = [Own(m, given[m], given[f"{m}_encoder"]) for m in ("text", "image") if given[m] is not None]
    return bring_vectors(arguments.name, arguments.out, own, arguments.ids)


def bring_vectors(name: str, out: Path, own: Sequence[Own], ids: Path | None = None) -> str:
    """Writes the feature stores of a data set from vectors that somebody has.

    Args:
        name: of the data set.
        out: folder of data sets.
        own: the vectors, at most one file for each modality.
        ids: says which item a row is, for files that do not.

    Returns:
        What was done, for the screen.

    Raises:
        UserError: no such data set or file, vectors that cannot be used, ids twice or none of the set's.
    """
    if not own:
        raise UserError("vectors: nothing to do; give --text FILE, --image FILE or both")
    files = SetFiles(name, out / name)
    if not files.folder.is_dir():
        raise UserError(f"{files.folder}: no such data set; see 'ls {out}', or --out")
    listed = files.tokens() if files.file("item").is_file() else []
    tokens = listed + sorted(files.interacted() - set(listed))
    if not tokens:
        raise UserError(f"{files.folder}: no item in {name}.item or {name}.inter; make the set first")
    order = None if ids is None else read_order(ids)
    found = [(one, *_with_ids(one.file, tokens, listed, order)) for one in own]
    if order is not None and all(how == "ids of the file" for *_, how in found):
        raise UserError(f"--ids {ids}: the file of vectors has ids of its own; leave --ids out")
    rows = [_rows_of(one.file, row_ids, tokens) for one, _, row_ids, _ in found]
    for (one, table, *_), row in zip(found, rows, strict=True):  # all of it before anything is written
        _check_finite(one.file, table, row, tokens)
    return "\n".join(
        _write(files, one, table, how, tokens, row) for (one, table, _, how), row in zip(found, rows, strict=True)
    )


def _with_ids(
    file: Path, tokens: Sequence[str], listed: Sequence[str], order: Sequence[str] | None
) -> tuple[np.ndarray, list[str], str]:
    """The vectors of a file, the ids of its rows, and where these are from."""
    brought = read_vectors(file)
    if brought.ids is not None:
        if len(brought.ids) != len(brought.table):
            raise UserError(f"{file}: has {len(brought.table):,} rows and {len(brought.ids):,} ids")
        return brought.table, brought.ids, "ids of the file"
    table = _shaped(file, brought, len(tokens if order is None else order))
    if order is not None:
        if len(table) != len(order):
            said = f"has {len(table):,} rows, --ids names {len(order):,} items"
            raise UserError(f"{file}: {said}; give the list of its rows")
        return table, list(order), "ids by --ids"
    try:
        return table, *rows_by_number(tokens, len(table), listed)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _shaped(file: Path, brought: Brought, items: int) -> np.ndarray:
    """The table; of numbers alone the width follows from how many items there are."""
    if not brought.raw:
        return brought.table
    width, rest = divmod(len(brought.table), items)
    if rest or not width:
        raise UserError(f"{file}: {len(brought.table):,} numbers alone are no vectors of {items:,} items; see --ids")
    return brought.table.reshape(items, width)


def _rows_of(file: Path, ids: Sequence[str], tokens: Sequence[str]) -> np.ndarray:
    """(items,) int64: the row of each item, -1 where it has none."""
    row_of = {item: row for row, item in enumerate(ids)}
    if len(row_of) != len(ids):
        seen: set[str] = set()
        twice = [item for item in ids if item in seen or seen.add(item)]  # type: ignore[func-returns-value]
        raise UserError(f"{file}: {len(twice):,} ids are there twice, first {first_three(twice)}; keep one of each")
    rows = np.array([row_of.get(token, -1) for token in tokens], dtype=np.int64)
    if (rows < 0).all():
        said = f"has none of the set's items (there '{ids[0]}', here '{tokens[0]}')"
        raise UserError(f"{file}: {said}; write the ids alike")
    return rows


def _check_finite(file: Path, table: np.ndarray, rows: np.ndarray, tokens: Sequence[str]) -> None:
    bad: list[str] = []
    for start, block in zip(range(0, len(rows), BLOCK_ROWS), _blocks(table, rows), strict=True):
        with np.errstate(over="ignore"):
            finite = np.isfinite(block.astype(_dtype(table))).all(axis=1)
        bad += [tokens[start + row] for row in np.flatnonzero(~finite)]
    if bad:
        raise UserError(
            f"{file}: NaN, or values outside {_dtype(table)}, for {len(bad):,} items, first {first_three(bad)}; leave "
            "out what has no vector, its item counts as absent"
        )


def _dtype(table: np.ndarray) -> str:
    """Half precision stays half; anything else is single."""
    return "float16" if table.dtype.itemsize == 2 else "float32"


def _write(files: SetFiles, own: Own, table: np.ndarray, how: str, tokens: Sequence[str], rows: np.ndarray) -> str:
    present = rows >= 0
    path = store_path(files.folder, own.modality)
    write_store(
        path,
        modality=own.modality,
        encoder=own.encoder or f"vectors of {own.file.name}",
        encoder_hash=None if own.encoder else hash_file(own.file),
        encoder_version=None,
        settings={},
        dim=table.shape[1],
        dtype=_dtype(table),
        normalized=False,
        input_hash=None,
        dataset=files.name,
        items=tokens,
        present=present,
        chunks=_blocks(table, rows),
    )
    left_out = len(table) - int(present.sum())
    strangers = f"; {left_out:,} vectors of items that the set does not have left out" if left_out else ""
    share = f"{int(present.sum()):,} of {len(tokens):,} items have a vector"
    return f"{path}: {share}, {table.shape[1]} numbers each, from {own.file} ({how}){strangers}"


def _blocks(table: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK_ROWS):
        part = rows[start : start + BLOCK_ROWS]
        block = np.zeros((len(part), table.shape[1]), dtype=table.dtype)
        block[part >= 0] = table[part[part >= 0]]
        yield block
