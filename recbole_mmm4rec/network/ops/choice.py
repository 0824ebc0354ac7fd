"""Which implementation of the scan runs: decided here, and passed on as an object."""

from __future__ import annotations

import functools
import importlib
import logging

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.ops import kernels
from recbole_mmm4rec.network.ops.scans import SCANS, Scan

logger = logging.getLogger(__name__)


@functools.cache
def choose_scan(requested: str, device_type: str) -> Scan:
    """The implementation of the scan that will run, said once in the log together with the reason.

    Args:
        requested: ``ssd_backend`` of the configuration.
        device_type: "cpu" or "cuda".

    Returns:
        one of :data:`.scans.SCANS`.

    Raises:
        UserError: "mamba_ssm" or "numba" was asked for and cannot run here.
    """
    name, reason = backend_and_reason(requested, device_type)
    slower = requested == "auto" and name == "torch" and device_type == "cuda"
    logger.log(logging.WARNING if slower else logging.INFO, "SSD backend: %s on %s (%s)", name, device_type, reason)
    return SCANS[name]


def backend_and_reason(requested: str, device_type: str) -> tuple[str, str]:
    """The name of what :func:`choose_scan` chooses, and why, in words.

    Raises:
        UserError: as there.
    """
    if requested == "numba":
        _refuse_numba(device_type)
    if requested in ("torch", "numba", "recurrence"):
        return requested, "as configured"
    on_gpu = device_type == "cuda"
    kernel = kernels.scan_kernel() if on_gpu or requested == "mamba_ssm" else "no GPU"
    runnable = not isinstance(kernel, str) and (on_gpu or kernels.interpreted())
    if requested == "mamba_ssm":
        if not runnable:
            why = kernel if isinstance(kernel, str) else "its kernels need a GPU, and the device is " + device_type
            raise UserError(
                f"ssd_backend: mamba_ssm cannot run: {why}; install the extra [gpu] or set ssd_backend: torch"
            )
        return "mamba_ssm", f"as configured; convolution: {_conv_words(on_gpu)}"
    if on_gpu and runnable:
        return "mamba_ssm", f"convolution: {_conv_words(on_gpu)}"
    if on_gpu:
        return "torch", f"{kernel}; the extra [gpu] brings the faster kernels"
    why = "mamba-ssm's kernels need a GPU"
    if device_type != "cpu":
        return "torch", why
    if not _numba():
        return "numba", f"{why}; the first training after an installation compiles for half a minute"
    return "torch", f"{why}, and {_numba()}; the extra [cpu] has faster loops"


@functools.cache
def _numba() -> str:
    """Why numba's loops cannot run; empty where they can."""
    try:
        importlib.import_module("numba")
    except ImportError as error:  # also one that this NumPy is too new for
        return f"numba cannot be imported ({error})"
    return ""


def _refuse_numba(device_type: str) -> None:
    if device_type != "cpu":
        raise UserError(f"ssd_backend: numba cannot run: its loops are a processor's, and the device is {device_type}")
    if _numba():
        raise UserError(f"ssd_backend: numba cannot run: {_numba()}; install the extra [cpu], or set auto")


def _conv_words(on_gpu: bool) -> str:
    kernel = kernels.conv_kernel()
    if not on_gpu:
        return "torch, because causal-conv1d needs a GPU"
    return f"torch, because {kernel}" if isinstance(kernel, str) else "causal_conv1d"
