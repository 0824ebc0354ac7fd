"""What must stand before anything is imported, and fixtures that several folders use."""

from __future__ import annotations

import contextlib
import os
import types

import pytest

# Triton reads this once, at its import: with it mamba-ssm's kernels run on the CPU, in Triton's interpreter.
os.environ["TRITON_INTERPRET"] = "1"
os.environ["MAMBA_DETERMINISTIC"] = "1"  # one tile size for each kernel instead of trying them all
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors this small lose more to handing over than they win


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mamba-ssm's kernels, run by Triton's interpreter, ask for a GPU where there is none."""
    monkeypatch.setattr("torch.cuda.device", lambda *_: contextlib.nullcontext())
    properties = types.SimpleNamespace(multi_processor_count=1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda *_: properties)
