"""The machine and the programs that figures come from."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys
from pathlib import Path

import torch

from recbole_mmm4rec.base.machine import cores, processor

_PACKAGES = ("recbole-mmm4rec", "recbole", "torch", "numpy", "pandas", "scipy", "mamba-ssm", "causal-conv1d")


def environment() -> dict[str, str]:
    """Processor, cores, card and versions, in words."""
    versions = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": f"{processor()}, {cores()} cores",
        "graphics card": card,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": ", ".join(versions),
    }


def resident() -> int:
    """Bytes of memory that this process holds."""
    return _status("VmRSS") or _peak_of_the_system()


def peak_resident() -> int:
    """The most bytes that this process has held; what it was before its program was loaded does not count on Linux."""
    return _status("VmHWM") or _peak_of_the_system()


def _status(name: str) -> int | None:
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _peak_of_the_system() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
