"""The stages of a training: pre-training on merged shops, or training on one."""

from __future__ import annotations

from typing import Any

PRETRAIN = "pretrain"


def is_pretraining(config: Any) -> bool:
    """Whether a configuration is one of pre-training."""
    return bool(config["stage"] == PRETRAIN)
