"""Small networks with telling weights, the data they run on, and the way into the plain reference."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from reference import plain
from safetensors.torch import load_file
from torch import Tensor

from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
from recbole_mmm4rec.transfer.published import our_name

GOLDEN = Path(__file__).parents[1] / "golden"
ITEMS = 23
BOTH = plain.TEXT_AND_IMAGE
SMALL: dict[str, Any] = {
    "max_len": 9,
    "hidden_size": 12,
    "inner_size": 14,
    "d_state": 5,
    "n_groups": 3,  # of 6 heads: neither one group for all nor one for each
    "head_dim": 4,
}


def golden() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the tensors of the published program's run."""
    config: dict[str, Any] = json.loads((GOLDEN / "base.json").read_text())
    return config, load_file(GOLDEN / "base.safetensors")


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix.``, without it."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def small_config(**changes: Any) -> NetworkConfig:
    """:data:`SMALL` with changes."""
    return NetworkConfig(**{**SMALL, **changes})


@dataclass
class Batch:
    """Histories: item_seq (B, L), lengths (B,), timestamps (B, L), all int64."""

    item_seq: Tensor
    lengths: Tensor
    timestamps: Tensor

    def rows(self, index: Any) -> Batch:
        """Some of the histories."""
        return Batch(self.item_seq[index], self.lengths[index], self.timestamps[index])

    def args(self) -> tuple[Tensor, Tensor, Tensor]:
        """In the order in which the network takes them."""
        return self.item_seq, self.lengths, self.timestamps


def make_batch(max_len: int, lengths: list[int] | None = None, seed: int = 0, items: int = ITEMS) -> Batch:
    """Random histories; the padded positions hold item 0 and time 0, as on disk."""
    draw = torch.Generator().manual_seed(seed)
    held = torch.tensor(lengths if lengths is not None else [1, max_len, 5, 2, 7, 3, max_len, 4])
    shape = (len(held), max_len)
    real = torch.arange(max_len) < held[:, None]
    gaps = torch.exp(torch.randn(shape, generator=draw) * 3 + 10).long()
    stamps = 1_400_000_000 + torch.randint(0, 10**8, (shape[0], 1), generator=draw) + gaps.cumsum(1)
    item_seq = torch.randint(1, items + 1, shape, generator=draw)
    return Batch(torch.where(real, item_seq, 0), held, torch.where(real, stamps, 0))


def prefix_batch(lengths: list[int], max_len: int, complete: bool, seed: int = 0) -> tuple[Tensor, ...]:
    """All prefixes (or every other one) of sequences of ``lengths``, shuffled: items, lengths, stamps, origin."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for user, length in enumerate(lengths):
        items = torch.randint(1, 20, (length,), generator=draw)
        stamps = 1_500_000_000 + torch.randint(1, 10**6, (length,), generator=draw).cumsum(0)
        for end in range(1, length + 1):
            if complete or end == length or end % 2:
                rows.append((items[:end], stamps[:end], user + 100))
    rows = [rows[at] for at in torch.randperm(len(rows), generator=draw).tolist()]
    item_seq, times = torch.zeros(len(rows), max_len, dtype=torch.int64), torch.zeros(len(rows), max_len).long()
    for row, (items, stamps, _) in enumerate(rows):
        item_seq[row, : len(items)], times[row, : len(items)] = items, stamps
    ends = torch.tensor([len(items) for items, _, _ in rows])
    return item_seq, ends, times, torch.tensor([user for _, _, user in rows])


def make_features(modalities: tuple[str, ...] = plain.TEXT_AND_IMAGE, items: int = ITEMS) -> dict[str, Tensor]:
    """Random features (I+1, F), of another width for each modality; row 0 zeros."""
    draw = torch.Generator().manual_seed(11)
    widths = {"text": 7, "image": 6}
    made = {m: torch.randn(items + 1, width, generator=draw) for m, width in widths.items()}
    for table in made.values():
        table[0] = 0
    return {m: made[m] for m in modalities}


def make_present(modalities: tuple[str, ...] = plain.TEXT_AND_IMAGE, items: int = ITEMS) -> dict[str, Tensor]:
    """About 30 % of the images and some texts missing; items 4 and 9 have neither, item 1 both."""
    draw = torch.Generator().manual_seed(12)
    image = torch.rand(items + 1, generator=draw) > 0.3
    text = torch.rand(items + 1, generator=draw) > 0.15
    for mask in (image, text):
        mask[[4, 9]] = False
        mask[[0, 1]] = True
    assert (image & ~text).any()
    assert (text & ~image).any()
    return {m: {"text": text, "image": image}[m] for m in modalities}


def randomise(network: MMM4RecNetwork, seed: int = 3) -> MMM4RecNetwork:
    """Give every parameter a value that shows: no zeros, no ones, matrices that pass their input on."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(network.named_parameters()):
            noise = torch.randn(value.shape, generator=draw, dtype=torch.float64).to(value.dtype)
            if value.dim() >= 2 and not name.startswith(("items.bias", "items.fusion")):
                value.copy_(noise / math.sqrt(value.shape[-1] if "conv" not in name else 2))
            else:
                value.add_(0.4 * noise)
    return network


