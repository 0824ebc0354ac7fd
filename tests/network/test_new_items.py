"""Items that come after the training."""

from __future__ import annotations

import pytest
import torch

from network.models import BOTH, ITEMS, make_features, make_network, make_present, small_config
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.items import ItemTables
from recbole_mmm4rec.network.new_items import side_of_new_items


def cut(network: MMM4RecNetwork, known: int) -> ItemTables:
    """The same item side without the items above ``known``."""
    features = {name: table[: known + 1] for name, table in make_features().items()}
    present = {name: mask[: known + 1] for name, mask in make_present().items()}
    items = ItemTables(network.config, features, present).double().eval()
    with torch.no_grad():
        for name, value in items.named_parameters():
            whole = network.items.get_parameter(name)
            value.copy_(whole if whole.shape == value.shape else whole[: known + 1])
    return items


@pytest.mark.parametrize("fusion", ["static", "dynamic_shared", "dynamic_instance"])
def test_new_items_are_scored_as_if_they_had_been_there(fusion: str) -> None:
    """Items 12 … 23, among them some without text, picture or either, beside a network that has them all."""
    known = 11
    network = make_network(small_config(item_mm_fusion=fusion), present=make_present())
    with torch.no_grad():
        for table in network.items.bias.values():
            table[known + 1 :] = 0
        if fusion == "dynamic_instance":
            fusion_weights = network.items.fusion
            fusion_weights[known + 1 :] = fusion_weights[1 : known + 1].mean(0)
    whole = network.items.side()
    features = {name: table[known + 1 :] for name, table in make_features().items()}
    present = {name: mask[known + 1 :] for name, mask in make_present().items()}
    side = side_of_new_items(cut(network, known), features, present)
    assert side.fused.shape == (ITEMS - known, 12)
    torch.testing.assert_close(side.fused, whole.fused[known + 1 :], rtol=1e-12, atol=1e-12)
    for name in BOTH:
        torch.testing.assert_close(side.tables[name], whole.tables[name][known + 1 :], rtol=1e-12, atol=1e-12)


def test_given_rows_take_the_place_of_nothing() -> None:
    items = make_network(small_config()).items
    features = {name: table[1:] for name, table in make_features().items()}
    rows = {name: table.detach()[1:] for name, table in items.bias.items()}
    side = side_of_new_items(items, features, ids=rows)
    torch.testing.assert_close(side.fused, items.side().fused[1:], rtol=1e-12, atol=1e-12)
