"""Operands of the operators, of any shape, and comparing two ways to compute them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recbole_mmm4rec.network.ops.operands import Operands, Weights, Wide

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 0.2}
"""Of the norm. Sums over a batch lose digits where their terms cancel: a hundred times the rounding of one number, as
drawn shapes of one head and a few states show; a wrong formula is off by the whole."""


def random(draw: torch.Generator, *shape: int) -> Tensor:
    """Normal numbers, float64."""
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def make_operands(
    lengths: Sequence[int],
    *,
    H: int,
    P: int,
    G: int,
    N: int,
    K: int = 4,
    D: int = 6,
    kept: int | None = None,
    cross: bool = False,
    bias: bool = False,
    rows: Tensor | None = None,
    scaled: bool = True,
    tokens: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Operands:
    """Random operands of a packed batch; the narrow ones are float32 at least.

    Args:
        lengths: of its sequences.
        H, P, G, N, K, D: as everywhere.
        kept: S, the wanted tokens; None for all.
        cross: with queries of their own.
        bias: ``wide`` lacks one.
        rows: the row of ``wide`` of each token.
        scaled: the skip is scaled by Δ.
        tokens: T, with idle ones; by default the sum of ``lengths``.
        seed: of the draws.
        dtype: of the wide tensors.
    """
    draw = torch.Generator().manual_seed(seed)
    T = sum(lengths) if tokens is None else tokens
    S, E, narrow = T if kept is None else kept, H * P, torch.promote_types(dtype, torch.float32)
    channels = E + G * N * (1 if cross else 2)
    values = random(draw, T if rows is None else int(rows.max()) + 1, channels)
    D_skip = random(draw, H).to(narrow)
    return Operands(
        wide=Wide(values.to(dtype), random(draw, channels).to(narrow) if bias else None, rows),
        C=random(draw, S, G * N).to(dtype) if cross else None,
        z=random(draw, S, E).to(dtype),
        step=torch.exp(random(draw, T, H) - 1).to(narrow),
        A=-torch.exp(random(draw, H)).to(narrow),
        skip=(lambda step: D_skip.to(step.dtype) * step)
        if scaled
        else (lambda step: D_skip.to(step.dtype).expand_as(step)),
        conv=Weights(random(draw, channels, K).to(narrow), random(draw, channels).to(narrow)),
        groups=G,
        norm=(1 + 0.3 * random(draw, E)).to(narrow),
        eps=0.1,  # short rows stay well-conditioned
        out=Weights((random(draw, D, E) / E**0.5).to(dtype), random(draw, D).to(dtype)),
    )


def leaves(operands: Operands) -> tuple[Operands, dict[str, Tensor]]:
    """The operands as leaves for gradients, and these by name."""
    o = operands
    named = {"wide": o.wide.values, "z": o.z, "step": o.step, "A": o.A, "norm": o.norm}
    named |= {
        "conv.weight": o.conv.weight,
        "conv.bias": o.conv.bias,
        "out.weight": o.out.weight,
        "out.bias": o.out.bias,
    }
    named |= {} if o.C is None else {"C": o.C}
    named = {name: value.detach().clone().requires_grad_() for name, value in named.items()}
    made = replace(
        o,
        wide=replace(o.wide, values=named["wide"]),
        C=named.get("C"),
        z=named["z"],
        step=named["step"],
        A=named["A"],
        norm=named["norm"],
        conv=Weights(named["conv.weight"], named["conv.bias"]),
        out=Weights(named["out.weight"], named["out.bias"]),
    )
    return made, named


def in_double(operands: Operands) -> Operands:
    """The same numbers in float64."""
    o = operands
    return replace(
        o,
        wide=Wide(o.wide.values.double(), None if o.wide.bias is None else o.wide.bias.double(), o.wide.rows),
        C=None if o.C is None else o.C.double(),
        z=o.z.double(),
        step=o.step.double(),
        A=o.A.double(),
        conv=Weights(*(part.double() for part in o.conv)),
        norm=o.norm.double(),
        out=Weights(*(part.double() for part in o.out)),
    )


def results(compute: Callable[[Operands], Tensor], operands: Operands, real: Tensor | None = None) -> dict[str, Tensor]:
    """The output of a computation and the gradient of every operand, at the ``real`` rows (S,) of the output alone."""
    given, named = leaves(operands)
    out = compute(given)
    real = torch.ones(len(out), dtype=torch.bool) if real is None else real
    weight = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).view_as(out) * real.unsqueeze(1)
    found = torch.autograd.grad((out.double() * weight).sum(), list(named.values()))
    return {"out": out.detach()[real], **dict(zip(named, found, strict=True))}


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    """Every tensor within ``tolerance`` of the norm of what is wanted."""
    assert set(found) == set(wanted)
    for name, truth in wanted.items():
        error = float((found[name].double() - truth.double()).norm() / truth.double().norm().clamp_min(1e-9))
        assert error <= tolerance, f"{name}: {error:.1e}"
