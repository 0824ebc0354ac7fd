"""Packed batches of a shape known beforehand against ordinary ones, and that nothing in them waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network.models import (
    Batch,
    make_batch,
    make_features,
    make_network,
    make_present,
    randomise,
    relative,
    small_config,
)
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recbole_mmm4rec.losses.chunked import chunked_cross_entropy
from recbole_mmm4rec.losses.cross_entropies import full_cross_entropy
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.ops import conv, kernels
from recbole_mmm4rec.network.ops.dual_form import last_of_dual_form
from recbole_mmm4rec.network.ops.packing import layouts
from recbole_mmm4rec.network.ops.packing.constant_shapes import StaticRagged, count_tokens
from recbole_mmm4rec.network.ops.packing.ragged import Ragged
from recbole_mmm4rec.network.ops.plain import recurrence
from recbole_mmm4rec.network.ops.scans import SCANS, Kernels
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable

BOTH = ("text", "image")
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=7)


@settings(max_examples=60, derandomize=True)
@given(lengths=LENGTHS, spare=st.integers(0, 80), width=st.integers(1, 5))
def test_layout(lengths: list[int], spare: int, width: int) -> None:
    held, T = torch.tensor(lengths), sum(lengths)
    layout = StaticRagged(held, 9, T + spare)
    assert len(layout) == T + spare
    places = [(row, col) for row, length in enumerate(lengths) for col in range(length)]
    assert list(zip(layout.rows[:T].tolist(), layout.cols[:T].tolist(), strict=True)) == places
    assert layout.rows[T:].tolist() == [len(lengths)] * spare
    assert layout.cols[T:].tolist() == list(range(spare))  # a convolution there sees nothing of the last sequence
    assert layout.last.tolist() == [sum(lengths[: row + 1]) - 1 for row in range(len(lengths))]
    padded = torch.arange(len(lengths) * 9).view(-1, 9)
    tokens = layout.pack(padded)
    assert tokens[:T].tolist() == [padded[place].item() for place in places]
    assert torch.equal(layout.unpack(tokens), torch.where(torch.arange(9) < held[:, None], padded, 0))
    assert layout.spread(padded[:, 0])[:T].tolist() == [padded[row, 0].item() for row, _ in places]
    assert torch.equal(layout.collect(torch.ones(len(layout))), held.float())
    tail, short = layout.tail(width)
    assert tail.shape == (len(lengths) * width,)
    wanted = [
        list(range(int(end) + 1 - min(n, width), int(end) + 1)) for n, end in zip(lengths, layout.last, strict=True)
    ]
    assert [tail[short.rows == row].tolist() for row in range(len(lengths))] == wanted
    assert tail.min() >= 0
    assert tail.max() < len(layout)


def test_ordinary_layout_has_the_same_operations() -> None:
    ragged, values = Ragged(torch.tensor([3, 1, 2]), 4), torch.arange(6.0)
    assert ragged.unpack(values).tolist() == [[0, 0, 0, 0], [1, 2, 0, 0], [3, 4, 5, 0]]
    assert ragged.spread(torch.tensor([7, 8, 9])).tolist() == [7, 8, 8, 9, 9, 9]
    assert ragged.collect(values).tolist() == [0, 3, 12]
    assert ragged.restore(torch.tensor([1, 2, 3])).tolist() == [3, 1, 2]


@pytest.mark.parametrize(("lengths", "row"), [([3, 0, 2], 1), ([3, 2, 10], 2)])
def test_lengths_are_checked_where_tokens_are_counted(lengths: list[int], row: int) -> None:
    with pytest.raises(ValueError, match=rf"item_seq_len\[{row}\] is {lengths[row]}: every history must hold 1 to 9"):
        count_tokens(torch.tensor(lengths), 9)
    assert count_tokens(torch.tensor([9, 1, 2]), 9) == 12


CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "both": ({}, BOTH),
    "both, two layers": ({"num_layers": 2}, BOTH),
    "both without time": ({"is_time": False}, BOTH),
    "both, mamba's skip, published padding": ({"d_skip": "mamba", "time_padding": "zero_stamp"}, BOTH),
    "text, two layers": ({"num_layers": 2}, ("text",)),
    "image without feed-forward": ({"is_ffn": False}, ("image",)),
}


@pytest.mark.parametrize("spare", [0, 1, 60])  # 60: more tokens than B·L places
@pytest.mark.parametrize("with_tables", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_padded_tokens_change_nothing(case: str, with_tables: bool, spare: int) -> None:
    changes, modalities = CASES[case]
    network = make_network(small_config(**changes, ssd_backend="recurrence"), modalities, make_present(modalities))
    batch = make_batch(9)
    wanted_gradients: dict[str, Tensor] = {}
    wanted = None
    for padded_to in (None, int(batch.lengths.sum()) + spare):
        network.zero_grad()
        tables = network.items.tables() if with_tables else None
        users = network.user_vectors(*batch.args(), tables, padded_to=padded_to)
        (users * torch.cos(torch.arange(users.numel(), dtype=users.dtype)).view_as(users)).sum().backward()
        gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
        if wanted is None:
            wanted, wanted_gradients = users, gradients
            continue
        assert relative(users, wanted) <= 1e-10
        assert gradients.keys() == wanted_gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, wanted_gradients[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.usefixtures("interpreter")
def test_kernels_take_padded_tokens() -> None:
    """mamba-ssm's scan of a batch with tokens too many, in Triton's interpreter, against the recurrence."""
    lengths, spare = torch.tensor([5, 1, 3]), 7
    padded, plain = StaticRagged(lengths, 6, 9 + spare), StaticRagged(lengths, 6, 9)
    draw = torch.Generator().manual_seed(1)
    x, B, C = (torch.randn(16, *shape, generator=draw) for shape in ((2, 16), (1, 16), (1, 16)))
    dt, A = torch.rand(16, 2, generator=draw), -torch.rand(2, generator=draw)
    found = Kernels(16).scan(x, dt, A, B, C, padded)[:9]
    wanted = recurrence(x[:9], dt[:9], A, B[:9], C[:9], plain)
    assert relative(found, wanted) <= 1e-5
    alone = last_of_dual_form(x, dt, A, B, C[padded.last], padded)
    assert relative(alone, wanted[plain.last]) <= 1e-5


def test_other_ways_refuse() -> None:
    network, batch = make_network(small_config(ssd_backend="torch")), make_batch(9)
    with pytest.raises(ValueError, match="padded_to needs ssd_backend mamba_ssm or recurrence, not torch"):
        network.user_vectors(*batch.args(), padded_to=64)
    with pytest.raises(RuntimeError, match="no dense blocks"):
        StaticRagged(batch.lengths, 9, 64).layout()


class OneDevice(TorchDispatchMode):
    """Refuses operations between devices: a recorded step cannot copy from the processor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        leaves = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)]
        assert len({leaf.device.type for leaf in leaves if leaf.dim()}) < 2, f"{func} joins two devices"
        return made


