"""mamba-ssm's and causal-conv1d's kernels: finding them, saying why they are not used, calling them.

Nothing here is imported before the kernels are asked for, so that the package works where neither is installed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError


def interpreted() -> bool:
    """Whether Triton runs its kernels in its interpreter, on any device."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _triton_function(module: str, name: str) -> Callable[..., Tensor] | str:
    """A function of mamba-ssm's Triton modules, or why there is none.

    ``import mamba_ssm`` itself needs compiled CUDA code that these do not; where that part fails, they are imported
    under a bare package object.
    """
    path = f"mamba_ssm.ops.triton.{module}"
    try:
        return cast(Callable[..., Tensor], getattr(importlib.import_module(path), name))
    except ImportError as error:
        spec = importlib.util.find_spec("mamba_ssm") if "mamba_ssm" not in sys.modules else None
        if spec is None or not spec.submodule_search_locations:
            return f"mamba-ssm cannot be imported ({error})"
        for part in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.utils"):
            stand_in = types.ModuleType(part)
            stand_in.__path__ = [str(Path(spec.submodule_search_locations[0]).joinpath(*part.split(".")[1:]))]
            stand_in.__spec__ = importlib.util.spec_from_loader(part, loader=None, is_package=True)
            sys.modules[part] = stand_in
    try:
        return cast(Callable[..., Tensor], getattr(importlib.import_module(path), name))
    except ImportError as error:
        return f"mamba-ssm's Triton kernels cannot be imported ({error})"


@functools.cache
def scan_kernel() -> Callable[..., Tensor] | str:
    """mamba-ssm's combined chunk scan, or why there is none."""
    return _triton_function("ssd_combined", "mamba_chunk_scan_combined")


@functools.cache
def norm_kernel() -> Callable[..., Tensor] | str:
    """mamba-ssm's gated RMSNorm, or why there is none."""
    return _triton_function("layernorm_gated", "rmsnorm_fn")


@functools.cache
def conv_kernel() -> Callable[..., Tensor] | str:
    """causal-conv1d's convolution, or why there is none."""
    try:
        return importlib.import_module("causal_conv1d").causal_conv1d_fn
    except ImportError as error:
        return f"causal-conv1d cannot be imported ({error})"


def scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, rows: Tensor, chunk: int) -> Tensor:
    """mamba-ssm's scan of one packed sequence with boundaries.

    Args:
        x: (T, H, P), dt: (T, H), A: (H,), B and C: (T, G, N).
        rows: (T,) the sequence of each token, without a copy where int32.
        chunk: block length, rounded up to a power of two of at least 16 (the kernels' tiles).

    Returns:
        (T, H, P).
    """
    kernel = scan_kernel()
    if isinstance(kernel, str):
        raise UserError(f"ssd_backend: mamba_ssm cannot run: {kernel}; set ssd_backend: torch")
    wanted = min(chunk, max(rows.numel(), 16))
    block = max(16, 1 << (wanted - 1).bit_length())
    y = kernel(
        x.unsqueeze(0).contiguous(),
        dt.unsqueeze(0).contiguous(),
        A,
        B.unsqueeze(0).contiguous(),
        C.unsqueeze(0).contiguous(),
        chunk_size=block,
        D=None,
        seq_idx=rows.to(torch.int32).unsqueeze(0).contiguous(),
    )
    return y.squeeze(0)


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor) -> Tensor | None:
    """causal-conv1d's SiLU convolution of one packed sequence, or None where it cannot take these shapes.

    Args:
        x: (T, C) channels last; weight: (C, K); bias: (C,); rows: (T,) the sequence of each token, without a copy
            where int32.
    """
    kernel = conv_kernel()
    # the kernel's channel-last path wants rows of whole 16-byte pieces and widths 2 to 4
    if isinstance(kernel, str) or x.device.type != "cuda" or x.shape[1] % 8 or not 2 <= weight.shape[1] <= 4:
        return None
    y = kernel(
        x.contiguous().t().unsqueeze(0),
        weight.to(x.dtype).contiguous(),
        bias.to(x.dtype),
        seq_idx=rows.to(torch.int32).unsqueeze(0).contiguous(),
        activation="silu",
    )
    return y.squeeze(0).t()


def gated_norm(y: Tensor, z: Tensor, weight: Tensor, eps: float) -> Tensor | None:
    """``RMSNorm(y·SiLU(z))·weight`` in one kernel of mamba-ssm's, or None where it cannot take these tensors.

    One pass over y and z instead of four, and neither the gate nor the normalised tensor is kept for the backward
    pass. The kernel computes in float32.

    Args:
        y: (S, E); z: (S, E) in any dtype but float64; weight: (E,); eps: added to the mean square.

    Returns:
        (S, E) in the dtype of y.
    """
    # a row must fit into 64 KiB of the kernel's memory
    if y.dtype == torch.float64 or y.shape[1] * y.itemsize > 65536 or not (y.is_cuda or interpreted()):
        return None
    kernel = norm_kernel()
    if isinstance(kernel, str):
        return None
    return kernel(y, weight, None, z=z, eps=eps, group_size=None, norm_before_gate=False)
