"""The pattern shop with a rival on it, telling weights, and what is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pattern_shop import NAME, write_pattern_shop
from safetensors import safe_open
from torch import Tensor, nn

from recbole_mmm4rec.run.build import Run, build, make_config

GOLDEN = Path(__file__).parents[1] / "golden"
TINY: dict[str, Any] = {
    "hidden_size": 16,
    "MAX_ITEM_LIST_LENGTH": 6,
    "learning_rate": 0.01,
    "train_batch_size": 64,
    "show_progress": False,
    "use_gpu": False,
    "topk": [1, 10],
    "valid_metric": "Hit@1",
}


def shop_run(folder: Path, model: str, **changes: Any) -> Run:
    """Loaders and an untrained rival on the pattern shop in ``folder``, which is written where there is none yet."""
    if not (folder / NAME).exists():
        write_pattern_shop(folder)
    given = {**TINY, "data_path": str(folder), "checkpoint_dir": str(folder / "saved"), **changes}
    return build(make_config(model, NAME, config_dict=given), count_flops=False)


class Data:
    """What a model of ids asks of a data set."""

    def __init__(self, items: int) -> None:
        self.items = items

    def num(self, field: str) -> int:
        """I + 1."""
        return self.items


def alone(model: Any, items: int, **config: Any) -> Any:
    """A model of ids without a data set; fields are ``i_list``, ``n``, ``i``, ``t_list``."""
    names = {"USER_ID_FIELD": "u", "ITEM_ID_FIELD": "i", "LIST_SUFFIX": "_list", "ITEM_LIST_LENGTH_FIELD": "n"}
    others = {"NEG_PREFIX": "neg_", "MAX_ITEM_LIST_LENGTH": 9, "device": torch.device("cpu"), "neighbour_weight": 0}
    others["train_neg_sample_args"] = None
    return model({**names, **others, **config}, Data(items))


def telling(model: nn.Module, seed: int = 0) -> None:
    """Weights under which every part matters, in 64 bits, without dropout."""
    draw = torch.Generator().manual_seed(seed)
    model.double().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=draw, dtype=weight.dtype)
            kept = weight if "A_log" in name or (weight.dim() == 1 and "bias" not in name) else 0
            weight.copy_(kept + 0.3 * noise)


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors of a file of :data:`GOLDEN`; its metadata tell how it was made."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return json.loads(file.metadata()["config"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest wanted number."""
    return float((found - wanted).detach().abs().max() / wanted.abs().max())
