"""A small open_clip model with random weights, for machines without a model hub."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}


def make_tiny_clip(folder: Path) -> Path:
    """Registers the architecture ``tiny-clip``, writes a checkpoint ``weights.pt`` and a folder ``whole`` with both.

    Returns:
        ``folder``.
    """
    folder.mkdir(exist_ok=True)
    (folder / "tiny-clip.json").write_text(json.dumps(MODEL))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(1)
    model = open_clip.create_model("tiny-clip")
    torch.save({"state_dict": model.state_dict()}, folder / "weights.pt")
    (folder / "whole").mkdir()
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (folder / "whole/open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "whole/open_clip_model.safetensors")
    return folder
