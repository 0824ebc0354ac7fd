"""Optimiser, learning-rate schedule and precision from RecBole's configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn, optim

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.settings.registry import setting
from recbole_mmm4rec.training.piecewise import PiecewiseAdam, PiecewiseAdamW, PiecewiseNAdam
from recbole_mmm4rec.training.row_wise import RowWiseAdam, RowWiseAdamW, RowWiseNAdam

ROW_WISE_LOSSES = ("sampled", "in_batch")
"""Losses that touch few rows of the ID tables."""
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# parameters of the scan that are no weights of a linear map
_STATE_SPACE = ("A_log", "D_skip", "dt_bias")


def parameter_groups(
    model: nn.Module, weight_decay: float, decay_norms: bool, factors: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Parameters with and without weight decay.

    Args:
        model: its trainable parameters are grouped.
        weight_decay: for those that decay.
        decay_norms: True lets everything decay; False spares A_log, D_skip, dt_bias, norms and biases, that is all
            vectors. The ID tables, which the paper calls bias, are tables and decay.
        factors: parameter to ``lr_factor`` of its group, 1 for those that are not named; see :func:`build_optimizer`.
    """
    trainable = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, weight in trainable:
        spared = not decay_norms and (weight.dim() < 2 or name.rsplit(".", 1)[-1] in _STATE_SPACE)
        groups.setdefault(((factors or {}).get(name, 1.0), spared), []).append(weight)
    order = sorted(groups, key=lambda group: (group[0] != 1.0, group))  # the rate that is logged is the first group's
    return [
        {"params": groups[factor, spared], "weight_decay": 0.0 if spared else weight_decay, "lr_factor": factor}
        for factor, spared in order
    ]


def build_optimizer(
    groups: Iterable[dict[str, Any]], learner: str, learning_rate: float, decoupled: bool, row_wise: bool = False
) -> optim.Optimizer:
    """Adam, AdamW or NAdam, large tables piece by piece (:mod:`recbole_mmm4rec.training.piecewise`).

    Args:
        groups: see :func:`parameter_groups`; ``lr_factor`` of a group multiplies its rate.
        learner: adam, adamw or nadam.
        learning_rate: step size, greater than 0.
        decoupled: NAdam's decay is taken off the weights (as AdamW does) instead of being added to the gradient.
        row_wise: it takes sparse gradients and then touches only their rows, see :mod:`.row_wise`.

    Raises:
        UserError: an unknown learner or a learning rate that is not positive.
    """
    if not learning_rate > 0:
        raise UserError(f"learning_rate must be greater than 0, not {learning_rate}")
    groups = [{**group, "lr": learning_rate * group.get("lr_factor", 1.0)} for group in groups]
    if learner == "adam":
        return (RowWiseAdam if row_wise else PiecewiseAdam)(groups, lr=learning_rate)
    if learner == "adamw":
        return (RowWiseAdamW if row_wise else PiecewiseAdamW)(groups, lr=learning_rate)
    if learner == "nadam":
        kind = RowWiseNAdam if row_wise else PiecewiseNAdam
        return kind(groups, lr=learning_rate, decoupled_weight_decay=decoupled)
    raise UserError(f"learner={learner!r}: {setting('learner').kind.complaint(learner)}")


def row_wise_choice(config: Any) -> bool:
    """Whether ID tables get row-wise gradients and optimiser steps, from ``row_wise_ids``.

    ``auto`` says so for losses that touch few rows of them, in a training of one process: the sum over processes of
    RecBole's sends dense gradients.

    Raises:
        UserError: True with several processes.
    """
    wanted = config["row_wise_ids"]
    alone = config["single_spec"] is not False
    if wanted is None or wanted == "auto":
        return alone and str(config["loss_type"]) in ROW_WISE_LOSSES
    if wanted and not alone:
        raise UserError("row_wise_ids: True works in one process only; set it to auto, or leave nproc at 1")
    return bool(wanted)


def learning_rate_factor(step: int, schedule: str, warmup: int, total: int, floor: float) -> float:
    """The factor of the learning rate at an optimiser step.

    Args:
        step: 0 for the first.
        schedule: "constant", "linear" or "cosine" after the warm-up.
        warmup: steps over which the rate rises linearly to its full value.
        total: steps of the whole training, at which linear and cosine arrive at ``floor``.
        floor: share of the full rate that is left at the end.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    shape = 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return floor + (1 - floor) * shape


def checked_schedule(config: Any) -> tuple[str, int, float]:
    """``lr_schedule``, ``warmup_steps`` and ``lr_floor`` of a configuration.

    Raises:
        UserError: a value out of its range.
    """
    for name in ("lr_schedule", "warmup_steps", "lr_floor"):
        setting(name).check(config[name])
    return config["lr_schedule"] or "constant", config["warmup_steps"] or 0, float(config["lr_floor"] or 0.0)


def checked_precision(config: Any) -> torch.dtype:
    """The dtype of autocast, from ``amp_dtype``.

    Raises:
        UserError: neither bfloat16 nor float16.
    """
    setting("amp_dtype").check(config["amp_dtype"])
    return PRECISIONS[config["amp_dtype"] or "bfloat16"]
