"""The network a second time, as its mathematics reads: padded, every position, one step of the recurrence at a time.

Nothing of ``recbole_mmm4rec`` is used here and nothing is shared, saved or left out: features are gathered and adapted
position by position, every position of every layer is computed, every modality scores with a product of its own.
Weights go by the names of published checkpoints (docs/model.md); ``missing.text`` and ``missing.image`` are ours.

Axes: B users, L positions, D hidden size, E inner width, H heads, P head_dim, G groups, N d_state, I items (0 pads).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Params = Mapping[str, Tensor]
Settings = Mapping[str, Any]
Dropout = Callable[[Tensor, float, str], Tensor]  # values, probability, the place's name
Signal = Tensor | None  # the time signal (B, H, L), absent without time
TEXT_AND_IMAGE = ("text", "image")
PUBLISHED_PREFIX = {"text": "text", "image": "vision"}


def no_dropout(x: Tensor, p: float, place: str) -> Tensor:
    """Dropout of evaluation: nothing is dropped."""
    return x


def linear(x: Tensor, params: Params, name: str) -> Tensor:
    """``name``'s affine map along the last axis."""
    return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def layer_norm(x: Tensor, params: Params, name: str, eps: float) -> Tensor:
    """``name``'s LayerNorm along the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps)
    return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]


def causal_conv(x: Tensor, params: Params, name: str) -> Tensor:
    """SiLU of ``name``'s causal depthwise convolution of x (B, C, L): y_t = b + Σ_k w_k x_(t-K+1+k)."""
    weight = params[f"{name}.weight"][:, 0]  # (C, K)
    width, length = weight.shape[1], x.shape[2]
    padded = torch.cat([x.new_zeros(*x.shape[:2], width - 1), x], dim=2)
    y = sum(weight[:, k, None] * padded[:, :, k : k + length] for k in range(width)) + params[f"{name}.bias"][:, None]
    return F.silu(y)


def conv_over_positions(x: Tensor, params: Params, name: str) -> Tensor:
    """``causal_conv`` of x (B, L, C)."""
    return causal_conv(x.transpose(1, 2), params, name).transpose(1, 2)


def gaps(timestamps: Tensor, lengths: Tensor, time_padding: str) -> Tensor:
    """Seconds since the position before, (B, L) float32; the first is 0."""
    real = torch.arange(timestamps.shape[1]) < lengths[:, None]
    stamps = torch.where(real, timestamps, 0)
    gap = torch.cat([torch.zeros_like(stamps[:, :1]), stamps[:, 1:] - stamps[:, :-1]], dim=1)
    if time_padding == "masked":
        gap = torch.where(real, gap, 0)
    return gap.float()


def time_scale(g: Tensor, params: Params, name: str, settings: Settings, dropout: Dropout) -> Tensor:
    """The factor s (B, H, L) on dt, from the time signal g (B, H, L)."""
    inner = dropout(g, settings["time_dropout_prob"], f"{name}.mlp4time_scale")
    inner = linear(F.silu(linear(inner, params, f"{name}.mlp4time_scale.1")), params, f"{name}.mlp4time_scale.3")
    s = (inner - torch.tanh(inner)) * g
    return causal_conv(causal_conv(s, params, f"{name}.conv1d4time_1"), params, f"{name}.conv1d4time_2")


