"""Checkpoints of the published program: their names and quirks.

Source: the state dict (key ``model``) that the program published with arXiv 2506.02916 writes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig

logger = logging.getLogger(__name__)

# published keys that say something about the data, or have no effect on the results
DATA_KEYS = ("item_num", "feature_dim")
IDLE_KEYS = ("is_kai_ming_init", "chunk_size", "loss_type")
FEATURE_NAMES = {"text_embedding": "text", "vision_embedding": "image"}

_SSD = {
    "in_proj": "in_proj",
    "conv1d_1": "conv",
    "conv1d4time_1": "time_scale.conv1.conv",
    "conv1d4time_2": "time_scale.conv2.conv",
    "mlp4time_scale.1": "time_scale.fc1",
    "mlp4time_scale.3": "time_scale.fc2",
    "time_gate_residual.1": "time_gate.gate",
    "time_layer_norm": "time_gate.norm",
    "A_log": "A_log",
    "D": "D_skip",
    "dt_bias": "dt_bias",
    "norm.weight": "norm_weight",
    "out_proj": "out_proj",
    "u_in_proj": "u_proj",
    "z_in_proj": "z_proj",
    "q_in_proj": "q_proj",
    "u_conv1d": "u_conv",
    "q_conv1d": "q_conv",
}
_TOP = {
    "text_adapter.0": "items.adapter.text",
    "vision_adapter.0": "items.adapter.image",
    "text_item_embedding_bias": "items.bias.text",
    "vision_item_embedding_bias": "items.bias.image",
    "text_in_layer_norm": "input_norm.text",
    "vision_in_layer_norm": "input_norm.image",
    "layer_norm_time": "time_input.norm",
    "fusion_factor": "items.fusion",
}
_FFN = {"ffn.fc1": "ffn.fc1", "ffn.fc2": "ffn.fc2", "ffn.layer_norm": "ffn.norm"}
_LAYER = {
    "encoder_ssd_layers": ("layers", {"layer_norm": "norm", **_FFN}),
    "decoder_ssd_layers": (
        "cross_layers",
        {
            "layer_norm": "align_norm",
            "co_layer_norm": "cross_norm",
            # the names tell where a filter's result goes: "text" weighs the image's time signal and the reverse
            "text_complex_weight.0": "filter.image",
            "vision_complex_weight.0": "filter.text",
            "co_complex_weight.0": "filter.joint",
            **_FFN,
        },
    ),
}


def our_name(name: str) -> str | None:
    """The name in :class:`MMM4RecNetwork` of a published parameter, None if there is none.

    The decoder's copies of the encoder's blocks map to the encoder's.
    """
    layer = re.fullmatch(r"(encoder_ssd_layers|decoder_ssd_layers)\.(\d+)\.(.+)", name)
    if layer is None:
        return _translate(name, _TOP)
    stack, index, rest = layer.groups()
    block = re.fullmatch(r"(ssd|co_ssd)\.(.+)", rest)
    if block is not None:
        inner = _translate(block[2], _SSD)
        if inner is None or (stack == "encoder_ssd_layers" and block[1] == "co_ssd"):
            return None
        return f"layers.{index}.ssd.{inner}" if block[1] == "ssd" else f"cross_layers.{index}.cross.{inner}"
    ours, names = _LAYER[stack]
    inner = _translate(rest, names)
    return None if inner is None else f"{ours}.{index}.{inner}"


def _translate(name: str, names: Mapping[str, str]) -> str | None:
    """Replace the leading part of a dotted name."""
    if name in names:
        return names[name]
    stem, _, leaf = name.rpartition(".")
    if stem in names:
        return f"{names[stem]}.{leaf}"
    deeper = re.fullmatch(r"(.+)\.((?:real|imag)\.\w+)", name)  # of a complex filter
    return f"{names[deeper[1]]}.{deeper[2]}" if deeper is not None and deeper[1] in names else None


def renamed(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A published state dict under our names, without the features of its items.

    Args:
        state_dict: the published names.

    Returns:
        our names to tensors, weights that several layers share once; and what is wrong, in words.
    """
    found: dict[str, Tensor] = {}
    unknown, unequal = [], []
    for name, tensor in state_dict.items():
        ours = our_name(name)
        if name in FEATURE_NAMES or (ours == "items.fusion" and tensor.dim() == 0):
            continue  # static fusion carries a scalar without effect
        if ours is None:
            unknown.append(name)
        elif ours in found and not torch.equal(found[ours], tensor):
            unequal.append(name)
        else:
            found[ours] = tensor
    labelled = (("parameters that are not MMM4Rec's", unknown), ("copies of shared weights that differ", unequal))
    return found, [f"{label}: {', '.join(names)}" for label, names in labelled if names]


