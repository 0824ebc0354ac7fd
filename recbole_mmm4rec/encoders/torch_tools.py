"""What every PyTorch encoder needs: a device, a precision, a checkpoint without code in it, a hash of the weights."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.torch_files import load_tensors

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(device: str) -> torch.device:
    """The torch device for "auto", "cpu", "cuda", ...

    Raises:
        UserError: there is no such device.
    """
    cuda = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"--device {device}: no such device; use auto, cpu or cuda") from None
    if chosen.type == "cuda" and not cuda:
        raise UserError(f"--device {device}: this machine has no usable CUDA device; use --device cpu or auto")
    try:
        (torch.zeros(1, device=chosen) + 0).cpu()
    except Exception as error:  # each kind of device has its own
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"--device {device}: cannot be used here ({reason}); use auto, cpu or cuda") from None
    return chosen


def at_precision(device: torch.device | str, precision: str) -> AbstractContextManager[Any]:
    """Within it, "fp16" and "bf16" compute what can be computed so in half the bits; "fp32" changes nothing."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=_DTYPES[precision])


def hash_state(state: Mapping[str, Any]) -> str:
    """sha256 over a model's tensors: name, type, shape and bytes of each, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        if isinstance(tensor, Tensor):
            digest.update(f"{name}\n{tensor.dtype}\n{tuple(tensor.shape)}\n".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint; code in it is never run.

    Args:
        path: a ``.safetensors`` file, or one written by ``torch.save`` with tensors only, bare or under "state_dict"
            or "model"; a prefix "module." of every name goes.

    Raises:
        UserError: no such file, or no such content.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = load_tensors(path)
    except pickle.UnpicklingError:  # PyTorch's words are how to read it all the same
        raise UserError(f"{path}: no checkpoint of tensors: it holds more than tensors and plain values") from None
    except Exception as error:  # zip, safetensors and torch each have errors of their own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: no checkpoint of tensors ({reason})") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: no checkpoint of tensors")
    every = bool(content) and all(name.startswith("module.") for name in content)
    return {name.removeprefix("module.") if every else name: value for name, value in content.items()}


def to_vectors(output: Tensor, normalize: bool) -> np.ndarray:
    """A model's output as (n, dim) float32, scaled to length 1 if asked for."""
    vectors = output.float().flatten(1)
    if normalize:
        vectors = torch.nn.functional.normalize(vectors, dim=1)
    return vectors.cpu().numpy()