def recurrence(
    x: Tensor, dt: Tensor, s: Signal, b: Tensor, c: Tensor, params: Params, name: str, settings: Settings
) -> Tensor:
    """y (B, L, E) of the state-space recurrence: x (B, L, E), dt (B, L, H), s (B, H, L), b and c (B, L, G*N)."""
    (batch, length, width), heads = x.shape, dt.shape[2]
    groups, skip = settings["n_groups"], params[f"{name}.D"]
    step = (dt if s is None else dt * s.transpose(1, 2)) + params[f"{name}.dt_bias"]
    delta = torch.logaddexp(step, torch.zeros_like(step))  # softplus; PyTorch's own is the identity above 20
    decay = torch.exp(-torch.exp(params[f"{name}.A_log"]) * delta)  # (B, L, H)
    x = x.reshape(batch, length, heads, width // heads)
    group_of_head = [head * groups // heads for head in range(heads)]
    b = b.reshape(batch, length, groups, -1)[:, :, group_of_head]  # (B, L, H, N)
    c = c.reshape(batch, length, groups, -1)[:, :, group_of_head]
    state = x.new_zeros(batch, heads, width // heads, b.shape[-1])  # (B, H, P, N)
    ys = []
    for t in range(length):
        x_in = delta[:, t, :, None] * x[:, t]  # (B, H, P)
        state = decay[:, t, :, None, None] * state + x_in[..., None] * b[:, t, :, None, :]
        passed = x_in if settings["d_skip"] == "scaled" else x[:, t]
        ys.append((state * c[:, t, :, None, :]).sum(-1) + skip[:, None] * passed)
    return torch.stack(ys, dim=1).reshape(batch, length, width)


def gated_output(y: Tensor, z: Tensor, params: Params, name: str, eps: float) -> Tensor:
    """out_proj(RMSNorm(y·SiLU(z))): gate first, then the norm over all of E."""
    gated = y * F.silu(z)
    normed = gated / torch.sqrt(gated.square().mean(-1, keepdim=True) + eps) * params[f"{name}.norm.weight"]
    return linear(normed, params, f"{name}.out_proj")


def widths(settings: Settings) -> tuple[int, int, int]:
    """E, G*N and H."""
    inner = settings["expand"] * settings["hidden_size"]
    return inner, settings["n_groups"] * settings["d_state"], inner // settings["head_dim"]


def tissd(
    u: Tensor, g: Signal, params: Params, name: str, settings: Settings, dropout: Dropout, who: str
) -> tuple[Tensor, Signal]:
    """The time-aware SSD block: u (B, L, D), g (B, H, L) → out (B, L, D), g' (B, H, L)."""
    inner, state, heads = widths(settings)

    def drop(x: Tensor, p: float, place: str) -> Tensor:  # text and image pass the same block: tell their places apart
        return dropout(x, p, f"{who}:{place}")

    z, xbc, dt = linear(u, params, f"{name}.in_proj").split([inner, inner + 2 * state, heads], dim=-1)
    x, b, c = conv_over_positions(xbc, params, f"{name}.conv1d_1").split([inner, state, state], dim=-1)
    s = None if g is None else time_scale(g, params, name, settings, drop)
    y = recurrence(x, dt, s, b, c, params, name, settings)
    out = gated_output(y, z, params, name, settings["norm_eps"])
    if g is None or s is None:
        return out, None
    gate = drop(g, settings["time_dropout_prob"], f"{name}.time_gate_residual")
    r = torch.sigmoid(linear(gate, params, f"{name}.time_gate_residual.1"))  # (B, H, 1), or (B, H, L) point to point
    return out, layer_norm(r * g + (1 - r) * s, params, f"{name}.time_layer_norm", settings["norm_eps"])


def feed_forward(x: Tensor, params: Params, name: str, settings: Settings, dropout: Dropout) -> Tensor:
    """FFN(x), or x itself without ``is_ffn``."""
    if not settings["is_ffn"]:
        return x
    p = settings["dropout_prob"]
    hidden = dropout(F.hardswish(linear(x, params, f"{name}.fc1")), p, f"{name}.hidden")
    out = dropout(linear(hidden, params, f"{name}.fc2"), p, f"{name}.out")
    return layer_norm(out + x, params, f"{name}.layer_norm", settings["norm_eps"])


def tissd_layer(
    x: Tensor, g: Signal, params: Params, layer: int, settings: Settings, dropout: Dropout, who: str
) -> tuple[Tensor, Signal]:
    """Layer ``layer`` of a stream on its own."""
    name = f"encoder_ssd_layers.{layer}"
    h, g = tissd(x, g, params, f"{name}.ssd", settings, dropout, who)
    h = dropout(h, settings["dropout_prob"], f"{name}.ssd.out") + x
    h = layer_norm(h, params, f"{name}.layer_norm", settings["norm_eps"])
    return feed_forward(h, params, f"{name}.ffn", settings, dropout), g


def complex_linear(z: Tensor, params: Params, name: str) -> Tensor:
    """The complex map F → F made of two real ones, each with its bias."""
    re, im = z.real, z.imag
    real = linear(re, params, f"{name}.real") - linear(im, params, f"{name}.imag")
    return torch.complex(real, linear(re, params, f"{name}.imag") + linear(im, params, f"{name}.real"))


def fourier_filter(g_image: Tensor, g_text: Tensor, params: Params, name: str) -> Tensor:
    """The dual-channel filter of both time signals (B, H, L)."""
    a = torch.fft.rfft(g_image, norm="ortho")
    a = complex_linear(a, params, f"{name}.text_complex_weight.0") * a
    b = torch.fft.rfft(g_text, norm="ortho")
    b = complex_linear(b, params, f"{name}.vision_complex_weight.0") * b
    mixed = complex_linear(a + b, params, f"{name}.co_complex_weight.0")
    return torch.fft.irfft(mixed, n=g_text.shape[-1], norm="ortho")


def cross_ssd(
    q: Tensor, u: Tensor, g: Signal, params: Params, name: str, settings: Settings, dropout: Dropout
) -> Tensor:
    """Cross-SSD: q (B, L, D) asks, u (B, L, D) is the sequence, g (B, H, L) the filtered time signal."""
    inner, state, heads = widths(settings)
    xb, dt = linear(u, params, f"{name}.u_in_proj").split([inner + state, heads], dim=-1)
    x, b = conv_over_positions(xb, params, f"{name}.u_conv1d").split([inner, state], dim=-1)
    c = conv_over_positions(linear(q, params, f"{name}.q_in_proj"), params, f"{name}.q_conv1d")
    z = linear(q + u, params, f"{name}.z_in_proj")
    s = None if g is None else time_scale(g, params, name, settings, dropout)
    return gated_output(recurrence(x, dt, s, b, c, params, name, settings), z, params, name, settings["norm_eps"])


def cross_layer(
    text: Tensor,
    image: Tensor,
    g_text: Signal,
    g_image: Signal,
    params: Params,
    layer: int,
    settings: Settings,
    dropout: Dropout,
) -> tuple[Tensor, Signal]:
    """Layer ``layer`` of the image stream: alignment by the text stream's block, Fourier filter, Cross-SSD.

    ``ablation`` takes one of them away: ``filter`` (the two time signals are added), ``sharing`` (the image stream has
    a block of its own), ``alignment`` (it meets the text stream as it is), ``cross`` (the two streams are added).
    """
    name, eps, p = f"decoder_ssd_layers.{layer}", settings["norm_eps"], settings["dropout_prob"]
    without = settings["ablation"]
    if without == "alignment":
        h = image
    else:
        block = f"{name}.own" if without == "sharing" else f"encoder_ssd_layers.{layer}.ssd"
        h, g_image = tissd(image, g_image, params, block, settings, dropout, "image")
        h = layer_norm(dropout(h, p, f"{name}.ssd.out") + image, params, f"{name}.layer_norm", eps)
    if without == "cross":
        o = h + text
    else:
        g: Signal = None
        if g_image is not None and g_text is not None:
            g = g_image + g_text if without == "filter" else fourier_filter(g_image, g_text, params, name)
        o = (
            dropout(cross_ssd(h, text, g, params, f"{name}.co_ssd", settings, dropout), p, f"{name}.co_ssd.out")
            + h
            + text
        )
    o = layer_norm(o, params, f"{name}.co_layer_norm", eps)
    return feed_forward(o, params, f"{name}.ffn", settings, dropout), g_image


def item_vectors(
    items: Tensor, modality: str, params: Params, settings: Settings, present: Mapping[str, Tensor] | None
) -> Tensor:
    """Vectors (..., D) of items (...), each from its own features."""
    name = PUBLISHED_PREFIX[modality]
    vectors = linear(params[f"{name}_embedding"][items], params, f"{name}_adapter.0")
    if present is not None:
        vectors = torch.where(present[modality][items][..., None], vectors, params[f"missing.{modality}"])
    if settings["is_modality_bias"]:
        vectors = vectors + params[f"{name}_item_embedding_bias"][items]
    return vectors


def user_vectors(
    params: Params,
    settings: Settings,
    item_seq: Tensor,
    lengths: Tensor,
    timestamps: Tensor | None = None,
    present: Mapping[str, Tensor] | None = None,
    modalities: tuple[str, ...] = TEXT_AND_IMAGE,
    dropout: Dropout = no_dropout,
) -> Tensor:
    """User vectors (B, D).

    Args:
        params: weights under published names.
        settings: the published configuration keys, ``time_padding`` and ``d_skip``.
        item_seq: (B, L) int64, right-padded with 0.
        lengths: (B,) int64.
        timestamps: (B, L) int64, seconds; needed with ``is_time``.
        present: for each modality which items (I+1,) bool have it; None when all do.
        modalities: both, or one alone.
        dropout: what stands for dropout at each place.
    """
    heads, eps = widths(settings)[2], settings["norm_eps"]
    streams: dict[str, Tensor] = {}
    signals: dict[str, Signal] = {}
    for modality in modalities:
        vectors = dropout(
            item_vectors(item_seq, modality, params, settings, present),
            settings["embedding_drop_prob"],
            f"{modality}.input",
        )
        streams[modality] = layer_norm(vectors, params, f"{PUBLISHED_PREFIX[modality]}_in_layer_norm", eps)
        signals[modality] = None
        if settings["is_time"]:
            assert timestamps is not None
            gap = gaps(timestamps, lengths, settings["time_padding"]).to(vectors.dtype)
            row = dropout(gap, settings["time_dropout_prob"], f"{modality}.gaps")
            row = layer_norm(row, params, "layer_norm_time", eps)
            signals[modality] = torch.stack([row] * heads, dim=1)  # (B, H, L)
    first = modalities[0]
    for layer in range(settings["num_layers"]):
        streams[first], signals[first] = tissd_layer(
            streams[first], signals[first], params, layer, settings, dropout, first
        )
        if len(modalities) == 2:
            streams["image"], signals["image"] = cross_layer(
                streams["text"], streams["image"], signals["text"], signals["image"], params, layer, settings, dropout
            )
    return torch.stack([streams[modalities[-1]][row, length - 1] for row, length in enumerate(lengths.tolist())])


def scores(
    user: Tensor,
    params: Params,
    settings: Settings,
    present: Mapping[str, Tensor] | None = None,
    modalities: tuple[str, ...] = TEXT_AND_IMAGE,
) -> Tensor:
    """Scores (B, I+1) of every item, the padding row among them."""
    items = torch.arange(len(params[f"{PUBLISHED_PREFIX[modalities[0]]}_embedding"]))
    logits, has = [], []
    for modality in modalities:
        table = item_vectors(items, modality, params, settings, present)
        norm = table.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12)
        logits.append(user @ (table / norm).T)  # (B, I+1)
        has.append(torch.ones(len(items), dtype=torch.bool) if present is None else present[modality])
    weights = torch.ones(len(items), len(modalities), dtype=user.dtype)
    if len(modalities) == 2 and settings["item_mm_fusion"] != "static":
        weights = torch.softmax(params["fusion_factor"], dim=-1).expand(len(items), 2)
    has_any = torch.stack(has).any(0)
    counted = torch.stack(has, dim=1) | ~has_any[:, None]  # an item without anything is scored as if it had everything
    weights_present = weights * counted
    fused = sum(weights_present[:, m] * logits[m] for m in range(len(modalities)))
    return fused * (weights.sum(1) / weights_present.sum(1)) / settings["temperature"]


def full_loss(all_scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over all columns of scores (B, I+1), the padding column included as published."""
    return (torch.logsumexp(all_scores, dim=1) - all_scores[torch.arange(len(labels)), labels]).mean()


def in_batch_loss(all_scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy among the batch's own labels: column j is row j's label, duplicates stay."""
    return full_loss(all_scores[:, labels], torch.arange(len(labels)))
