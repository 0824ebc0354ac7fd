"""UniSRec a second time, as its formulas read: one user, one position, one expert, one head after the other.

Nothing of ``recbole_mmm4rec`` is used here but the names of the weights. Sources: arXiv 2206.05941, equations 2 to 5;
of the Transformer arXiv 1706.03762, a position seeing the past alone, LayerNorms behind, as RecBole's SASRec has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
EPS = 1e-12


def item_vector(params: Params, features: Tensor, item: int) -> Tensor:
    """(D,) of an item: its features (F,) through the experts, and its ID where there are IDs."""
    experts = len(params["adaptor.whiten"])
    logits = [params["adaptor.gate"][:, k] @ features for k in range(experts)]
    total = sum(math.e**logit for logit in logits)
    made = torch.zeros(params["norm.weight"].shape, dtype=features.dtype)
    for k in range(experts):
        whitened = params[f"adaptor.experts.{k}.weight"] @ (features - params["adaptor.whiten"][k])
        made = made + math.e ** logits[k] / total * whitened
    ids = params.get("item_embedding.weight")
    return made if ids is None else made + ids[item]


def user_vector(params: Params, features: Tensor, items: list[int], layers: int, heads: int) -> Tensor:
    """(D,) of a history, oldest item first, of length 1; features (I+1, F)."""
    rows = [
        norm(item_vector(params, features[item], item) + params["position_embedding.weight"][place], params, "norm")
        for place, item in enumerate(items)
    ]
    for layer in range(layers):
        start = f"encoder.layer.{layer}."
        own = {name.removeprefix(start): value for name, value in params.items() if name.startswith(start)}
        rows = [block(own, rows[: place + 1], heads) for place in range(len(rows))]
    return rows[-1] / rows[-1].norm()


def block(params: Params, rows: list[Tensor], heads: int) -> Tensor:
    """A Transformer layer at the last of ``rows``, (D,) each."""
    width = len(rows[-1]) // heads
    query = linear(rows[-1], params, "multi_head_attention.query")
    keys = [linear(row, params, "multi_head_attention.key") for row in rows]
    values = [linear(row, params, "multi_head_attention.value") for row in rows]
    parts = []
    for head in range(heads):
        at = slice(head * width, (head + 1) * width)
        weights = [torch.exp(query[at] @ key[at] / math.sqrt(width)) for key in keys]
        parts.append(sum(w * value[at] for w, value in zip(weights, values, strict=True)) / sum(weights))
    h = linear(torch.cat(parts), params, "multi_head_attention.dense") + rows[-1]
    h = norm(h, params, "multi_head_attention.LayerNorm")
    inner = linear(h, params, "feed_forward.dense_1")
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return norm(linear(inner, params, "feed_forward.dense_2") + h, params, "feed_forward.LayerNorm")


def linear(row: Tensor, params: Params, name: str) -> Tensor:
    """An affine map."""
    return params[f"{name}.weight"] @ row + params[f"{name}.bias"]


def norm(row: Tensor, params: Params, name: str) -> Tensor:
    """LayerNorm of a vector."""
    centred = row - row.mean()
    return centred / torch.sqrt((centred**2).mean() + EPS) * params[f"{name}.weight"] + params[f"{name}.bias"]
