"""TiM4Rec a second time, as its formulas read: one user, all L positions, one step of the recurrence at a time.

Nothing of ``recbole_mmm4rec`` is used here but the names of the weights. Sources: arXiv 2409.16182; of the scan arXiv
2405.21060, section 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Params = Mapping[str, Tensor]


def user_vector(params: Params, items: list[int], stamps: list[int], settings: Mapping[str, Any]) -> Tensor:
    """(D,) of one history.

    Args:
        params: weights.
        items: (L,) item numbers, oldest first, then zeros.
        stamps: (L,) seconds, at padded positions whatever the gaps there shall come from.
        settings: ``num_layers``, ``head_dim``, ``d_state``, ``norm_eps``, ``is_time``, ``is_ffn``.
    """
    eps, length = settings["norm_eps"], sum(item > 0 for item in items)
    x = norm(params["item_embedding.weight"][items], params, "norm", eps)  # (L, D)
    g = time_signal(params, stamps, eps) if settings["is_time"] else None  # (H, L)
    for layer in range(settings["num_layers"]):
        start = f"layers.{layer}."
        own = {name.removeprefix(start): value for name, value in params.items() if name.startswith(start)}
        out, g = block(own, x, g, settings)
        x = norm(out + x if settings["num_layers"] > 1 else out, own, "norm", eps)
        if not settings["is_ffn"]:
            continue
        inner = x @ own["ffn.fc1.weight"].T + own["ffn.fc1.bias"]
        inner = inner * torch.clamp(inner + 3, 0, 6) / 6
        x = norm(inner @ own["ffn.fc2.weight"].T + own["ffn.fc2.bias"] + x, own, "ffn.norm", eps)
    return x[length - 1]


def time_signal(params: Params, stamps: list[int], eps: float) -> Tensor:
    """(H, L): the gaps as the first layer has them, every head the same."""
    gaps = torch.tensor([0, *(later - earlier for earlier, later in itertools.pairwise(stamps))])
    weight = params["time_input.norm.weight"]
    return norm(gaps.to(weight.dtype), params, "time_input.norm", eps).expand(len(params["layers.0.ssd.A_log"]), -1)


def block(params: Params, x: Tensor, g: Tensor | None, settings: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """The time-aware SSD block: (L, D) and (H, L) → the same; without time the step size is a Mamba-2 block's."""
    P, N, H, L = settings["head_dim"], settings["d_state"], len(params["ssd.A_log"]), len(x)
    E = H * P
    z, wide, dt = (x @ params["ssd.in_proj.weight"].T + params["ssd.in_proj.bias"]).split([E, E + 2 * N, H], 1)
    u, B, C = convolved(wide, params["ssd.conv.weight"], params["ssd.conv.bias"]).split([E, N, N], 1)
    s = None if g is None else time_scale(params, g)  # (L, H)
    step = torch.log1p(torch.exp((dt if s is None else dt * s) + params["ssd.dt_bias"]))  # (L, H)
    made = []
    for head in range(H):
        A, h = -torch.exp(params["ssd.A_log"][head]), torch.zeros(P, N, dtype=x.dtype)
        rows = []
        for t in range(L):
            own = u[t, head * P : (head + 1) * P]
            h = torch.exp(step[t, head] * A) * h + step[t, head] * torch.outer(own, B[t])
            rows.append(h @ C[t] + params["ssd.D_skip"][head] * own)
        made.append(torch.stack(rows))
    gated = torch.cat(made, 1) * silu(z)
    scaled = gated / torch.sqrt((gated**2).mean(1, keepdim=True) + settings["norm_eps"]) * params["ssd.norm_weight"]
    out = scaled @ params["ssd.out_proj.weight"].T + params["ssd.out_proj.bias"]
    if g is None or s is None:
        return out, None
    # (H, L), or (H, 1) without p2p_residual
    r = torch.sigmoid(g @ params["ssd.time_gate.gate.weight"].T + params["ssd.time_gate.gate.bias"])
    return out, norm(r * g + (1 - r) * s.T, params, "ssd.time_gate.norm", settings["norm_eps"])


def time_scale(params: Params, g: Tensor) -> Tensor:
    """What the step sizes are multiplied by: (H, L) → (L, H)."""
    hidden = silu(g @ params["ssd.time_scale.fc1.weight"].T + params["ssd.time_scale.fc1.bias"])
    s = ((hidden @ params["ssd.time_scale.fc2.weight"].T + params["ssd.time_scale.fc2.bias"]) * g).T
    for conv in ("ssd.time_scale.conv1.conv", "ssd.time_scale.conv2.conv"):
        s = convolved(s, params[f"{conv}.weight"].squeeze(1), params[f"{conv}.bias"])
    return s


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU of the causal depthwise convolution: (L, C), (C, K), (C,) → (L, C)."""
    rows = []
    for t in range(len(x)):
        taps = [weight[:, -1 - back] * x[t - back] for back in range(min(weight.shape[1], t + 1))]
        rows.append(bias + torch.stack(taps).sum(0))
    return silu(torch.stack(rows))


def norm(x: Tensor, params: Params, name: str, eps: float) -> Tensor:
    """LayerNorm along the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
    return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]


def silu(x: Tensor) -> Tensor:
    """x σ(x)."""
    return x / (1 + torch.exp(-x))
