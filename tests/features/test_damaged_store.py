"""A damaged feature store: one line that names the file, whatever was done to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import any_input
import numpy as np
import pytest
from any_input import few, told
from hypothesis import given
from hypothesis import strategies as st
from mutate import changed, damaged

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.features.manifest import Manifest
from recbole_mmm4rec.features.store import FeatureStore, write_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "shop/features/text"
    write_store(
        path,
        modality="text",
        encoder="e",
        encoder_hash=None,
        encoder_version=None,
        settings={"column": "text"},
        dim=3,
        dtype="float32",
        normalized=False,
        input_hash=None,
        dataset="shop",
        items=list("abcd"),
        present=np.array([True, True, False, True]),
        chunks=[np.arange(12, dtype=np.float32).reshape(4, 3)],
    )
    return path


@pytest.mark.parametrize("name", ["table.npy", "present.npy", "items.txt", "manifest.json"])
def test_no_damage_ends_in_another_error(store: Path, name: str) -> None:
    file = store / name
    whole = file.read_bytes()
    contents = [content + whole[140:] for content in damaged(whole[:140], 8, 120)]
    if name == "manifest.json":
        contents += [text.encode("utf-8", "surrogatepass") for text in changed(json.loads(whole), 9, 200)]
    refused: list[str] = []
    for content in contents:
        file.write_bytes(content)
        try:
            found, present = FeatureStore.open(store).align(list("abcd"))
            assert found.shape == (4, 3)
            assert present.shape == (4,)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all(str(store) in line and "\n" not in line for line in refused)


@few
@given(data=st.data())
def test_any_manifest(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = {
        "format": 1,
        "modality": "text",
        "encoder": "e",
        "encoder_hash": None,
        "encoder_version": None,
        "settings": {},
        "rows": 4,
        "dim": 3,
        "dtype": "float32",
        "normalized": False,
        "input_hash": None,
        "items_hash": "",
        "dataset": "shop",
    }
    Manifest.from_json(json.dumps(whole))
    told(lambda: Manifest.from_json(json.dumps(data.draw(any_input.changed(whole)))))


@pytest.mark.parametrize(
    ("changes", "way_out"),
    [
        ({}, "bring its vectors again with '.* vectors shop .*--text FILE'"),
        ({"input_hash": "a"}, "make it again with '.* embed shop .*--text-encoder e --no-normalize'"),
        (
            {"settings": {"column": "title", "max_seq_length": 9}, "dtype": "float16", "normalized": True},
            "--text-encoder e --column title --dtype float16 --max-seq-length 9'",
        ),
        ({"encoder": "open_clip:a b/c", "settings": {"precision": "bf16"}}, "'open_clip:a b/c' --precision bf16"),
        ({"encoder": "timm:vit", "settings": {"input_size": [3, 9, 9]}}, "--text-encoder timm:vit@FILE"),
        ({"encoder": "open_clip:vit", "settings": {"context_length": 9}}, "--text-encoder open_clip:vit@FILE"),
    ],
)
def test_the_way_out_makes_the_same_store(store: Path, changes: dict[str, Any], way_out: str) -> None:
    """Not one of the default encoder, with which no checkpoint of the set would go on."""
    told = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps({**told, **changes}))
    (store / "table.npy").unlink()
    with pytest.raises(UserError, match=way_out):
        FeatureStore.open(store)
