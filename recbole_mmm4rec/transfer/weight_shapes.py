"""What the weights of a network tell about its settings: checkpoints of others bring no configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recbole_mmm4rec.network.items import MODALITIES


def layer_of(name: str) -> int | None:
    """The number of the layer that a parameter belongs to, None outside of the layers."""
    found = re.match(r"(?:cross_)?layers\.(\d+)\.", name)
    return int(found[1]) if found else None


def modalities_of(weights: Mapping[str, Tensor]) -> list[str]:
    """The modalities that have an adapter, text first."""
    return [modality for modality in MODALITIES if f"items.adapter.{modality}.weight" in weights]


def widths_of(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Modality to F, the width of its features."""
    return {modality: weights[f"items.adapter.{modality}.weight"].shape[1] for modality in modalities_of(weights)}


def settings_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings that shape the weights, by RecBole's keys.

    Args:
        weights: parameters by our names.

    Returns:
        the settings; those of parts that are not there, such as ``MAX_ITEM_LIST_LENGTH`` without time, are left out.
        ``n_groups * d_state`` is all that shapes tell of the two.
    """
    block = "layers.0.ssd"
    heads, inner = weights[f"{block}.A_log"].shape[0], weights[f"{block}.norm_weight"].shape[0]
    projected, width = weights[f"{block}.in_proj.weight"].shape
    layers = {layer_of(name) for name in weights} - {None}
    found = {
        "hidden_size": width,
        "expand": inner // width,
        "head_dim": inner // heads,
        "n_groups * d_state": (projected - 2 * inner - heads) // 2,
        "d_conv": weights[f"{block}.conv.weight"].shape[-1],
        "num_layers": len(layers),
        "is_ffn": "layers.0.ffn.fc1.weight" in weights,
        "is_time": "time_input.norm.weight" in weights,
    }
    if found["is_ffn"]:
        found["inner_size"] = weights["layers.0.ffn.fc1.weight"].shape[0]
    if found["is_time"]:
        found["MAX_ITEM_LIST_LENGTH"] = weights["time_input.norm.weight"].shape[0]
        found["p2p_residual"] = weights[f"{block}.time_gate.gate.weight"].shape[0] > 1
    return found
