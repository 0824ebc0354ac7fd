"""A data set in RecBole's files made of a model folder and what came since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.table_files import read_rows
from recbole_mmm4rec.base.texts import check_id, clean_text
from recbole_mmm4rec.features.store import hash_inputs, write_store
from recbole_mmm4rec.model_folder.contents import OURS, Contents
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable, pieces
from recbole_mmm4rec.recommend.histories import LATEST


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


def trained_before(contents: Contents) -> dict[str, int]:
    """How many of a user's interactions, from the first on, the folder's model was trained on."""
    assert contents.interactions is not None
    users = contents.interactions["user_id"].cast(pa.string()).to_pylist()
    counts: dict[str, int] = {}
    for user, part in zip(users, contents.interactions["part"].to_pylist(), strict=True):
        counts[user] = counts.get(user, 0) + (part == 0)
    return counts


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
                made["input_hash"] = hash_inputs(zip(ids, texts, strict=True))
        _write_store(folder / "features" / modality, name, made, ids, contents.items[f"has_{modality}"], table)


def _sorted_lines(parts: list[Interactions]) -> Iterator[str]:
    users = np.array([user for part in parts for user in part.users], dtype=object)
    items = [item for part in parts for item in part.items]
    times = np.array([time for part in parts for time in part.times], dtype=np.int64)
    _, code = np.unique(users.astype(str), return_inverse=True)
    for row in np.lexsort((np.arange(len(users)), times, code)).tolist():
        yield f"{users[row]}\t{items[row]}\t{times[row]}\n"


def _item_lines(items: pa.Table) -> Iterator[str]:
    names = [name for name in items.column_names if name not in OURS and name != "item_id"]
    kinds = ["float" if pa.types.is_floating(items.schema.field(name).type) else "token" for name in names]
    heads = [f"{name}:{'token_seq' if name == 'text' else kind}" for name, kind in zip(names, kinds, strict=True)]
    yield "\t".join(["item_id:token", *heads]) + "\n"
    columns = [items[name].to_pylist() for name in ("item_id", *names)]
    for row in zip(*columns, strict=True):
        yield "\t".join("" if value is None else clean_text(str(value)) for value in row) + "\n"


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
