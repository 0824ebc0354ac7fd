"""The scan: every backend against the recurrence, and the recurrence against a loop that can be read at a glance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network.models import relative
from torch import Tensor

from recbole_mmm4rec.network.ops.dual_form import last_of_dual_form
from recbole_mmm4rec.network.ops.packing.ragged import Ragged
from recbole_mmm4rec.network.ops.plain import recurrence
from recbole_mmm4rec.network.ops.scans import DualForm, Kernels, Recurrence, TokenScan


@dataclass(frozen=True)
class Scan:
    """Arguments of a scan: x (T, H, P), dt (T, H), A (H,), B and C (T, G, N)."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.x, self.dt, self.A, self.B, self.C


def make_scan(
    tokens: int,
    heads: int,
    groups: int,
    width: int = 4,
    state: int = 8,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Scan:
    """Random values, decays from almost none to almost all; x, B and C in ``dtype``, dt and A in float32 at least."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    steps = torch.promote_types(dtype, torch.float32)
    return Scan(
        x=normal(tokens, heads, width).to(dtype),
        dt=torch.exp(normal(tokens, heads) - 1).to(steps),
        A=-torch.exp(normal(heads)).to(steps),
        B=normal(tokens, groups, state).to(dtype),
        C=normal(tokens, groups, state).to(dtype),
    )


def run(scan: Scan, lengths: list[int], by: TokenScan) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The scan's output, and the gradients of a weighted sum of it for every argument."""
    ragged = Ragged(torch.tensor(lengths), max(lengths))
    x, dt, A, B, C = leaves = [value.detach().clone().requires_grad_() for value in scan.tensors()]
    y = by.scan(x, dt, A, B, C, ragged)
    weight = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y)
    return y.detach(), torch.autograd.grad((y.double() * weight).sum(), leaves)


def in_double(scan: Scan) -> Scan:
    return Scan(*(value.double() for value in scan.tensors()))


def assert_same_scan(scan: Scan, lengths: list[int], by: TokenScan, tolerance: float) -> None:
    """Output and gradients of an implementation against the float64 recurrence on the same values."""
    found, found_gradients = run(scan, lengths, by)
    wanted, wanted_gradients = run(in_double(scan), lengths, Recurrence())
    assert found.dtype == scan.x.dtype
    assert relative(found.double(), wanted) <= tolerance
    for name, ours, truth in zip(["x", "dt", "A", "B", "C"], found_gradients, wanted_gradients, strict=True):
        error = float((ours.double() - truth).norm() / truth.norm().clamp_min(1e-12))
        assert error <= tolerance, f"gradient of {name}: {error:.2e}"


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (4, 1), (4, 2), (6, 3), (4, 4)])
def test_recurrence_is_the_textbook_loop(heads: int, groups: int) -> None:
    lengths = [1, 3, 6]
    scan = make_scan(sum(lengths), heads, groups)
    found, _ = run(scan, lengths, Recurrence())
    token = 0
    for length in lengths:
        for head in range(heads):
            group = head * groups // heads
            state = torch.zeros(4, 8, dtype=torch.float64)
            for t in range(token, token + length):
                state = torch.exp(scan.dt[t, head] * scan.A[head]) * state
                state = state + scan.dt[t, head] * torch.outer(scan.x[t, head], scan.B[t, group])
                torch.testing.assert_close(found[t, head], state @ scan.C[t, group], rtol=1e-12, atol=1e-12)
        token += length


