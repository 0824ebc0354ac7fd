"""Feature stores as item features of RecBole's own models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.utils import data_preparation
from recbole.utils import FeatureType, get_model, init_seed
from tiny_data import ITEMS, NAME, make_config, rows_of, write_inter, write_items, write_vectors

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.dataset import MMM4RecDataset
from recbole_mmm4rec.plugin.stock_features import install_stock_item_features

install_stock_item_features()
install_stock_item_features()  # a second call must not wrap anything twice

MODELS = ["SASRecF", "FDSA", "GRU4RecF"]
SMALL = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "n_heads": 2, "embedding_size": 8}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_inter(tmp_path, rows_of([9, 5, 7, 4]))
    write_vectors(tmp_path, ITEMS, absent=["i2"])
    return tmp_path


def built(root: Path, model: str, **keys: Any) -> tuple[Any, Any, Any]:
    """The model, its data set, and one batch of training."""
    config = make_config(root, model, **{"selected_features": ["text"], **SMALL, **keys})
    init_seed(1, True)
    dataset = SequentialDataset(config)
    train, _, _ = data_preparation(config, dataset)
    return get_model(model)(config, dataset), dataset, next(iter(train))


@pytest.mark.parametrize("name", MODELS)
def test_stock_models_train_on_vectors(root: Path, name: str) -> None:
    model, _, batch = built(root, name, selected_features="[text]")  # as it comes from the command line
    model.calculate_loss(batch).backward()
    weight = model.feature_embed_layer.vector_projection["text"].weight
    assert weight.shape == (8, 6)
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", MODELS)
def test_other_vectors_give_other_scores(root: Path, name: str) -> None:
    model, _, batch = built(root, name)
    scores = model.eval().full_sort_predict(batch)
    write_vectors(root, ITEMS, seed=1)
    other, _, _ = built(root, name)
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(other.eval().full_sort_predict(batch), scores, atol=1e-6)
    write_vectors(root, ITEMS, absent=["i2"])
    same, _, _ = built(root, name)
    same.load_state_dict(model.state_dict())
    assert torch.equal(same.eval().full_sort_predict(batch), scores)


def test_vectors_are_projected_item_by_item(root: Path) -> None:
    model, dataset, batch = built(root, "FDSA")
    layer = model.feature_embed_layer
    _, dense = layer(None, batch["item_id_list"])
    vectors = torch.from_numpy(dataset.get_preload_weight("text"))
    expected = vectors[batch["item_id_list"]] @ layer.vector_projection["text"].weight.T
    assert dense["item"].shape == (*batch["item_id_list"].shape, 1, 8)
    assert torch.allclose(dense["item"][..., 0, :], expected, atol=1e-6)
    assert not dense["item"][batch["item_id_list"] == dataset.token2id("item_id", "i2")].any()


@pytest.mark.parametrize("name", MODELS)
def test_vectors_stand_beside_ordinary_features(root: Path, name: str) -> None:
    write_items(root, {item: f"word{number % 2}" for number, item in enumerate(ITEMS)})
    write_vectors(root, ITEMS, modality="image", dim=4)
    load_col = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "text"]}
    model, dataset, batch = built(root, name, selected_features=["text", "image"], load_col=load_col)
    assert dataset.field2type["text"] == FeatureType.TOKEN_SEQ  # the words: that column is loaded
    sparse, dense = model.feature_embed_layer(None, batch["item_id_list"])
    assert sparse["item"].shape[-2:] == dense["item"].shape[-2:] == (1, 8)
    assert model.calculate_loss(batch).isfinite()


def test_vectors_are_item_features_and_no_part_of_batches(root: Path) -> None:
    _, dataset, batch = built(root, "SASRecF")
    features = dataset.get_item_feature()
    assert features["text"].shape == (dataset.item_num, 6)
    assert not features["text"][0].any()
    assert np.array_equal(features["text"].numpy(), dataset.get_preload_weight("text"))
    assert dataset.num("text") == 1
    assert "text" not in batch


def test_the_same_items_are_candidates_for_every_model(root: Path) -> None:
    write_items(root, dict.fromkeys([*ITEMS, "i9"], "some words"))
    write_vectors(root, [*ITEMS, "i9"])
    load_items = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "text"]}
    for choice, count in (("interactions", 8), ("all", 11)):
        keys: dict[str, Any] = {"candidates": choice}
        datasets = [
            MMM4RecDataset(make_config(root, **keys)),
            SequentialDataset(make_config(root, **keys)),
            SequentialDataset(make_config(root, **keys, load_col=load_items)),
        ]
        assert [dataset.item_num for dataset in datasets] == [count] * 3
        tokens = [set(dataset.field2id_token["item_id"]) for dataset in datasets]
        assert tokens[0] == tokens[1] == tokens[2]


def test_models_without_selected_features_are_left_alone(root: Path) -> None:
    config = make_config(root, "SASRec")
    dataset = SequentialDataset(config)
    dataset.build()
    assert dataset.get_item_feature().columns == ["item_id"]
    with pytest.raises(ValueError, match="not in preload_weight"):
        dataset.get_preload_weight("image")


def test_selected_feature_that_does_not_exist(root: Path) -> None:
    config = make_config(root, "SASRecF", selected_features=["image"])
    with pytest.raises(UserError, match=r"selected_features: 'image' is neither .* \(text\); load it with load_col"):
        SequentialDataset(config)


def with_numbers(root: Path) -> dict[str, Any]:
    """Item columns of one number, of three, of another one and of a word; the settings that load them."""
    rows = [f"{item}\t{number / 4}\t{number} 1 2\t{number}\tb{number % 2}" for number, item in enumerate(ITEMS)]
    header = "item_id:token\tprice:float\tsizes:float_seq\tyear:float\tbrand:token"
    (root / NAME / f"{NAME}.item").write_text("\n".join([header, *rows]) + "\n")
    return {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": "*"}}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("selected", "numerical"),
    [
        (["price"], []),
        (["sizes"], []),
        (["sizes", "brand", "price"], []),
        (["price", "year"], ["price", "year"]),
        (["sizes", "price", "year", "brand"], ["price", "year", "sizes"]),
    ],
)
def test_columns_of_numbers_are_features(root: Path, name: str, selected: list[str], numerical: list[str]) -> None:
    """RecBole #2196, #1983 and #1554: an empty list of tensors, or shapes that do not fit."""
    keys = with_numbers(root)
    model, dataset, batch = built(root, name, selected_features=selected, numerical_features=numerical, **keys)
    model.calculate_loss(batch).backward()
    sparse, dense = model.feature_embed_layer(None, batch["item_id_list"])
    numbers = [field for field in selected if field != "brand"]
    assert dense["item"].shape == (*batch["item_id_list"].shape, len(numbers), 8)
    assert (sparse["item"] is not None) == ("brand" in selected)
    projected = getattr(model.feature_embed_layer, "vector_projection", {})
    assert list(projected) == [field for field in numbers if field not in numerical]
    for field, projection in projected.items():
        table = dataset.get_item_feature()[field].reshape(dataset.item_num, -1)
        place = list(projected).index(field) - len(projected)
        expected = table[batch["item_id_list"]] @ projection.weight.T
        assert torch.allclose(dense["item"][..., place, :], expected, atol=1e-5)


def test_each_numerical_feature_has_its_own_embedding(root: Path) -> None:
    selected = ["price", "year"]
    keys = with_numbers(root)
    model, dataset, batch = built(root, "FDSA", selected_features=selected, numerical_features=selected, **keys)
    layer = model.feature_embed_layer
    _, dense = layer(None, batch["item_id_list"])
    for place, field in enumerate(selected):
        value, bucket = dataset.get_item_feature()[field][batch["item_id_list"]].unbind(-1)
        weight = layer.float_embedding_table["item"].embedding.weight
        expected = value.unsqueeze(-1) * weight[bucket.long() + 2 * place]
        assert torch.allclose(dense["item"][..., place, :], expected)


def test_a_column_of_interactions_is_no_item_feature(root: Path) -> None:
    with pytest.raises(UserError, match="selected_features: 'timestamp' is neither a loaded column of"):
        SequentialDataset(make_config(root, "SASRecF", selected_features=["timestamp"]))
