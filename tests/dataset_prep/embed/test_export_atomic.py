"""The exported atomic file, as RecBole itself loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from recbole.config import Config
from recbole.data import create_dataset

from dataset_prep.embed.export import config_lines, export_atomic
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.features.store import FeatureStore, store_path, write_store


def make_set(out: Path, dtype: str) -> None:
    folder = out / "shop"
    folder.mkdir()
    lines = [f"u{user}\ti{(user * step) % 9}\t{step}\n" for user in range(1, 9) for step in range(1, 7)]
    (folder / "shop.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(lines))
    generator = np.random.default_rng(3)
    for modality, dim in (("text", 4), ("image", 3)):
        table = (generator.standard_normal((9, dim)) * 10.0 ** generator.integers(-4, 4, (9, dim))).astype(dtype)
        write_store(
            store_path(folder, modality),
            modality=modality,
            encoder="random",
            encoder_hash=None,
            encoder_version=None,
            settings={},
            dim=dim,
            dtype=dtype,
            normalized=False,
            input_hash=None,
            dataset="shop",
            items=[f"i{n}" for n in range(9)],
            present=np.arange(9) != (4 if modality == "text" else 7),
            chunks=[table],
        )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_recbole_loads_the_rows_of_the_store(tmp_path: Path, dtype: str) -> None:
    make_set(tmp_path, dtype)
    said = export_atomic("shop", tmp_path, ["text", "image"])
    settings = yaml.safe_load(config_lines(["text", "image"]))
    assert config_lines(["text", "image"]) in said
    config = Config(
        model="SASRec",
        dataset="shop",
        config_dict={"data_path": str(tmp_path), "train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 5, **settings},
    )
    dataset = create_dataset(config)
    tokens = dataset.id2token("item_id", np.arange(1, dataset.item_num)).tolist()
    assert sorted(tokens) == [f"i{n}" for n in range(9)]
    for modality in ("text", "image"):
        weights = dataset.get_preload_weight(f"{modality}_id")
        vectors, present = FeatureStore.open(store_path(tmp_path / "shop", modality)).align(tokens)
        assert present.sum() == 8
        np.testing.assert_array_equal(np.asarray(weights[1:], dtype=np.float32), vectors)
        np.testing.assert_array_equal(weights[0], 0)


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    make_set(tmp_path, "float32")
    (store_path(tmp_path / "shop", "image") / "table.npy").unlink()
    with pytest.raises(UserError, match=r"table\.npy: missing; bring its vectors again with .* --image FILE'"):
        export_atomic("shop", tmp_path, ["image"])
    assert not (tmp_path / "shop/shop.imagefeat").exists()
