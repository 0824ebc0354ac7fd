"""mamba-ssm's gated RMSNorm, in Triton's interpreter, against the formula."""

from __future__ import annotations

import pytest
import torch
from network.models import relative
from network.operators import make_operands

from recbole_mmm4rec.network.ops import kernels, plain
from recbole_mmm4rec.network.ops.scans import Kernels, Recurrence


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize(
    ("rows", "width", "eps", "dtype", "tolerance"),
    [
        (5, 24, 1e-12, torch.float32, 2e-6),
        (1, 64, 1e-5, torch.float32, 2e-6),
        (7, 40, 1e-12, torch.float16, 2e-3),
    ],
)
def test_kernel_equals_formula(rows: int, width: int, eps: float, dtype: torch.dtype, tolerance: float) -> None:
    draw = torch.Generator().manual_seed(rows)
    y, z = (torch.randn(rows, width, generator=draw).to(dtype) for _ in range(2))
    if dtype == torch.float32:
        y[0] *= 1e-6  # of mean square 1e-12: eps decides how long such a row becomes
    weight, upward = torch.rand(width, generator=draw) + 0.5, torch.randn(rows, width, generator=draw)
    ours = [value.clone().requires_grad_() for value in (y, z, weight)]
    truth = [value.double().requires_grad_() for value in (y, z, weight)]
    found, wanted = kernels.gated_norm(*ours, eps), plain.gated_norm(*truth, eps)
    assert found is not None
    assert found.dtype == dtype
    assert relative(found.double(), wanted) <= tolerance
    gradients = torch.autograd.grad((found * upward.to(dtype)).sum(), ours)
    truths = torch.autograd.grad((wanted * upward.to(dtype).double()).sum(), truth)
    for ours_part, truth_part in zip(gradients, truths, strict=True):
        for found_row, wanted_row in zip(
            *(torch.atleast_2d(part.double()) for part in (ours_part, truth_part)), strict=True
        ):
            assert relative(found_row, wanted_row) <= 10 * tolerance


@pytest.mark.usefixtures("interpreter")
def test_gate_and_norm_are_the_kernels_for_its_own_scan_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    operands = make_operands([1, 2, 1], H=2, P=8, G=1, N=4, dtype=torch.float32)
    y = torch.randn(4, 16)
    calls, kernel = [], kernels.gated_norm
    monkeypatch.setattr(kernels, "gated_norm", lambda *args: calls.append(1) or kernel(*args))
    wanted = Recurrence().output(y, operands)
    assert calls == []
    torch.testing.assert_close(Kernels().output(y, operands), wanted, rtol=1e-4, atol=1e-5)
    assert calls == [1]
    monkeypatch.setattr(kernels, "norm_kernel", lambda: "absent")
    torch.testing.assert_close(Kernels().output(y, operands), wanted)


def test_what_the_kernel_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    y, weight = torch.ones(2, 4), torch.ones(4)
    assert kernels.gated_norm(y.double(), y.double(), weight.double(), 1e-12) is None
    wide = torch.ones(1, 20_000)
    assert kernels.gated_norm(wide, wide, torch.ones(20_000), 1e-12) is None
    monkeypatch.setattr(kernels, "norm_kernel", lambda: "mamba-ssm cannot be imported")
    assert kernels.gated_norm(y, y, weight, 1e-12) is None
    monkeypatch.undo()
    monkeypatch.delenv("TRITON_INTERPRET")
    assert kernels.gated_norm(y, y, weight, 1e-12) is None
