"""Feature stores in the order of internal ids, found, checked, and never pickled."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opening import replace_open
from tiny_data import (
    ITEMS,
    NAME,
    make_config,
    make_dataset,
    six_users,
    write_items,
    write_vectors,
)

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.dataset import MMM4RecDataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return six_users(tmp_path)


def test_tables_follow_internal_ids(root: Path) -> None:
    vectors = write_vectors(root, ITEMS[::-1], absent=["i2"])
    dataset = make_dataset(root)
    table, present = dataset.features["text"], dataset.present["text"]
    assert table.shape == (dataset.item_num, 6)
    assert table.dtype == torch.float32
    assert not table[0].any()
    assert not present[0]
    for number, token in enumerate(dataset.field2id_token["item_id"][1:], start=1):
        assert table[number].tolist() == vectors[ITEMS[::-1].index(token)].tolist()
        assert present[number].item() == (token != "i2")
    assert np.array_equal(dataset.get_preload_weight("text"), table.numpy())
    with pytest.raises(ValueError, match="not in preload_weight"):
        dataset.get_preload_weight("image")


def test_tables_are_shared_and_no_part_of_batches(root: Path) -> None:
    dataset = make_dataset(root)
    parts = dataset.build()
    assert dataset.item_feat is None
    assert set(parts[0][[0, 1]].columns) == {
        *("user_id", "item_id", "timestamp", "item_length", "item_id_list", "timestamp_list")
    }
    for other in (*parts, copy.deepcopy(dataset)):
        assert other.features["text"] is dataset.features["text"]


def test_a_pickle_holds_no_vectors_and_reads_them_again(root: Path) -> None:
    write_vectors(root, ITEMS, dim=20_000)
    dataset = make_dataset(root)
    saved = pickle.dumps(dataset)
    assert len(saved) < dataset.features["text"].nbytes / 4
    assert torch.equal(pickle.loads(saved).features["text"], dataset.features["text"])
    write_vectors(root, [*ITEMS, "i9"], dim=20_000)
    with pytest.raises(UserError, match="changed since the data set was saved"):
        pickle.loads(saved)
    (root / NAME / "features").rename(root / "elsewhere")
    with pytest.raises(UserError, match=r"manifest\.json: missing"):
        pickle.loads(saved)


def test_changed_texts_are_refused(root: Path) -> None:
    texts = {item: f"thing number {item}" for item in ITEMS}
    write_items(root, texts)
    write_vectors(root, ITEMS, texts=list(texts.values()))
    assert make_dataset(root).features.keys() == {"text"}
    write_items(root, {**texts, "i3": "another thing"})
    with pytest.raises(UserError, match="changed since the embeddings were made"):
        make_dataset(root)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, ["text", "image"]),
        ("auto", ["text", "image"]),
        (["image"], ["image"]),
        ("text", ["text"]),
        ("[text, image]", ["text", "image"]),
        (["image", "text"], ["text", "image"]),
    ],
)
def test_modalities(root: Path, wanted: Any, found: list[str]) -> None:
    write_vectors(root, ITEMS, modality="image", dim=4)
    assert list(make_dataset(root, modalities=wanted).features) == found


def test_feature_path_points_elsewhere(root: Path) -> None:
    expected = make_dataset(root).features["text"]
    (root / NAME / "features").rename(root / "vectors")
    found = make_dataset(root, feature_path=str(root / "vectors")).features["text"]
    assert torch.equal(found, expected)


def test_unusable_stores(root: Path) -> None:
    write_vectors(root, ITEMS, dataset="other")
    with pytest.raises(UserError, match="a store of data set 'other', not 'tiny'"):
        make_dataset(root)
    write_vectors(root, ["7", "8"])
    with pytest.raises(UserError, match=r"none of the 7 items .*those of the store like '7', '8'; write the ids alike"):
        make_dataset(root)
    write_vectors(root, ITEMS)
    table_file = root / NAME / "features" / "text" / "table.npy"
    table = np.load(table_file)
    table[2, 1] = np.nan
    np.save(table_file, table)
    with pytest.raises(UserError, match="NaN"):
        make_dataset(root)
    table_file.write_bytes(table_file.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"table\.npy"):
        make_dataset(root)


@pytest.mark.parametrize("features_in", ["memory", "mapped"])
def test_items_that_the_store_lacks_are_absent(root: Path, features_in: str, caplog: pytest.LogCaptureFixture) -> None:
    """As in shops whose interactions name items that no table describes, or whose histories are padded with an id."""
    vectors = write_vectors(root, ITEMS[:3], absent=["i1"])
    dataset = make_dataset(root, features_in=features_in)
    tokens = dataset.field2id_token["item_id"][1:].tolist()
    table = dataset.feature_tables.array("text")
    for number, token in enumerate(tokens, start=1):
        known = token in ("i0", "i2")
        assert bool(dataset.present["text"][number]) == known
        assert table[number].tolist() == (vectors[ITEMS.index(token)].tolist() if known else [0.0] * 6)
    said = [record.getMessage() for record in caplog.records if "are not in it" in record.getMessage()]
    assert len(said) == 1
    assert "4 of 7 items are not in it and count as items without text, first 'i" in said[0]


@pytest.mark.parametrize(
    "name", ["features/text", "features/text/manifest.json", "features/text/table.npy", "tiny.inter"]
)
def test_what_may_not_be_read_is_named(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for files without permission, which root may read all the same."""
    forbidden, config = root / NAME / name, make_config(root)
    opens, exists = io.open, Path.exists

    def refusing(function: Any) -> Any:
        def call(path: Any, *args: Any, **keys: Any) -> Any:
            if not isinstance(path, int) and Path(path) == forbidden:
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **keys)

        return call

    replace_open(monkeypatch, refusing(opens))
    monkeypatch.setattr(Path, "exists", refusing(exists))
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)$") as caught:
        MMM4RecDataset(config)
    assert str(caught.value).startswith(str(forbidden.parent if name == "features/text" else forbidden))
