"""A data set in RecBole's files made of a model folder and what came since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.table_files import read_rows
from recbole_mmm4rec.base.texts import check_id, clean_text
from recbole_mmm4rec.features.store import hash_inputs, write_store
from recbole_mmm4rec.model_folder.contents import OURS, Contents
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable, pieces
from recbole_mmm4rec.recommend.histories import LATEST

Row = tuple[str, str, int]
"""User, item and time."""
TRAINED = "trained"
"""A column of a folder's interactions whose update kept the old weights: those that they were trained to foretell."""


@dataclass(frozen=True)
class Interactions:
    """What users took, in any order.

    Attributes:
        users, items: ids.
        times: seconds.
    """

    users: list[str]
    items: list[str]
    times: list[int]

    def __len__(self) -> int:
        return len(self.items)


def read_interactions(path: Path, known: frozenset[str]) -> Interactions:
    """New interactions.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl`` (each also ``.gz``) or ``.parquet`` with ``user_id``, ``item_id`` and
            ``timestamp`` (seconds).
        known: ids of the items that the shop has.

    Raises:
        UserError: the file or a row cannot be read, or the shop does not have an item; names file and line.
    """
    made = Interactions([], [], [])
    for place, (user, item, stamp) in read_rows(path, ("user_id", "item_id", "timestamp")):
        check_id(user, "user_id", place)
        if item not in known:
            raise UserError(f"{place}: the shop does not have item {item!r}; give it with --items, or leave it out")
        made.users.append(user)
        made.items.append(item)
        made.times.append(_time(stamp, place))
    if not len(made):
        raise UserError(f"{path}: there is no interaction in it")
    return made


def _time(text: str, place: str) -> int:
    try:
        value = float(text)
        whole = int(value)
    except (ValueError, OverflowError):
        raise UserError(f"{place}: timestamp {text!r} is no number of seconds") from None
    if whole != value or whole < 0:
        raise UserError(f"{place}: timestamp {text!r} must be whole seconds, at least 0")
    if whole > LATEST:
        raise UserError(f"{place}: timestamp {text!r} looks like milliseconds; give seconds")
    return whole


def known_interactions(contents: Contents) -> Interactions:
    """Those that the folder holds."""
    table = contents.interactions
    if table is None:
        raise UserError(f"the model of {contents.dataset} was kept without its interactions, and cannot be updated")
    ids = contents.items["item_id"].to_pylist()
    return Interactions(
        table["user_id"].cast(pa.string()).to_pylist(),
        [ids[number - 1] for number in table["item"].to_pylist()],
        table["timestamp"].to_pylist(),
    )


def without_known(new: Interactions, old: Interactions) -> Interactions:
    """New interactions without those of the same user, item and time that are known, or stand there twice."""
    known = set(zip(old.users, old.items, old.times, strict=True))
    given = dict.fromkeys(zip(new.users, new.items, new.times, strict=True))
    left = [one for one in given if one not in known]
    return Interactions([one[0] for one in left], [one[1] for one in left], [one[2] for one in left])


def trained_before(contents: Contents) -> Counter[Row]:
    """The interactions that the folder's model was trained to foretell; a user's first one is none of them."""
    rows, table = _rows(contents), contents.interactions
    assert table is not None
    trained = table[TRAINED] if TRAINED in table.column_names else pc.equal(table["part"], 0)
    before = [None, *(user for user, _, _ in rows)]
    told = zip(rows, before, trained.to_pylist(), strict=False)
    return Counter(row for row, user, is_trained in told if is_trained and row[0] == user)


def are_trained(rows: Iterable[Row], trained: Counter[Row]) -> list[bool]:
    """Of each row whether it is one of ``trained``; of several that are alike the first ones are."""
    left, made = trained.copy(), []
    for row in rows:
        made.append(left[row] > 0)
        if made[-1]:
            left[row] -= 1
    return made


def with_trained(contents: Contents, trained: Counter[Row]) -> pa.Table:
    """The interactions with a column of those that are ``trained``, where the parts of the split do not tell it."""
    assert contents.interactions is not None
    return contents.interactions.append_column(TRAINED, pa.array(are_trained(_rows(contents), trained), pa.bool_()))


def _rows(contents: Contents) -> list[Row]:
    known = known_interactions(contents)
    return list(zip(known.users, known.items, known.times, strict=True))


def write_data_set(contents: Contents, parts: list[Interactions], folder: Path) -> None:
    """Write ``NAME.inter``, ``NAME.item`` and the feature stores.

    Args:
        contents: the model, with all items.
        parts: interactions, older ones first where times are equal.
        folder: ``data_path/NAME``.
    """
    name = folder.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.inter").open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        file.writelines(_sorted_lines(parts))
    with (folder / f"{name}.item").open("w", encoding="utf-8") as file:
        file.writelines(_item_lines(contents.items))
    ids, texts = contents.items["item_id"].to_pylist(), contents.items["text"].to_pylist()
    for modality, table in contents.network.items.features.items():
        made = dict(contents.encoders[modality])
        if modality == "text":
            made["settings"] = {**made["settings"], "column": "text"}
            if made["input_hash"] is not None:
                made["input_hash"] = hash_inputs(zip(ids, map(_written, texts), strict=True))
        _write_store(folder / "features" / modality, name, made, ids, contents.items[f"has_{modality}"], table)


def _sorted_lines(parts: list[Interactions]) -> Iterator[str]:
    users = [user for part in parts for user in part.users]
    items = [item for part in parts for item in part.items]
    times = np.array([time for part in parts for time in part.times], dtype=np.int64)
    code, _ = pd.factorize(np.array(users, dtype=object), sort=True)
    for row in np.lexsort((np.arange(len(users)), times, code)).tolist():
        yield f"{users[row]}\t{items[row]}\t{times[row]}\n"


def _item_lines(items: pa.Table) -> Iterator[str]:
    names = [name for name in items.column_names if name not in OURS and name != "item_id"]
    kinds = ["float" if pa.types.is_floating(items.schema.field(name).type) else "token" for name in names]
    heads = [f"{name}:{'token_seq' if name == 'text' else kind}" for name, kind in zip(names, kinds, strict=True)]
    yield "\t".join(["item_id:token", *heads]) + "\n"
    columns = [items[name].to_pylist() for name in ("item_id", *names)]
    for row in zip(*columns, strict=True):
        yield "\t".join(map(_written, row)) + "\n"


def _written(value: Any) -> str:
    """A field of the item file."""
    return "" if value is None else clean_text(str(value))


def _write_store(
    path: Path, name: str, made: Mapping[str, Any], ids: list[str], present: Any, table: FrozenTable
) -> None:
    """A feature store with the numbers of a model folder, which begin with a row for padding."""
    kept = ("encoder", "encoder_hash", "encoder_version", "settings", "dim", "dtype", "normalized", "input_hash")
    rows, width = table.shape
    write_store(
        path,
        modality=path.name,
        dataset=name,
        items=ids,
        present=np.asarray(present.to_numpy(), dtype=bool),
        chunks=(
            table.take(slice(piece.start + 1, piece.stop + 1)).cpu().numpy().astype(made["dtype"])
            for piece in pieces(rows - 1, width)
        ),
        **{key: made[key] for key in kept},
    )
