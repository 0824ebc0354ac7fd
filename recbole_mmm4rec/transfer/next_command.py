"""The command that fine-tunes what a pre-training has made."""

from __future__ import annotations

import shlex
from typing import Any

from recbole_mmm4rec.settings.keys import default_settings

_SHAPING = (
    *("MAX_ITEM_LIST_LENGTH", "hidden_size", "inner_size", "num_layers", "d_state", "n_groups", "head_dim", "expand"),
    *("d_conv", "is_ffn", "is_time", "p2p_residual", "time_padding", "d_skip", "temperature", "modalities"),
)
"""Keys that a fine-tuning must share with its pre-training."""


def next_command(config: Any, checkpoint: str) -> str:
    """The command that fine-tunes from a checkpoint, with the settings that must be as they were.

    Args:
        config: RecBole's configuration of the pre-training.
        checkpoint: the file to start from.
    """
    defaults = default_settings(config["model"])
    keys = [key for key in _SHAPING if key in config and config[key] != defaults.get(key)]
    settings = [f"--{key}={str(config[key]).replace(' ', '')}" for key in keys]
    words = [f"--model={config['model']}", "--dataset=NAME", f"--pretrained={checkpoint}", *settings]
    return shlex.join(["python", "run_recbole.py", *words])
