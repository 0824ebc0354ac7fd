"""A model folder that somebody has changed, its hashes made right again: each change is told in one line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from any_input import JSON, few, told
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder import layout
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.recommend.recommender import Recommender


def rehashed(folder: Path, name: str) -> None:
    """Note in the manifest what a file holds now."""
    file = folder / layout.MANIFEST
    record, data = json.loads(file.read_text()), (folder / name).read_bytes()
    record["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    file.write_text(json.dumps(record))


def read(folder: Path) -> None:
    """All of it."""
    recommender = Recommender.load(folder)
    recommender.recommend(["k01", "k02"], 3)
    recommender.content.contents()


def all_settings(path: Path) -> None:
    """What settings decide."""
    folder = Folder(path)
    folder.network()
    folder.counts()
    assert isinstance(folder.encoders, dict)
    assert isinstance(folder.metrics, dict)


def json_of(name: str, change: Callable[[Any], Any]) -> Callable[[Path], str]:
    def changed(folder: Path) -> str:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(found) or found))
        return name

    return changed


def table_of(name: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], str]:
    def changed(folder: Path) -> str:
        pq.write_table(change(pq.ParquetFile(folder / name).read()), folder / name)
        return name

    return changed


def tensors_of(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], str]:
    def changed(folder: Path) -> str:
        found = {key: value.clone() for key, value in load_file(folder / name).items()}
        change(found)
        save_file(found, folder / name)
        return name

    return changed


def without(found: dict[str, Any], name: str) -> None:
    """Leave one out."""
    del found[name]


def other(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    """A table with another column of a name."""
    return lambda table: table.set_column(table.schema.get_field_index(name), name, pa.array(values(table.num_rows)))


def first_is(name: str, number: int) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name][0] = number

    return change


CHANGES: list[tuple[Callable[[Path], str], str]] = [
    (json_of(layout.SETTINGS, lambda _: [1]), "it is no JSON object"),
    (json_of(layout.SETTINGS, lambda found: without(found, "network")), "it has no 'network'"),
    (json_of(layout.SETTINGS, lambda found: {**found, "modalities": ["text", "text"]}), "it has a wrong 'modalities'"),
    (json_of(layout.SETTINGS, lambda found: {**found, "neighbours": {}}), "it has no 'weight'"),
    (
        json_of(layout.SETTINGS, lambda found: found["network"].update(num_layers=10**9)),
        "it has a wrong 'num_layers': 1000000000",  # which would be built for days
    ),
    (json_of(layout.SETTINGS, lambda found: found["network"].update(hidden_size=24)), "the shape"),
    (json_of(layout.ENCODERS, lambda found: {**found, "text": {"encoder": 1}}), "it has no 'modality'"),
    (json_of(layout.METRICS, lambda found: {**found, "test": {"hit@10": 1}}), "it has a wrong 'test'"),
    (table_of(layout.ITEMS, lambda table: table.drop_columns(["has_text"])), "it has no column 'has_text' of bool"),
    (
        table_of(layout.ITEMS, lambda table: table.append_column("text", table["text"])),
        "no column 'text' of string, or",
    ),
    (table_of(layout.ITEMS, lambda table: table.slice(0, 0)), "it has no item, or an item twice"),
    (table_of(layout.ITEMS, other("popularity", lambda n: [None] * n)), "no column 'popularity' of int64"),
    (table_of(layout.ITEMS, other("category", lambda n: [[1]] * n)), "a column 'category' of list"),
    (table_of(layout.ITEMS, lambda table: table.slice(1)), "other pictures than the items"),
    (table_of(layout.INTERACTIONS, other("item", lambda n: [10**6] * n)), "no column 'item' of int32"),
    (
        table_of(layout.INTERACTIONS, other("item", lambda n: pa.array([99] * n, pa.int32()))),
        "it has a wrong 'item': from 99 to 99",
    ),
    (
        tensors_of(layout.WEIGHTS, lambda found: without(found, "items.fusion")),
        "it has other tensors than the network",
    ),
    (
        tensors_of(layout.WEIGHTS, lambda found: found.update({"items.fusion": torch.ones(7)})),
        "'items.fusion' of the shape",
    ),
    (tensors_of(layout.WEIGHTS, lambda found: found.update({"items.fusion": torch.ones(2).long()})), "torch.int64"),
    (tensors_of(layout.SIDE, lambda found: without(found, "fused")), "it has no tensor 'fused'"),
    (tensors_of(layout.features("text"), lambda found: found.clear()), "it has no tensor 'values'"),
    # what lies outside of the counts would be read as it stands in memory
    (tensors_of(layout.NEIGHBOURS, first_is("indices", 10**6)), "numbers of no item in 'indices'"),
    (tensors_of(layout.NEIGHBOURS, first_is("indptr", 5)), "wrong places in 'indptr'"),
    (tensors_of(layout.NEIGHBOURS, first_is("pairs.earlier", -1)), "numbers of no item in 'pairs.earlier'"),
    (tensors_of(layout.NEIGHBOURS, first_is("targets", -1)), "a negative count in 'targets'"),
    (tensors_of(layout.NEIGHBOURS, lambda found: without(found, "data")), "no list of numbers 'data'"),
    (tensors_of(layout.NEIGHBOURS, lambda found: found.update(data=torch.ones(3))), "other 'data' than 'indices'"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=range(len(CHANGES)))
def test_what_is_not_as_it_is_written_is_told(folder_copy: Path, change: Any, said: str) -> None:
    name = change(folder_copy)
    rehashed(folder_copy, name)
    with pytest.raises(UserError) as caught:
        read(folder_copy)
    assert said in str(caught.value)
    assert str(folder_copy) in str(caught.value)


def test_pictures_that_are_none_of_the_items(folder_copy: Path) -> None:
    file = folder_copy / layout.PICTURES
    whole = file.read_bytes()
    for content, said in ((b"no Arrow", "cannot be read"), (whole[:-400] + b"\xff" * 400, "cannot be read")):
        file.write_bytes(content)
        rehashed(folder_copy, layout.PICTURES)
        with pytest.raises(UserError, match=said):
            Folder(folder_copy).pictures()
    few_pictures = pa.table({"picture": pa.array([b"x"], pa.large_binary())})
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, few_pictures.schema) as writer:
        writer.write_table(few_pictures)
    rehashed(folder_copy, layout.PICTURES)
    with pytest.raises(UserError, match="other pictures than the items"):
        Folder(folder_copy).pictures()


def test_a_manifest_that_names_what_no_file_can_be_called(folder_copy: Path) -> None:
    file = folder_copy / layout.MANIFEST
    record = json.loads(file.read_text())
    record["files"]["x" * 1_000] = {"bytes": 1, "sha256": ""}
    file.write_text(json.dumps(record))
    with pytest.raises(UserError, match="missing; copy the model folder again"):
        Folder(folder_copy)


@pytest.fixture(scope="module")
def changing(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import shutil

    return Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("any") / "model"))


@few
@given(data=st.data(), name=st.sampled_from([layout.SETTINGS, layout.ENCODERS, layout.METRICS]))
def test_any_json_in_a_folder(changing: Path, data: st.DataObject, name: str) -> None:
    file = changing / name
    whole = file.read_bytes()
    record = json.loads(whole)
    part = record[data.draw(st.sampled_from(sorted(record)))]
    place = part if isinstance(part, dict) and part and data.draw(st.booleans()) else record
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    try:
        file.write_text(json.dumps(record))
        rehashed(changing, name)
        told(lambda: all_settings(changing))
    finally:
        file.write_bytes(whole)
        rehashed(changing, name)