def network_from_published(
    state_dict: Mapping[str, Any], config: Mapping[str, Any], features: Mapping[str, Tensor] | None = None
) -> MMM4RecNetwork:
    """Build a network from a published checkpoint.

    Args:
        state_dict: the published state dict, or a checkpoint that holds it under ``model``.
        config: the published keys (``max_len``, ``item_num``, …), with ours beside them where wanted
            (``time_padding``, ``d_skip``, ``ssd_backend``). Ours default to :class:`NetworkConfig`'s; the published
            program behaves like ``time_padding: zero_stamp``.
        features: "text" and "image" tables (I+1, F), used where the state dict leaves its own out.

    Returns:
        the network in evaluation mode.

    Raises:
        UserError: an unknown key, or parameters that are missing, left over or of another shape: one message that
            lists them all.
    """
    if isinstance(state_dict.get("model"), Mapping):
        state_dict = state_dict["model"]
    settings = _network_settings(config)
    tables = {ours: state_dict[name] for name, ours in FEATURE_NAMES.items() if name in state_dict}
    for ours, table in (features or {}).items():
        tables.setdefault(ours, table)
    _check_data(tables, config)
    network = MMM4RecNetwork(settings, tables)
    found, problems = _collect(state_dict, network.state_dict())
    if problems:
        raise UserError("the published checkpoint does not fit the configuration: " + "; ".join(problems))
    network.load_state_dict(found)
    logger.info("published checkpoint loaded with time_padding: %s, d_skip: %s", settings.time_padding, settings.d_skip)
    return network.eval()


def _network_settings(config: Mapping[str, Any]) -> NetworkConfig:
    """The network's settings among the published and our keys."""
    known = (*NetworkConfig.setting_names(), *DATA_KEYS, *IDLE_KEYS)
    for key in config:
        if key not in known:
            raise UserError(f"unknown key '{key}' in the published configuration{did_you_mean(key, known)}")
    return NetworkConfig.from_mapping(
        {key: value for key, value in config.items() if key in NetworkConfig.setting_names()}
    )


def _check_data(tables: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Features against ``item_num`` and ``feature_dim``."""
    if not tables:
        raise UserError("the checkpoint holds neither text_embedding nor vision_embedding; pass features={'text': …}")
    for name, table in tables.items():
        wanted = (config.get("item_num", table.shape[0] - 1) + 1, config.get("feature_dim", table.shape[-1]))
        if tuple(table.shape) != wanted:
            raise UserError(
                f"the {name} features are {tuple(table.shape)}, but item_num and feature_dim say {wanted} "
                "(items + 1 padding row, width)"
            )


def _collect(state_dict: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The published tensors under our names, and everything that does not fit."""
    found: dict[str, Tensor] = {name: tensor for name, tensor in wanted.items() if name.startswith("items.missing.")}
    origin: dict[str, str] = {}
    left_over, shapes, unequal = [], [], []
    for name, tensor in state_dict.items():
        if name in FEATURE_NAMES:
            continue
        ours = our_name(name)
        if ours == "items.fusion" and ours not in wanted and tensor.dim() == 0:
            continue  # static fusion carries a scalar without effect
        if ours is None or ours not in wanted:
            left_over.append(name)
            continue
        if tensor.dim() == 3 and wanted[ours].dim() == 2:
            tensor = tensor.squeeze(1)  # a depthwise convolution's (C, 1, K)
        if tensor.shape != wanted[ours].shape:
            shapes.append(f"{name} is {tuple(tensor.shape)}, not {tuple(wanted[ours].shape)}")
        elif ours in found and not torch.equal(found[ours], tensor):
            unequal.append(f"{name} differs from {origin[ours]}")
        else:
            found[ours], origin[ours] = tensor, name
    refused = {our_name(line.split(" ", 1)[0]) for line in shapes}
    missing = sorted(name for name in wanted if name not in found and name not in refused)
    problems = []
    for label, lines in (
        ("missing (our names)", missing),
        ("left over", left_over),
        ("of another shape", shapes),
        ("shared weights that differ", unequal),
    ):
        if lines:
            problems.append(f"{label}: {', '.join(lines)}")
    return found, problems
