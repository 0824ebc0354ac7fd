"""A step on a large table, piece by piece: PyTorch's own to the last bit, in little memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from watching import Watch

from recbole_mmm4rec.training import optim

KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam}
SHAPES = [(11, 3), (4, 40), (1, 70), (50,), (2, 2), ()]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_mmm4rec.training.piecewise.PIECE_NUMBERS", 10)


@pytest.mark.parametrize(
    ("learner", "decoupled"), [("adam", False), ("adamw", False), ("nadam", False), ("nadam", True)]
)
@pytest.mark.parametrize("row_wise", [False, True])
def test_it_is_pytorchs_step(learner: str, decoupled: bool, row_wise: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=draw) for shape in SHAPES]
    extra = {"decoupled_weight_decay": decoupled} if learner == "nadam" else {}
    ours, theirs = ([nn.Parameter(value.clone()) for value in values] for _ in range(2))
    optimisers = [
        optim.build_optimizer([{"params": ours, "weight_decay": 0.1}], learner, 0.05, decoupled, row_wise),
        KINDS[learner](theirs, lr=0.05, weight_decay=0.1, **extra),
    ]
    for _ in range(4):
        for own, other in zip(ours, theirs, strict=True):
            own.grad = torch.randn(own.shape, generator=draw)
            other.grad = own.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for own, other in zip(ours, theirs, strict=True):
        assert torch.equal(own, other)
        found, wanted = optimisers[0].state[own], optimisers[1].state[other]
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(found[name], value), name


def test_nothing_as_large_as_the_table_is_made() -> None:
    table = nn.Parameter(torch.ones(1000, 2))
    optimiser = optim.build_optimizer([{"params": [table], "weight_decay": 0.1}], "nadam", 0.1, True)
    table.grad = torch.ones_like(table)
    optimiser.step()  # which makes the states
    with Watch() as watch:
        optimiser.step()
    assert 0 < watch.largest() <= 10
