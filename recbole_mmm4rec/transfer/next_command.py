"""The command that fine-tunes what a pre-training has made."""

from __future__ import annotations

import shlex
from typing import Any

from recbole_mmm4rec.base.command_names import called
from recbole_mmm4rec.settings.defaults import default_settings
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts


def next_command(config: Any, checkpoint: str) -> str:
    """The command that fine-tunes from a checkpoint, with the settings that must be as they were.

    Args:
        config: RecBole's configuration of the pre-training.
        checkpoint: the file to start from.
    """
    defaults = default_settings(config["model"])
    keys = [key for key in names(Counts.SHAPE) if key in config and config[key] != defaults.get(key)]
    settings = [f"--{key}={str(config[key]).replace(' ', '')}" for key in keys]
    words = [f"--model={config['model']}", "--dataset=NAME", f"--pretrained={checkpoint}", *settings]
    return f"{called('train')} {shlex.join(words)}"
