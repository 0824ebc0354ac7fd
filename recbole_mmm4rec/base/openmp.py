"""How long OpenMP's threads wait awake for each other: short, since other programs may have the cores they wait for."""

from __future__ import annotations

import os
import sys

SPINS = "10000"
"""Turns of a waiting thread, some tenths of a millisecond in all; libgomp's own are 300,000."""
ASKED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Variables of the environment with which a user decides instead."""


def rest_soon() -> None:
    """Let waiting threads sleep soon, in this process and those that it starts.

    libgomp, which PyTorch's own wheels for Linux bring, reads the environment once, when PyTorch is loaded: nothing
    changes where that has happened. Other OpenMP libraries do not know the variable.
    Source: libgomp's manual, "GOMP_SPINCOUNT". Figures: docs/performance.md.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in ASKED):
        os.environ["GOMP_SPINCOUNT"] = SPINS


def told() -> str:
    """What was set, in a line for logs; "OpenMP's own" where nothing was."""
    return ", ".join(f"{name}={os.environ[name]}" for name in ASKED if name in os.environ) or "OpenMP's own"
