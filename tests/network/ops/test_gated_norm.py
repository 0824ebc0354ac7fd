"""mamba-ssm's gated RMSNorm, in Triton's interpreter, against the formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from network.models import relative, small_config

from recbole_mmm4rec.network.ops import kernels
from recbole_mmm4rec.network.state_space import StateSpace


def formula(y: torch.Tensor, z: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    gated = y * F.silu(z)
    return gated * torch.rsqrt(gated.square().mean(1, keepdim=True) + eps) * weight


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
    found, wanted = kernels.gated_norm(*ours, eps), formula(*truth, eps)
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
def test_block_takes_the_kernel_for_its_backend_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    block = StateSpace(small_config())
    y, z = torch.randn(4, 24), torch.randn(4, 24)
    wanted = block.output(y, z, "recurrence")
    calls = []
    kernel = kernels.gated_norm
    monkeypatch.setattr(kernels, "gated_norm", lambda *args: calls.append(1) or kernel(*args))
    torch.testing.assert_close(block.output(y, z, "mamba_ssm"), wanted, rtol=1e-4, atol=1e-5)
    assert calls == [1]
    torch.testing.assert_close(block.output(y * F.silu(z), None, "mamba_ssm"), wanted, rtol=1e-4, atol=1e-5)
    block.output(y, z, "recurrence")
    assert calls == [1]


def test_what_the_kernel_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    y, weight = torch.ones(2, 4), torch.ones(4)
    assert kernels.gated_norm(y.double(), y.double(), weight.double(), 1e-12) is None
    wide = torch.ones(1, 20_000)
    assert kernels.gated_norm(wide, wide, torch.ones(20_000), 1e-12) is None
    monkeypatch.setattr(kernels, "_norm_kernel", lambda: "mamba-ssm cannot be imported")
    assert kernels.gated_norm(y, y, weight, 1e-12) is None
    monkeypatch.undo()
    monkeypatch.delenv("TRITON_INTERPRET")
    assert kernels.gated_norm(y, y, weight, 1e-12) is None