@st.composite
def shapes(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Lengths of a packed batch (ascending, as batches are packed), heads, groups."""
    groups = draw(st.integers(1, 4))
    lengths = sorted(draw(st.lists(st.integers(1, 40), min_size=1, max_size=6)))
    return lengths, groups * draw(st.integers(1, 3)), groups


@settings(max_examples=40, derandomize=True)
@given(shape=shapes(), chunk=st.integers(1, 50), seed=st.integers(0, 99))
def test_dual_form_equals_recurrence(shape: tuple[list[int], int, int], chunk: int, seed: int) -> None:
    lengths, heads, groups = shape
    scan = make_scan(sum(lengths), heads, groups, seed=seed)
    assert_same_scan(scan, lengths, DualForm("torch", chunk), tolerance=1e-10)


@settings(max_examples=40, derandomize=True)
@given(shape=shapes(), spare=st.integers(0, 5), seed=st.integers(0, 99))
def test_last_position_alone_equals_the_scan(shape: tuple[list[int], int, int], spare: int, seed: int) -> None:
    lengths, heads, groups = shape
    scan = make_scan(sum(lengths), heads, groups, seed=seed)
    ragged = Ragged(torch.tensor(lengths), max(lengths) + spare)
    x, dt, A, B, C = leaves = [value.requires_grad_() for value in scan.tensors()]
    whole = recurrence(x, dt, A, B, C, ragged)[ragged.last]
    alone = last_of_dual_form(x, dt, A, B, C[ragged.last], ragged)
    torch.testing.assert_close(alone, whole, rtol=1e-10, atol=1e-12)
    weight = torch.cos(torch.arange(whole.numel(), dtype=torch.float64)).view_as(whole)
    wanted = torch.autograd.grad((whole * weight).sum(), leaves)
    found = torch.autograd.grad((alone * weight).sum(), leaves)
    for ours, truth in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("by", [DualForm("torch", 7), Recurrence()], ids=["torch", "recurrence"])
def test_extreme_steps_stay_finite(by: TokenScan) -> None:
    scan = make_scan(24, 2, 1, dtype=torch.float32)
    steps = torch.where(torch.arange(24)[:, None] % 3 == 0, 300.0, 1e-6).expand(24, 2).contiguous()
    extreme = replace(scan, dt=steps, A=torch.tensor([-16.0, -1e-4]))
    found, gradients = run(extreme, [24], by)
    assert found.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    wanted, _ = run(in_double(extreme), [24], Recurrence())
    assert relative(found.double(), wanted) <= 1e-5


@pytest.mark.parametrize("chunk", [64, 4])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)], ids=str
)
def test_dual_form_in_other_precisions(dtype: torch.dtype, tolerance: float, chunk: int) -> None:
    lengths = [1, 20, 2, 5]
    scan = make_scan(sum(lengths), 6, 3, width=8, state=16, dtype=dtype)
    assert_same_scan(scan, lengths, DualForm("torch", chunk), tolerance)


# Triton's interpreter multiplies the bit patterns of bfloat16 (triton-lang/triton #11584): float16 stands in for it.
# lengths, heads, groups, head width, state size, chunk, precision
KERNEL_GRID = [
    pytest.param([1], 1, 1, 16, 16, 256, torch.float32, id="one-token"),
    pytest.param([1, 1, 1], 2, 2, 16, 16, 256, torch.float32, id="all-of-length-one"),
    pytest.param([2], 6, 3, 16, 16, 256, torch.float32, id="two-tokens"),
    pytest.param([2, 1, 5], 4, 2, 16, 16, 256, torch.float32, id="boundaries-groups-between"),
    pytest.param([20], 4, 1, 16, 16, 256, torch.float32, id="one-group"),
    pytest.param([20, 5, 1, 2], 4, 4, 8, 16, 256, torch.float32, id="group-per-head"),
    pytest.param([33], 2, 1, 32, 8, 16, torch.float32, id="longer-than-chunk"),
    pytest.param([33, 20], 6, 2, 8, 8, 32, torch.float32, id="two-chunks-groups-between"),
    pytest.param([14, 20, 3], 4, 2, 16, 32, 16, torch.float32, id="boundary-inside-chunk"),
    pytest.param([16, 16], 2, 1, 16, 16, 16, torch.float32, id="boundary-between-chunks"),
    pytest.param([16, 1, 16], 2, 2, 16, 16, 16, torch.float32, id="boundary-first-in-chunk"),
    pytest.param([5, 1, 2, 1, 7, 3, 1, 1, 4, 9], 3, 3, 16, 16, 16, torch.float32, id="many-short-ones"),
    pytest.param([5, 20], 2, 1, 64, 64, 256, torch.float32, id="widths-of-the-paper"),
    pytest.param([7, 4], 2, 1, 12, 5, 256, torch.float32, id="no-powers-of-two"),
    pytest.param([5, 12, 1], 2, 1, 16, 16, 16, torch.float16, id="float16"),
    pytest.param([33, 2], 4, 2, 16, 16, 16, torch.float16, id="float16-longer-than-chunk"),
]


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize(("lengths", "heads", "groups", "width", "state", "chunk", "dtype"), KERNEL_GRID)
def test_kernels_equal_recurrence(
    lengths: list[int], heads: int, groups: int, width: int, state: int, chunk: int, dtype: torch.dtype
) -> None:
    scan = make_scan(sum(lengths), heads, groups, width, state, dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-3  # of the largest value; of the norm for gradients
    assert_same_scan(scan, lengths, Kernels(chunk), tolerance)