class Step(nn.Module):
    """The loss of a training batch."""

    def __init__(self, network: MMM4RecNetwork, chunk: int) -> None:
        super().__init__()
        self.network = network
        self.chunk = chunk

    def forward(self, batch: Batch, padded_to: int | None) -> Tensor:
        items, labels = self.network.items, batch.item_seq[:, 0]
        if self.chunk:
            users = self.network.user_vectors(*batch.args(), padded_to=padded_to)
            return chunked_cross_entropy(users, items, labels, self.chunk, 0.1)
        tables = items.tables()
        users = self.network.user_vectors(*batch.args(), tables, padded_to=padded_to)
        return full_cross_entropy(users, items.fused(tables), labels, 0.1)


@pytest.fixture
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU's way through the network, a product in the scan's place; kept matrices are forgotten."""
    monkeypatch.setattr(layouts, "choose_scan", lambda *_: SCANS["mamba_ssm"])
    monkeypatch.setattr(kernels, "scan", lambda x, dt, A, B, C, rows, chunk: x * (dt * A).unsqueeze(-1) * (B * C).sum())
    monkeypatch.setattr(kernels, "norm_kernel", lambda: "absent")
    monkeypatch.setattr(kernels, "conv_kernel", lambda: "absent")
    yield
    conv._shifts.cache_clear()


def fake_step(device: str, chunk: int, padded_to: int | None, backward: bool) -> None:
    """A training step on tensors without values, on which everything fails that would read one."""
    with torch.random.fork_rng():
        network = randomise(MMM4RecNetwork(small_config(num_layers=2), make_features(), make_present()))
    real = make_batch(9)
    conv._shifts.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=False):

        def fake(value: Tensor) -> Tensor:
            return torch.empty(value.shape, dtype=value.dtype, device=device)

        network.items.features = {
            name: FrozenTable(fake(table.values), finite=True) for name, table in network.items.features.items()
        }
        step = Step(network, chunk).train()
        weights = {name: fake(value).requires_grad_(backward) for name, value in step.named_parameters()}
        buffers = {name: fake(value) for name, value in step.named_buffers()}
        batch = Batch(*(fake(value) for value in real.args()))
        torch.func.functional_call(step, {**weights, **buffers}, (batch, padded_to))  # what is kept is made
        with OneDevice():
            loss = torch.func.functional_call(step, {**weights, **buffers}, (batch, padded_to))
        assert loss.device.type == device
        if backward:
            found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            assert sum(part is not None for part in found) > 40


@pytest.mark.usefixtures("_stand_ins")
@pytest.mark.parametrize("chunk", [0, 8])
def test_a_step_reads_nothing_from_the_device(chunk: int) -> None:
    fake_step("cpu", chunk, 64, backward=chunk == 0)
    fake_step("cuda", chunk, 64, backward=False)
    with pytest.raises(DataDependentOutputException):  # what an ordinary layout does
        fake_step("cpu", chunk, None, backward=False)
