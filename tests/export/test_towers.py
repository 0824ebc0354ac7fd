"""The towers as plain modules: what the network computes, for every setting that changes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from network.models import BOTH, make_batch, make_features, make_network, make_present, relative, small_config

from recbole_mmm4rec.export.towers import ItemTower, UserTower
from recbole_mmm4rec.network.new_items import side_of_new_items

CASES: list[dict[str, Any]] = [
    {},
    {"max_len": 8, "time_padding": "zero_stamp"},
    {"is_time": False, "n_groups": 6},
    {"num_layers": 2, "is_ffn": False},
    {"d_skip": "mamba", "p2p_residual": True, "n_groups": 1},
]


@pytest.mark.parametrize("modalities", [BOTH, ("text",), ("image",)])
@pytest.mark.parametrize("settings", CASES)
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


@pytest.mark.parametrize("modalities", [BOTH, ("text",), ("image",)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"item_mm_fusion": "dynamic_shared", "id_dropout": 0.3}, {"item_mm_fusion": "dynamic_instance"}],
)
def test_item_tower_is_the_side_of_new_items(settings: dict[str, Any], modalities: tuple[str, ...]) -> None:
    network = make_network(small_config(**settings), modalities)
    features = {name: table[1:].double() for name, table in make_features(modalities).items()}
    present = {name: mask[1:] for name, mask in make_present(modalities).items()}  # some items have nothing
    given = [part for name in modalities for part in (features[name], present[name])]
    with torch.no_grad():
        wanted = side_of_new_items(network.items, features, present)
        side, *rows = ItemTower(network)(*given)
    assert relative(side, wanted.fused) < 1e-12
    for name, row in zip(modalities, rows, strict=True):
        assert relative(row, wanted.tables[name]) < 1e-12
    lone = [part[8:9] for part in given]
    assert relative(ItemTower(network)(*lone)[0], wanted.fused[8:9]) < 1e-12


def test_without_ids_an_item_of_the_catalogue_is_as_a_new_one() -> None:
    network = make_network(small_config(is_modality_bias=False), BOTH, make_present(BOTH))
    features, present = make_features(BOTH), make_present(BOTH)
    given = [part for name in BOTH for part in (features[name].double(), present[name])]
    with torch.no_grad():
        assert relative(ItemTower(network)(*given)[0][1:], network.fused_items()[1:]) < 1e-12
