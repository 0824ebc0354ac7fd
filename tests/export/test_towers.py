"""The towers as plain modules: what the network computes, for every setting that changes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from network.models import BOTH, make_batch, make_features, make_network, make_present, relative, small_config
from torch import Tensor

from recbole_mmm4rec.export.towers import ItemTower, UserTower
from recbole_mmm4rec.network.new_items import rows_of_nearest, side_of_new_items

CASES: list[dict[str, Any]] = [
    {},
    {"max_len": 8, "time_padding": "zero_stamp"},
    {"is_time": False, "n_groups": 6},
    {"num_layers": 2, "is_ffn": False},
    {"d_skip": "mamba", "p2p_residual": True, "n_groups": 1},
]
ABLATIONS: list[dict[str, Any]] = [{"ablation": part} for part in ("filter", "sharing", "alignment", "cross")]


@pytest.mark.parametrize(
    ("settings", "modalities"),
    [
        *((settings, names) for settings in CASES for names in (BOTH, ("text",), ("image",))),
        *((settings, BOTH) for settings in ABLATIONS),
    ],
)
def test_user_tower_is_the_network(settings: dict[str, Any], modalities: tuple[str, ...]) -> None:
    network = make_network(small_config(**settings), modalities, make_present(modalities))
    batch = make_batch(network.config.max_len)
    times = batch.timestamps if network.config.is_time else None
    with torch.no_grad():
        wanted = network.user_vectors(batch.item_seq, batch.lengths, times)
        found = UserTower(network)(batch.item_seq, batch.lengths, times, *network.items.tables().values())
    assert relative(found, wanted) < 1e-12


def test_what_stands_behind_a_history_is_not_read() -> None:
    network = make_network(small_config(), BOTH)
    batch, tables = make_batch(network.config.max_len), network.items.tables().values()
    padding = torch.arange(network.config.max_len) >= batch.lengths[:, None]
    with torch.no_grad():
        clean = UserTower(network)(*batch.args(), *tables)
        items, times = batch.item_seq.masked_fill(padding, 3), batch.timestamps.masked_fill(padding, 99)
        assert torch.equal(UserTower(network)(items, batch.lengths, times, *tables), clean)


def new_items(modalities: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Items that are not in the catalogue; some have nothing."""
    draw = torch.Generator().manual_seed(5)
    features = {m: torch.randn(30, t.shape[1], generator=draw).double() for m, t in make_features(modalities).items()}
    return features, {m: torch.rand(30, generator=draw) > 0.4 for m in modalities}


def in_order(features: dict[str, Tensor], present: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """As the tower takes them."""
    return tuple(part for name in features for part in (features[name], present[name]))


@pytest.mark.parametrize("modalities", [BOTH, ("text",), ("image",)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"item_mm_fusion": "dynamic_shared", "is_modality_bias": False}, {"item_mm_fusion": "dynamic_instance"}],
)
@pytest.mark.parametrize("complete", [False, True])
def test_item_tower_is_what_adding_items_does(
    settings: dict[str, Any], modalities: tuple[str, ...], complete: bool
) -> None:
    network = make_network(small_config(**settings), modalities, None if complete else make_present(modalities))
    features, present = new_items(modalities)
    tower = ItemTower(network)
    known = tuple(table for pair in tower.known.values() for table in pair)
    with torch.no_grad():
        wanted = side_of_new_items(network.items, features, present, rows_of_nearest(network.items, features, present))
        side, *rows = tower(in_order(features, present), known)
        alone = tower(tuple(part[8:9] for part in in_order(features, present)), known)[0]
    assert relative(side, wanted.fused) < 1e-6  # the likeness of features is taken in float32
    assert relative(alone, wanted.fused[8:9]) < 1e-6
    for name, row in zip(modalities, rows, strict=True):
        assert relative(row, wanted.tables[name]) < 1e-6


@pytest.mark.parametrize("present", [1, 5])
def test_item_tower_of_a_shop_with_few_pictures(present: int) -> None:
    mask = torch.arange(24) < present  # with one, padding's, no item has a picture
    network = make_network(small_config(), BOTH, {"text": torch.ones(24, dtype=torch.bool), "image": mask})
    features, masks = new_items(BOTH)
    tower = ItemTower(network)
    known = tuple(table for pair in tower.known.values() for table in pair)
    with torch.no_grad():
        wanted = side_of_new_items(network.items, features, masks, rows_of_nearest(network.items, features, masks))
        assert relative(tower(in_order(features, masks), known)[0], wanted.fused) < 1e-6


def test_without_ids_an_item_of_the_catalogue_is_as_a_new_one() -> None:
    network = make_network(small_config(is_modality_bias=False), BOTH, make_present(BOTH))
    features = {name: table.double() for name, table in make_features(BOTH).items()}
    with torch.no_grad():
        side = ItemTower(network)(in_order(features, make_present(BOTH)), ())[0]
        assert relative(side[1:], network.fused_items()[1:]) < 1e-12
