"""Scores and gradients of the published program, computed again by every backend that runs on this machine."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.ops.choice import backend_and_reason
from recbole_mmm4rec.transfer.published import network_from_published, our_name

BACKENDS = ("torch", "numba", "recurrence", "mamba_ssm")
PADDINGS = {"masked": ("scores_masked_padding", "grad_masked_padding"), "zero_stamp": ("scores", "grad")}
"""``time_padding`` → what the golden tensors call its scores and its gradients."""


@dataclass(frozen=True)
class Outcome:
    """How one backend did on one device.

    Attributes:
        backend, device: which.
        scores: largest error of a score, relative to the largest score; None where it did not run.
        gradients: largest error of a parameter's gradient, relative to its norm; None where it did not run.
        seconds: for all of it, compiling included.
        passed: whether both are small enough; None where the backend cannot run here.
        why: it did not run, in words; or the error it ended with.
    """

    backend: str
    device: str
    scores: float | None = None
    gradients: float | None = None
    seconds: float = 0.0
    passed: bool | None = None
    why: str = ""


def golden_folder() -> Path:
    """The folder of the published program's tensors: inside an installed package, among the tests otherwise."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "golden"
    return installed if installed.is_dir() else package.parent / "tests" / "golden"


def read_golden(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The published configuration and tensors."""
    from safetensors.torch import load_file

    config: dict[str, Any] = json.loads((folder / "base.json").read_text(encoding="utf-8"))
    return config, load_file(folder / "base.safetensors")


def run_self_test(devices: tuple[str, ...]) -> list[Outcome]:
    """Compare every backend on every device with the golden tensors.

    Args:
        devices: "cpu", "cuda".
    """
    config, tensors = read_golden(golden_folder())
    return [_outcome(config, tensors, backend, device) for device in devices for backend in BACKENDS]


def _outcome(config: Mapping[str, Any], tensors: Mapping[str, Tensor], backend: str, device: str) -> Outcome:
    if backend == "mamba_ssm" and device == "cpu":
        return Outcome(backend, device, why="its kernels need a GPU")
    try:
        backend_and_reason(backend, device)
    except UserError as error:
        return Outcome(backend, device, why=str(error))
    begun = time.perf_counter()
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = [_errors(config, tensors, backend, device, padding) for padding in PADDINGS]
    except Exception as error:  # the report says what happened, whatever it is
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(backend, device, seconds=time.perf_counter() - begun, passed=False, why=words[:300])
    scores, gradients = (_largest(errors) for errors in zip(*found, strict=True))
    # Triton's kernels and a GPU's sums are exact to fewer digits
    most = (1e-4, 1e-3) if backend == "mamba_ssm" or device != "cpu" else (1e-5, 1e-4)
    passed = scores <= most[0] and gradients <= most[1]
    return Outcome(backend, device, scores, gradients, time.perf_counter() - begun, passed)


def _errors(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], backend: str, device: str, padding: str
) -> tuple[float, float]:
    """The largest relative errors of scores and gradients."""
    scores_name, gradients_name = PADDINGS[padding]
    settings = {**config, "time_padding": padding, "ssd_backend": backend}
    network = network_from_published(_part(tensors, "model"), settings).to(device)
    seq, length, stamps, label = (
        tensors[f"input.{name}"].to(device) for name in ("item_seq", "length", "timestamp", "label")
    )
    tables = network.items.tables()
    # the published program takes padding for a class; ours does not, hence not network.scores
    logits = network.user_vectors(seq, length, stamps, tables) @ network.fused_items(tables).T
    torch.nn.functional.cross_entropy(logits, label).backward()
    wanted = tensors[f"output.{scores_name}"]
    scores = float((logits.detach().cpu() - wanted).abs().max() / wanted.abs().max())
    parameters = dict(network.named_parameters())
    gradients = []
    for name, gradient in _part(tensors, gradients_name).items():
        ours = parameters[str(our_name(name))].grad
        off = gradient if ours is None else ours.cpu().reshape(gradient.shape) - gradient
        gradients.append(float(off.norm() / gradient.norm()))
    return scores, _largest(gradients)


def _largest(errors: Iterable[float]) -> float:
    """The largest error; what is no number is infinitely large."""
    return max(float("inf") if math.isnan(error) else error for error in errors)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
