"""Mamba4Rec a second time, as its formulas read: one user, one position, one channel's states after the other.

Nothing of ``recbole_mmm4rec`` is used here but the names of the weights. Sources: arXiv 2403.03900, section 3; of the
block arXiv 2312.00752, section 3.4 and algorithm 2, Δ by softplus and B discretised by Euler's rule, as in its program.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Params = Mapping[str, Tensor]


def user_vector(params: Params, items: list[int], layers: int) -> Tensor:
    """(D,) of one history, oldest item first."""
    rows = [norm(params["item_embedding.weight"][item], params, "norm") for item in items]
    for layer in range(layers):
        own = {
            name.removeprefix(f"layers.{layer}."): value
            for name, value in params.items()
            if name.startswith(f"layers.{layer}.")
        }
        after = mamba(own, rows)
        if layers > 1:
            after = [made + row for made, row in zip(after, rows, strict=True)]
        rows = [feed_forward(own, norm(row, own, "norm")) for row in after]
    return rows[-1]


def mamba(params: Params, rows: list[Tensor]) -> list[Tensor]:
    """A block: (D,) vectors of a history → (D,) vectors."""
    weight, states = params["mamba.conv_weight"], params["mamba.A_log"].shape[1]
    E, K = weight.shape
    both = [params["mamba.in_proj.weight"] @ row for row in rows]
    xs, zs = [part[:E] for part in both], [part[E:] for part in both]
    h = torch.zeros(E, states, dtype=rows[0].dtype)
    made = []
    for t, z in enumerate(zs):
        conv = params["mamba.conv_bias"].clone()
        for back in range(min(K, t + 1)):
            conv = conv + weight[:, K - 1 - back] * xs[t - back]
        x = silu(conv)
        low, B, C = (params["mamba.x_proj.weight"] @ x).split([params["mamba.dt_proj.weight"].shape[1], states, states])
        step = torch.log1p(torch.exp(params["mamba.dt_proj.weight"] @ low + params["mamba.dt_proj.bias"]))
        following = []
        for e in range(E):
            decay = torch.exp(step[e] * -torch.exp(params["mamba.A_log"][e]))
            following.append(decay * h[e] + step[e] * B * x[e])
        h = torch.stack(following)
        y = h @ C + params["mamba.D_skip"] * x
        made.append(params["mamba.out_proj.weight"] @ (y * silu(z)))
    return made


def feed_forward(params: Params, row: Tensor) -> Tensor:
    """LayerNorm(W2 GELU(W1 x) + x)."""
    inner = params["fc1.weight"] @ row + params["fc1.bias"]
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    return norm(params["fc2.weight"] @ inner + params["fc2.bias"] + row, params, "ffn_norm")


def norm(row: Tensor, params: Params, name: str) -> Tensor:
    """LayerNorm of a vector, eps 1e-12."""
    centred = row - row.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-12) * params[f"{name}.weight"] + params[f"{name}.bias"]


def silu(x: Tensor) -> Tensor:
    """x σ(x)."""
    return x / (1 + torch.exp(-x))
