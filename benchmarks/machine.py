"""The machine a figure comes from: processor, card, versions, date."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / "build" / "benchmarks"
"""Where runs in progress keep what they have measured."""
PACKAGES = ("torch", "numpy", "pandas", "recbole", "triton", "mamba-ssm", "causal-conv1d")


def processor() -> str:
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def card() -> str:
    """The GPU's name, or "no GPU"."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        return "no GPU"
    return names[0].strip() or "no GPU"


def version(package: str) -> str | None:
    """The installed version of a package, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def stamp(device: str) -> dict[str, str]:
    """Where and with what a measurement ran.

    Args:
        device: "cpu" or "cuda".

    Returns:
        ``device``, ``hardware``, ``software``, ``commit`` and ``date``.
    """
    found = {name: version(name) for name in PACKAGES}
    software = [
        f"Python {platform.python_version()}",
        *(f"{name} {number}" for name, number in found.items() if number),
    ]
    return {
        "device": device,
        "hardware": processor() if device == "cpu" else f"{card()}; {processor()}",
        "software": ", ".join(software),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }


def commit() -> str:
    """The checked-out commit, with a + where files differ from it; "unknown" outside a repository."""
    git = ["git", "-C", str(ROOT)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.stdout.strip() + ("+" if changed.stdout.strip() else "")


def peak_memory() -> int:
    """The most memory that this process has held so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def unwritable(path: Path) -> str | None:
    """Why nothing can be written to a file, or to a folder that is still to be made; None where that can be done."""
    home = path if path.is_dir() else path.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
        if path.exists() and not path.is_dir():
            path.open("r+b").close()
    except OSError as error:
        return f"{error.strerror}"
    return None
