"""The operators in plain PyTorch: what each of this folder computes, in as few lines as that takes.

The truth for the fast ones in the tests. The recurrence runs as ``ssd_backend: recurrence``, too.

Source of the scan: Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.network.ops.operands import Operands
from recbole_mmm4rec.network.ops.packing.positions import Positions
from recbole_mmm4rec.network.ops.packing.ragged import Ragged


def mix(o: Operands, at: Positions) -> Tensor:
    """A state-space block behind its projections, at the wanted positions: :meth:`.scans.Scan.mix`.

    Returns:
        (S, D).
    """
    x, B, C = o.split(causal_conv(o.wide.whole(), *o.conv, at.ragged))  # (T, H, P), (T, G, N), (T or S, G, N)
    if o.C is not None and at.keep is not None:
        C = torch.zeros_like(B).index_copy(0, at.keep, C)  # (T, G, N)
    y = at.wanted(recurrence(x, o.step, o.A, B, C, at.ragged))  # (S, H, P)
    y = y + o.skip(at.wanted(o.step)).to(x.dtype).unsqueeze(-1) * at.wanted(x)  # (S, H, P)
    return normed_linear(y.flatten(1) * F.silu(o.z), o.norm, *o.out, o.eps)  # (S, D)


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor, ragged: Ragged) -> Tensor:
    """SiLU(y), y_t = bias + Σ_k weight_k x_(t−K+1+k) over the tokens of the same sequence: x (T, C), weight (C, K)."""
    y = bias + weight[:, -1] * x  # (T, C)
    for back in range(1, min(weight.shape[1], len(x))):
        earlier = F.pad(x[:-back], (0, 0, back, 0)) * (ragged.cols >= back).unsqueeze(1)
        y = y + weight[:, -1 - back] * earlier
    return F.silu(y)


def row_conv(signal: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU(y), y_t = bias + Σ_k weight_k s_(t−K+1+k) along each row: signal (B, H, L), weight (H, K), bias (H,)."""
    width, length = weight.shape[1], signal.shape[2]
    padded = F.pad(signal, (width - 1, 0))  # (B, H, K − 1 + L)
    return F.silu(bias[:, None] + sum(weight[:, k, None] * padded[..., k : k + length] for k in range(width)))


def recurrence(x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
    """The state-space recurrence of packed sequences, one position after the other, for every head:

        h_t = exp(Δ_t A) h_(t−1) + Δ_t x_t B_tᵀ          (P, N)
        y_t = h_t C_t                                    (P,)

    The skip D is added by :func:`mix`, because the published program scales it by Δ and Mamba's kernel does not.

    Args:
        x: (T, H, P) inputs.
        step: (T, H) Δ, at least float32.
        A: (H,), negative.
        B: (T, G, N) and C: (T, G, N); head h reads group ⌊h·G/H⌋.
        ragged: layout of the T tokens.

    Returns:
        (T, H, P) in the dtype of x.
    """
    heads, groups = x.shape[1], B.shape[1]
    B, C = (part.repeat_interleave(heads // groups, dim=1) for part in (B, C))  # (T, H, N)
    decay = torch.exp(step * A)  # (T, H)
    state = x.new_zeros(ragged.lengths.numel(), heads, x.shape[2], B.shape[2])  # (B, H, P, N)
    outputs, order = [], []
    for position in range(ragged.longest):
        alive = torch.nonzero(ragged.lengths > position).squeeze(1)
        token = ragged.starts[alive] + position
        inflow = (step[token].unsqueeze(-1) * x[token]).unsqueeze(-1) * B[token].unsqueeze(-2)
        moved = decay[token][..., None, None] * state[alive] + inflow
        state = state.index_copy(0, alive, moved.to(state.dtype))
        outputs.append(torch.einsum("bhpn,bhn->bhp", moved.to(C.dtype), C[token]))
        order.append(token)
    return torch.zeros_like(x).index_copy(0, torch.cat(order), torch.cat(outputs).to(x.dtype))


def split_linear(x: Tensor, weight: Tensor, bias: Tensor, sizes: tuple[int, ...], keep: Tensor | None) -> list[Tensor]:
    """A Linear cut into parts, the first for some rows alone: :func:`.linear.split_linear`."""
    first, *others = F.linear(x, weight, bias).split(sizes, 1)
    return [first if keep is None else first[keep], *others]


def normed_linear(x: Tensor, scale: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Linear(RMSNorm(x)), x (S, E) → (S, D): :func:`.linear.normed_linear`."""
    return F.linear(x * torch.rsqrt(x.square().mean(1, keepdim=True) + eps) * scale, weight, bias)


def gated_norm(y: Tensor, z: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm(y·SiLU(z)), (S, E): :func:`.kernels.gated_norm`."""
    gated = y * F.silu(z)
    return gated * torch.rsqrt(gated.square().mean(1, keepdim=True) + eps) * weight


def sum_of_directions(tables: Sequence[Tensor], weights: Tensor | None, temperature: float) -> Tensor:
    """Σ_m c_m table_m/‖table_m‖ / temperature, tables (n, D), c (n, M): :func:`.directions.sum_of_directions`."""
    directions = torch.stack([F.normalize(table, dim=1) for table in tables], 1)  # (n, M, D)
    return (directions if weights is None else weights.unsqueeze(2) * directions).sum(1) / temperature


def softmax_cross_entropy(users: Tensor, items: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy over all items, users (B, D), items (I, D): :func:`.tables.softmax.softmax_cross_entropy`."""
    return F.cross_entropy(users @ items.T, labels, label_smoothing=smoothing)
