"""Every fast operator against its plain twin, on shapes that are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from network.operators import TOLERANCE, assert_near, in_double, make_operands, random, results
from torch import Tensor

from recbole_mmm4rec.network.ops import plain
from recbole_mmm4rec.network.ops.conv import row_conv
from recbole_mmm4rec.network.ops.linear import normed_linear, split_linear
from recbole_mmm4rec.network.ops.operands import Weights
from recbole_mmm4rec.network.ops.packing.positions import Positions
from recbole_mmm4rec.network.ops.packing.ragged import Ragged
from recbole_mmm4rec.network.ops.scans import SCANS, DualForm, Scan
from recbole_mmm4rec.network.ops.tables.directions import sum_of_directions
from recbole_mmm4rec.network.ops.tables.softmax import softmax_cross_entropy

DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
EXAMPLES = settings(max_examples=40, derandomize=True)


@dataclass(frozen=True)
class Case:
    """A batch, which of its tokens are wanted, and the sizes of a block."""

    lengths: list[int]
    K: int
    width: int | None
    merge: bool
    cross: bool
    bias: bool
    dtype: torch.dtype
    sizes: dict[str, Any]

    def positions(self) -> Positions:
        ragged = Ragged(torch.tensor(self.lengths), max(self.lengths), self.K if self.merge else None)
        if self.width is None:
            return Positions(ragged=ragged)
        return Positions(ragged=ragged, keep=ragged.tail(self.width)[0], width=self.width)


@st.composite
def cases(draw: st.DrawFn, longest: int = 12, merge: bool = False, bias: bool = False) -> Case:
    """Lengths, heads, groups, states, taps, wanted positions and dtype."""
    K, G, cross = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.booleans())
    sizes = {"H": G * draw(st.integers(1, 3)), "P": draw(st.integers(2, 5)), "G": G, "N": draw(st.integers(1, 6))}
    sizes |= {"K": K, "scaled": draw(st.booleans()), "seed": draw(st.integers(0, 99))}
    return Case(
        lengths=draw(st.lists(st.integers(1, longest), min_size=1, max_size=7)),
        K=K,
        width=draw(st.sampled_from([None, 1] if cross else [None, 1, K])),
        merge=merge and draw(st.booleans()),
        cross=cross,
        bias=bias and draw(st.booleans()),
        dtype=draw(DTYPES),
        sizes=sizes,
    )


def assert_is_plain_mix(scan: Scan, case: Case) -> None:
    """Output and every gradient of ``scan.mix`` against the twin in float64 on the same numbers."""
    at = case.positions()
    operands = make_operands(
        case.lengths,
        kept=None if at.keep is None else len(at.keep),
        cross=case.cross,
        bias=case.bias,
        tokens=len(at.ragged),
        dtype=case.dtype,
        **case.sizes,
    )
    tokens = torch.arange(len(at.ragged))
    real = at.wanted(tokens >= at.ragged.starts[at.ragged.rows])  # idle tokens stand for nothing
    found = results(lambda o: scan.mix(o, at), operands, real)
    assert found["out"].dtype == case.dtype
    wanted = results(lambda o: plain.mix(o, at), in_double(operands), real)
    for part in (found, wanted):  # what idle tokens get is nobody's
        for name in ("wide", "step"):
            part[name] = part[name][tokens >= at.ragged.starts[at.ragged.rows]]
        for name in {"z", "C"} & set(part):
            part[name] = part[name][real]
    assert_near(found, wanted, TOLERANCE[case.dtype])


@EXAMPLES
@given(case=cases(merge=True, bias=True))
def test_mix_in_blocks(case: Case) -> None:
    assert_is_plain_mix(SCANS["torch"], case)


@EXAMPLES
@given(case=cases(merge=True, bias=True))
def test_mix_by_compiled_loops(case: Case) -> None:
    assert_is_plain_mix(SCANS["numba"], case)


@EXAMPLES
@given(case=cases(), chunk=st.integers(1, 14))
def test_mix_by_the_dual_form(case: Case, chunk: int) -> None:
    assert_is_plain_mix(DualForm("torch", chunk), case)


@settings(max_examples=6, derandomize=True)
@given(case=cases(longest=140))
def test_mix_of_long_sequences(case: Case) -> None:
    for name in ("torch", "numba"):
        assert_is_plain_mix(SCANS[name].for_length(max(case.lengths)), case)


@EXAMPLES
@given(case=cases())
def test_mix_by_the_recurrence(case: Case) -> None:
    assert_is_plain_mix(SCANS["recurrence"], case)


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize(("cross", "width"), [(False, None), (False, 4), (True, None), (True, 1)])
def test_mix_by_kernels(cross: bool, width: int | None) -> None:
    sizes = {"H": 4, "P": 16, "G": 2, "N": 16, "K": 4}
    assert_is_plain_mix(SCANS["mamba_ssm"], Case([5, 1, 20, 3], 4, width, False, cross, False, torch.float32, sizes))


@EXAMPLES
@given(case=cases(merge=True, bias=True))
def test_rows_of_a_table_give_what_the_rows_themselves_give(case: Case) -> None:
    at = case.positions()
    rows = torch.randint(0, 9, (len(at.ragged),), generator=torch.Generator().manual_seed(1))
    kept = None if at.keep is None else len(at.keep)
    sizes = {**case.sizes, "kept": kept, "cross": case.cross, "bias": case.bias, "tokens": len(at.ragged)}
    operands = make_operands(case.lengths, rows=rows, dtype=torch.float32, **sizes)
    real = at.wanted(torch.arange(len(at.ragged)) >= at.ragged.starts[at.ragged.rows])
    with torch.no_grad():
        wanted = plain.mix(in_double(operands), at)[real]
        for name in ("torch", "numba", "recurrence"):
            assert_near({"out": SCANS[name].mix(operands, at)[real]}, {"out": wanted}, TOLERANCE[torch.float32])


CONVOLVING = {"torch": SCANS["torch"], "dual form": DualForm("torch"), "recurrence": SCANS["recurrence"]}


@pytest.mark.parametrize("name", CONVOLVING)
@EXAMPLES
@given(
    lengths=st.lists(st.one_of(st.integers(1, 9), st.integers(60, 100)), min_size=1, max_size=5),
    K=st.integers(1, 6),
    channels=st.integers(1, 9),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_causal_convolution(name: str, lengths: list[int], K: int, channels: int, dtype: torch.dtype) -> None:
    ragged, draw = Ragged(torch.tensor(lengths), max(lengths)), torch.Generator().manual_seed(len(lengths))
    inputs = [random(draw, *shape) for shape in ((len(ragged), channels), (channels, K), (channels,))]
    assert_same_function(
        lambda x, w, b: CONVOLVING[name].conv(x, Weights(w, b), ragged),
        lambda x, w, b: plain.causal_conv(x, w, b, ragged),
        [part.to(dtype) for part in inputs],
    )


@EXAMPLES
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    length=st.one_of(st.integers(6, 30), st.integers(60, 70), st.integers(100, 140)),
    K=st.integers(1, 6),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_convolution_of_rows(shape: tuple[int, int], length: int, K: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(length)
    inputs = [random(draw, *size).to(dtype) for size in ((*shape, length), (shape[1], K), (shape[1],))]
    assert_same_function(row_conv, plain.row_conv, inputs)


@EXAMPLES
@given(
    rows=st.integers(1, 9),
    width=st.integers(1, 6),
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    some=st.booleans(),
    dtype=DTYPES,
)
def test_linear_in_parts(rows: int, width: int, sizes: list[int], some: bool, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(rows)
    keep = torch.randperm(rows, generator=draw)[: 1 + rows // 2].sort().values if some else None
    inputs = [random(draw, *shape).to(dtype) for shape in ((rows, width), (sum(sizes), width), (sum(sizes),))]

    def joined(parts: Any) -> Tensor:
        return torch.cat([part.flatten() for part in parts])

    assert_same_function(
        lambda x, w, b: joined(split_linear(x, w, b, tuple(sizes), keep)),
        lambda x, w, b: joined(plain.split_linear(x, w, b, tuple(sizes), keep)),
        inputs,
    )
    bare = split_linear(*inputs, tuple(sizes), keep, bare=len(sizes) - 1)[-1]
    assert torch.equal(bare, F.linear(inputs[0], inputs[1][-sizes[-1] :]))


@EXAMPLES
@given(rows=st.integers(1, 9), wide=st.integers(2, 12), narrow=st.integers(1, 5), dtype=DTYPES)
def test_linear_behind_a_norm(rows: int, wide: int, narrow: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(rows)
    inputs = [random(draw, *shape).to(dtype) for shape in ((rows, wide), (wide,), (narrow, wide), (narrow,))]
    assert_same_function(
        lambda x, s, w, b: normed_linear(x, s, w, b, 1e-12),
        lambda x, s, w, b: plain.normed_linear(x, s, w, b, 1e-12),
        inputs,
    )


@EXAMPLES
@given(rows=st.integers(1, 9), width=st.integers(2, 6), count=st.integers(1, 3), weighted=st.booleans(), dtype=DTYPES)
def test_sum_of_directions(rows: int, width: int, count: int, weighted: bool, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(rows)
    tables = [random(draw, rows, width).to(dtype) for _ in range(count)]
    weights = [random(draw, rows, count).abs().to(dtype)] if weighted else []

    def by(function: Any) -> Any:
        return lambda *given: function(given[:count], given[count] if weighted else None, 0.8)

    # a table of one column is its sign: its gradient is 0
    assert_same_function(by(sum_of_directions), by(plain.sum_of_directions), [*tables, *weights], absolute=1e-1)


@EXAMPLES
@given(users=st.integers(1, 6), items=st.integers(1, 9), width=st.integers(1, 5), smoothing=st.sampled_from([0.0, 0.2]))
def test_cross_entropy(users: int, items: int, width: int, smoothing: float) -> None:
    draw = torch.Generator().manual_seed(users)
    labels = torch.randint(0, items, (users,), generator=draw)
    assert_same_function(
        lambda u, i: softmax_cross_entropy(u, i, labels, smoothing).view(1, 1),
        lambda u, i: plain.softmax_cross_entropy(u, i, labels, smoothing).view(1, 1),
        [random(draw, users, width), random(draw, items, width)],
        absolute=1e-3,
    )


def assert_same_function(fast: Any, twin: Any, inputs: list[Tensor], absolute: float = 1e-6) -> None:
    """Value and gradients of two functions of the same numbers, the twin's in float64."""
    dtype = inputs[0].dtype
    ours = [part.clone().requires_grad_() for part in inputs]
    truth = [part.double().requires_grad_() for part in inputs]
    found, wanted = fast(*ours), twin(*truth)
    assert found.dtype == dtype
    weight = torch.cos(torch.arange(found.numel(), dtype=torch.float64)).view_as(found)
    got = torch.autograd.grad((found.double() * weight).sum(), ours)
    right = torch.autograd.grad((wanted * weight).sum(), truth)
    for one, other in zip((found, *got), (wanted, *right), strict=True):
        error = float((one.double() - other).norm())
        assert error <= TOLERANCE[dtype] * (float(other.norm()) + absolute), f"{error:.1e} of {float(other.norm()):.1e}"
