"""What may stand beside a linear adapter: whitened features, further maps with a gate; and cosines as scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from network.models import ITEMS, make_batch, make_features, make_network, make_present, randomise, small_config
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.losses.chunked import chunked_cross_entropy
from recbole_mmm4rec.losses.cross_entropies import full_cross_entropy
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.adapters import SHRINKAGE, zca
from recbole_mmm4rec.network.ops.frozen import FrozenTable


def correlated(count: int = 400, width: int = 6) -> Tensor:
    """(count + 1, width) float64 whose directions vary by a factor of a thousand."""
    draw = torch.Generator().manual_seed(5)
    mixing = torch.randn(width, width, generator=draw, dtype=torch.float64)
    scales = torch.logspace(0, -3, width, dtype=torch.float64)
    return (torch.randn(count + 1, width, generator=draw, dtype=torch.float64) * scales) @ mixing + 3.0


def covariance(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    return centred.T @ centred / len(values)


def test_whitened_features_vary_alike_in_every_direction() -> None:
    table = correlated()
    present = torch.ones(len(table), dtype=torch.bool)
    present[300:] = False
    spoilt = table.clone()
    spoilt[0] = spoilt[300:] = 1e3  # what no item has
    centre, matrix = (part.double() for part in zca(FrozenTable(spoilt), present))
    real = table[1:300]
    found = covariance((real - centre) @ matrix)
    variances = torch.linalg.eigvalsh(covariance(real)).flip(0)
    level = variances.mean()
    expected = level * variances / (variances + SHRINKAGE * level)
    torch.testing.assert_close(torch.linalg.eigvalsh(found).flip(0), expected, rtol=1e-4, atol=1e-4 * float(level))
    assert (matrix - matrix.T).abs().max() < 1e-5 * matrix.abs().max()
    assert found.diagonal().sum() / covariance(real).diagonal().sum() < 1.0
    assert variances[0] / variances[2] > 10 > expected[0] / expected[2]


def test_one_item_has_nothing_to_be_whitened() -> None:
    _, matrix = zca(FrozenTable(torch.ones(2, 3)), torch.ones(2, dtype=torch.bool))
    assert torch.equal(matrix, torch.eye(3))


@pytest.mark.parametrize("experts", [1, 3])
@pytest.mark.parametrize("whitening", ["none", "zca"])
def test_the_vectors_are_the_formula(whitening: str, experts: int) -> None:
    network = make_network(small_config(whitening=whitening, adapter_experts=experts), present=make_present())
    items = network.items
    for rows in (slice(None), torch.tensor([3, 1, 3, 22])):
        for name, found in items.vectors(rows).items():
            values = make_features()[name].double()
            if whitening == "zca":
                # what is kept, is kept in single precision and was made double with the network
                values = (values - items.whitening[name].centre) @ items.whitening[name].matrix
            maps = [items.adapter[name], *(items.experts[name].maps if experts > 1 else [])]
            made = torch.stack([part(values) for part in maps], 1)
            if experts > 1:
                shares = torch.softmax(items.experts[name].gate(values), -1)
                assert shares.max() > 1.2 / experts  # the gate says something
                made = made * shares.unsqueeze(2)
            here = make_present()[name].unsqueeze(1)
            wanted = torch.where(here, made.sum(1), items.missing[name]) + items.bias[name]
            torch.testing.assert_close(found, wanted[rows], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("changes", [{"whitening": "zca"}, {"adapter_experts": 3}, {"cosine_scores": True}])
def test_chunks_and_a_few_items_give_the_same_gradients(changes: dict[str, Any]) -> None:
    batch = make_batch(9)
    labels = torch.randint(1, ITEMS + 1, (len(batch.lengths),), generator=torch.Generator().manual_seed(1))
    found = []
    for chunk in (0, 5):
        network = make_network(small_config(**changes))
        if chunk:
            loss = chunked_cross_entropy(network.user_vectors(*batch.args()), network.items, labels, chunk)
        else:
            tables = network.items.tables()
            loss = full_cross_entropy(
                network.user_vectors(*batch.args(), tables=tables), network.fused_items(tables), labels
            )
        loss.backward()
        found.append({name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-7, atol=1e-11, msg=name)


def test_cosines_have_the_order_of_products_and_do_not_know_the_length() -> None:
    batch = make_batch(9)
    scores = {}
    for cosine in (False, True):
        network = make_network(small_config(cosine_scores=cosine, temperature=0.1), ("text",))
        with torch.no_grad():
            users = network.user_vectors(*batch.args())
            scores[cosine] = network.scores(users, network.fused_items())[:, 1:]
    torch.testing.assert_close(users.norm(dim=1), torch.ones(len(users), dtype=torch.float64))
    assert torch.equal(scores[True].argsort(1), scores[False].argsort(1))
    assert scores[True].abs().max() <= 10.0 + 1e-9 < scores[False].abs().max()
    table = network.items.tables()["text"][1:].detach()
    torch.testing.assert_close(scores[True], F.normalize(users, dim=1) @ F.normalize(table, dim=1).T / 0.1)


def test_by_default_nothing_is_added() -> None:
    network = make_network(small_config())
    assert not [name for name in network.state_dict() if "whitening" in name or "experts" in name]


def test_the_statistics_stay_with_the_checkpoint() -> None:
    """Items that come later are seen as the others were."""
    config = small_config(whitening="zca", is_modality_bias=False)
    old = make_network(config, ("text",))
    more = {"text": torch.cat([make_features()["text"], 50 + torch.randn(5, 7)])}
    new = randomise(MMM4RecNetwork(config, more).double(), 8).eval()
    assert not torch.allclose(new.items.vectors(slice(1, 4))["text"], old.items.vectors(slice(1, 4))["text"])
    new.load_state_dict(old.state_dict())
    torch.testing.assert_close(new.items.vectors(slice(1, 4))["text"], old.items.vectors(slice(1, 4))["text"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"whitening": "pca"}, "whitening must be one of none, zca, not 'pca'"),
        ({"adapter_experts": 0}, "adapter_experts must be a whole number, at least 1, not 0"),
        ({"cosine_scores": 1}, "cosine_scores must be True or False, not 1"),
    ],
)
def test_values_are_checked(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        small_config(**changes)


def test_dropout_and_temperature_change_in_training_alone() -> None:
    config = small_config(embedding_drop_prob=0.3, dropout_prob=0.3, time_dropout_prob=0.3)
    network, batch = make_network(config), make_batch(9)

    def users() -> Tensor:
        return network.user_vectors(*batch.args()).detach()

    def fused() -> Tensor:
        return network.fused_items().detach()

    plain_users, plain_items = users(), fused()
    network.schedule(dropout_share=0.0, heat=2.0)
    assert torch.equal(users(), plain_users)
    assert torch.equal(fused(), plain_items)
    network.train()
    torch.testing.assert_close(users(), plain_users)
    torch.testing.assert_close(fused(), plain_items / 2)
    network.schedule()
    assert not torch.allclose(users(), plain_users)
    torch.testing.assert_close(fused(), plain_items)
