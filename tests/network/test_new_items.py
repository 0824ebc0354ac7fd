"""Items known without their ID: what a training step leaves out, and items that come after the training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from network.models import BOTH, ITEMS, make_batch, make_features, make_network, make_present, small_config
from recbole_mmm4rec.losses.chunked import chunked_cross_entropy
from recbole_mmm4rec.losses.cross_entropies import full_cross_entropy
from recbole_mmm4rec.losses.objectives import FullCatalogue, InBatch, Sampled, training_shares
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.items import ItemTables
from recbole_mmm4rec.network.new_items import side_of_new_items, stand_ins

HIDDEN = torch.arange(ITEMS + 1) % 3 == 1
LABELS = torch.tensor([1, ITEMS, 7, 7, 4, 12, 3, 10])
BARE = {"embedding_drop_prob": 0.0, "dropout_prob": 0.0, "time_dropout_prob": 0.0}


def with_and_without(**changes: Any) -> tuple[MMM4RecNetwork, MMM4RecNetwork]:
    """A network in training that hides some IDs, and one whose tables hold the stand-ins at those rows."""
    hiding = make_network(small_config(id_dropout=0.3, **BARE, **changes), present=make_present()).train()
    plain = make_network(small_config(**BARE, **changes), present=make_present()).train()
    state = hiding.state_dict()
    for name in BOTH:
        state[f"items.bias.{name}"] = torch.where(
            HIDDEN.unsqueeze(1), state.pop(f"items.stand_in.{name}"), state[f"items.bias.{name}"]
        )
    plain.load_state_dict(state)
    hiding.items.hidden = HIDDEN
    return hiding, plain


def gradients(network: MMM4RecNetwork) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad.to_dense()
        for name, value in network.named_parameters()
    }


OBJECTIVES = {
    "at-once": FullCatalogue(0.1, 0),
    "in-chunks": FullCatalogue(0.1, 5),
    "in-batch": InBatch(False),
    "sampled": Sampled(9, 0.1, training_shares(LABELS, ITEMS + 1).double()),
}


@pytest.mark.parametrize("fusion", ["static", "dynamic_instance"])
@pytest.mark.parametrize("row_wise", [False, True], ids=["dense", "row-wise"])
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_hidden_id_is_the_stand_in_everywhere(objective: Any, row_wise: bool, fusion: str) -> None:
    """As history and as candidate; the gradient of its row goes to the stand-in."""
    batch, results = make_batch(9), []
    for network in with_and_without(item_mm_fusion=fusion):
        torch.manual_seed(4)  # the same drawn candidates
        network.items.row_wise = row_wise

        def encode(tables: Any, network: MMM4RecNetwork = network) -> Tensor:
            return network.user_vectors(*batch.args(), tables)

        loss = objective(network.items, encode, LABELS)
        loss.backward()
        results.append((loss.detach(), gradients(network)))
    (found, ours), (wanted, theirs) = results
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    for name in BOTH:
        table, stand_in = theirs.pop(f"items.bias.{name}"), ours.pop(f"items.stand_in.{name}")
        torch.testing.assert_close(stand_in, table[HIDDEN].sum(0), rtol=1e-9, atol=1e-12)
        kept = ours.pop(f"items.bias.{name}")
        assert not kept[HIDDEN].any()
        torch.testing.assert_close(kept[~HIDDEN], table[~HIDDEN], rtol=1e-9, atol=1e-12)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-12)


def test_what_is_hidden_is_drawn_for_each_step_alone() -> None:
    items = make_network(small_config(id_dropout=0.25)).items.train()
    drawn = []
    for _ in range(300):
        items.hide_ids()
        assert items.hidden is not None
        drawn.append(items.hidden)
    share = torch.stack(drawn).double().mean()
    assert 0.22 < float(share) < 0.28
    assert not torch.equal(drawn[0], drawn[1])


def test_an_evaluation_hides_nothing() -> None:
    network = make_network(small_config(id_dropout=0.9))
    wanted = network(*make_batch(9).args())
    network.items.train().hide_ids()
    network.eval()
    assert torch.equal(network(*make_batch(9).args()), wanted)
    network.items.hide_ids()
    assert network.items.hidden is None


@pytest.mark.parametrize("changes", [{}, {"id_dropout": 0.5, "is_modality_bias": False}], ids=["off", "without-id"])
def test_without_it_nothing_is_drawn_and_no_parameter_is_there(changes: dict[str, Any]) -> None:
    network = make_network(small_config(**changes)).train()
    before = torch.get_rng_state()
    network.items.hide_ids()
    assert network.items.hidden is None
    assert torch.equal(torch.get_rng_state(), before)
    assert not [name for name, _ in network.named_parameters() if "stand_in" in name]


def test_the_hidden_items_of_a_loss_in_chunks_are_those_of_its_backward_pass() -> None:
    """A gradient that were taken under another draw would not be the slope."""
    items = make_network(small_config(id_dropout=0.5)).items.train()
    users = torch.randn(len(LABELS), 12, dtype=torch.float64, requires_grad=True)
    items.hide_ids()
    chunked_cross_entropy(users, items, LABELS, 7).backward()
    found = {name: value.grad for name, value in items.named_parameters()}
    items.zero_grad()
    full_cross_entropy(users, items.fused(items.tables()), LABELS).backward()
    for name, value in items.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-9, atol=1e-12)


# Items that come after the training.


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
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_new_items_are_scored_as_if_they_had_been_there(dropout: float, fusion: str) -> None:
    """Items 12 … 23, among them some without text, picture or either, beside a network that has them all."""
    known = 11
    network = make_network(small_config(id_dropout=dropout, item_mm_fusion=fusion), present=make_present())
    with torch.no_grad():
        for name, table in network.items.bias.items():
            table[known + 1 :] = network.items.stand_in[name] if dropout else 0
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


def test_given_rows_take_the_place_of_the_stand_in() -> None:
    items = make_network(small_config(id_dropout=0.3)).items
    features = {name: table[1:] for name, table in make_features().items()}
    rows = {name: table.detach()[1:] for name, table in items.bias.items()}
    side = side_of_new_items(items, features, ids=rows)
    torch.testing.assert_close(side.fused, items.side().fused[1:], rtol=1e-12, atol=1e-12)
    assert {name: row.shape for name, row in stand_ins(items).items()} == dict.fromkeys(BOTH, (12,))