def make_network(
    config: NetworkConfig,
    modalities: tuple[str, ...] = plain.TEXT_AND_IMAGE,
    present: Mapping[str, Tensor] | None = None,
    seed: int = 3,
) -> MMM4RecNetwork:
    """A float64 network with telling weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MMM4RecNetwork(config, make_features(modalities), present)
    return randomise(network.double(), seed).eval()


def _ssd_names(is_time: bool, text: bool) -> list[str]:
    """The published names inside an ``ssd`` (``text``) or a ``co_ssd``."""
    linears = ["in_proj"] if text else ["u_in_proj", "z_in_proj", "q_in_proj"]
    linears += ["conv1d_1"] if text else ["u_conv1d", "q_conv1d"]
    if is_time:
        linears += ["conv1d4time_1", "conv1d4time_2", "mlp4time_scale.1", "mlp4time_scale.3"]
        linears += ["time_gate_residual.1", "time_layer_norm"] if text else []
    names = [f"{name}.{leaf}" for name in [*linears, "out_proj"] for leaf in ("weight", "bias")]
    return [*names, "A_log", "D", "dt_bias", "norm.weight"]


def published_names(config: NetworkConfig, modalities: tuple[str, ...]) -> list[str]:
    """The published names of every trainable tensor, shared ones once."""
    prefixes = [plain.PUBLISHED_PREFIX[m] for m in modalities]
    modules = [f"{prefix}_{name}" for prefix in prefixes for name in ("adapter.0", "in_layer_norm")]
    modules += ["layer_norm_time"] if config.is_time else []
    names = [f"{prefix}_item_embedding_bias" for prefix in prefixes] if config.is_modality_bias else []
    if len(modalities) == 2 and config.item_mm_fusion != "static":
        names.append("fusion_factor")
    ffn = ["ffn.fc1", "ffn.fc2", "ffn.layer_norm"] if config.is_ffn else []
    for i in range(config.num_layers):
        modules += [f"encoder_ssd_layers.{i}.{name}" for name in ["layer_norm", *ffn]]
        names += [f"encoder_ssd_layers.{i}.ssd.{name}" for name in _ssd_names(config.is_time, text=True)]
        if len(modalities) == 2:
            if config.ablation == "sharing":
                names += [f"decoder_ssd_layers.{i}.own.{name}" for name in _ssd_names(config.is_time, text=True)]
            norms = ["co_layer_norm"] if config.ablation == "alignment" else ["layer_norm", "co_layer_norm"]
            modules += [f"decoder_ssd_layers.{i}.{name}" for name in [*norms, *ffn]]
            if config.ablation != "cross":
                names += [f"decoder_ssd_layers.{i}.co_ssd.{name}" for name in _ssd_names(config.is_time, text=False)]
            if config.is_time and config.ablation not in ("cross", "filter"):
                filters = ("text_complex_weight.0", "vision_complex_weight.0", "co_complex_weight.0")
                modules += [f"decoder_ssd_layers.{i}.{f}.{half}" for f in filters for half in ("real", "imag")]
    return names + [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]


def published_parameters(network: MMM4RecNetwork) -> dict[str, Tensor]:
    """Copies of the network's parameters under published names and shapes, as leaves for gradients."""
    parameters = dict(network.named_parameters())
    modalities = network.items.modalities
    made: dict[str, Tensor] = {}
    for name in published_names(network.config, modalities):
        value = parameters.pop(our_parameter_name(name)).detach().clone()
        flat_conv = "conv1d" in name and name.endswith("weight") and value.dim() == 2
        made[name] = value.unsqueeze(1) if flat_conv else value
    for modality in modalities:
        made[f"missing.{modality}"] = parameters.pop(f"items.missing.{modality}").detach().clone()
    assert not parameters, f"without a published name: {sorted(parameters)}"
    for value in made.values():
        value.requires_grad_()
    return made


def our_parameter_name(name: str) -> str:
    """The network's name of a parameter of :func:`published_parameters`."""
    if name.startswith("missing."):
        return f"items.{name}"
    own = re.fullmatch(r"decoder_ssd_layers\.(\d+)\.own\.(.+)", name)  # of an ablation, which nobody has published
    ours = our_name(name if own is None else f"encoder_ssd_layers.{own[1]}.ssd.{own[2]}")
    assert ours is not None, name
    return ours if own is None else ours.replace(f"layers.{own[1]}.ssd", f"cross_layers.{own[1]}.own")


def reference_inputs(network: MMM4RecNetwork) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights with features, and settings, as :mod:`reference.plain` takes them."""
    params = published_parameters(network)
    features = make_features(network.items.modalities)
    for modality, table in features.items():
        params[f"{plain.PUBLISHED_PREFIX[modality]}_embedding"] = table.to(params[f"missing.{modality}"].dtype)
    return params, asdict(network.config)


def relative(found: Tensor, wanted: Tensor) -> float:
    """Largest difference relative to the largest value wanted."""
    return float((found - wanted).detach().abs().max() / wanted.detach().abs().max())
