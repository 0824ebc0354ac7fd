"""Which implementation of the scan runs, what the log says about it, and what is imported for it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from network.models import make_batch, make_network, small_config

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.ops import choice, kernels


@pytest.fixture(autouse=True)
def _fresh_choice(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A choice is made and logged once for a process: forget it before and after each test."""
    caplog.set_level(logging.INFO, logger=choice.__name__)
    choice.choose_scan.cache_clear()
    yield
    choice.choose_scan.cache_clear()
    choice._numba.cache_clear()


def only_record(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    (record,) = (record for record in caplog.records if record.name == choice.__name__)
    return record


@pytest.mark.parametrize(("chosen", "installed"), [("numba", True), ("torch", False)])
def test_auto_on_a_cpu_says_once_what_it_is_and_why(
    chosen: str, installed: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        _hide_numba(monkeypatch)
    network, batch = make_network(small_config()), make_batch(9)
    network(*batch.args())
    network(*batch.args())
    record = only_record(caplog)
    assert record.levelno == logging.INFO
    assert f"{chosen} on cpu" in record.message
    assert "need a GPU" in record.message
    assert ("[cpu]" in record.message) == (not installed)


def _hide_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    choice._numba.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)


def test_numba_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"ssd_backend: numba cannot run: .* the device is cuda"):
        choice.choose_scan("numba", "cuda")
    _hide_numba(monkeypatch)
    with pytest.raises(
        UserError, match=r"ssd_backend: numba cannot run: .*import of numba.*; install the extra \[cpu\], or set auto"
    ):
        choice.choose_scan("numba", "cpu")


@pytest.mark.parametrize("backend", ["torch", "numba", "recurrence"])
def test_configured_backend_is_said(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    make_network(small_config(ssd_backend=backend))(*make_batch(9).args())
    assert f"{backend} on cpu (as configured)" in only_record(caplog).message


def test_kernels_on_a_cpu_without_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(kernels, "scan_kernel", lambda: torch.relu)  # imported now, the real one would stay compiled
    with pytest.raises(UserError) as caught:
        make_network(small_config(ssd_backend="mamba_ssm"))(*make_batch(9).args())
    for word in ("ssd_backend: mamba_ssm", "device is cpu", "ssd_backend: torch"):
        assert word in str(caught.value)


def test_kernels_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "scan_kernel", lambda: "mamba-ssm cannot be imported (No module named 'mamba_ssm')")
    with pytest.raises(UserError) as caught:
        choice.choose_scan("mamba_ssm", "cuda")
    for word in ("No module named 'mamba_ssm'", "[gpu]", "ssd_backend: torch"):
        assert word in str(caught.value)


def test_gpu_without_kernels_falls_back_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "scan_kernel", lambda: "mamba-ssm cannot be imported (no such file)")
    assert choice.choose_scan("auto", "cuda").name == "torch"
    record = only_record(caplog)
    assert record.levelno == logging.WARNING
    for word in ("torch on cuda", "mamba-ssm cannot be imported (no such file)", "[gpu]"):
        assert word in record.message


@pytest.mark.parametrize("convolution", [lambda: torch.relu, lambda: "causal-conv1d cannot be imported (x)"])
def test_gpu_with_kernels_uses_them(
    convolution: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "scan_kernel", lambda: torch.relu)
    monkeypatch.setattr(kernels, "conv_kernel", convolution)
    assert choice.choose_scan("auto", "cuda").name == "mamba_ssm"
    message = only_record(caplog).message
    assert "mamba_ssm on cuda" in message
    assert ("convolution: causal_conv1d" in message) != ("torch, because causal-conv1d cannot be imported" in message)


def test_a_missing_package_is_a_reason_not_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """``None`` in sys.modules is how Python marks a module that cannot be imported."""
    monkeypatch.setitem(sys.modules, "causal_conv1d", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "mamba_ssm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    for found in (getattr(kernels, f"{name}_kernel").__wrapped__() for name in ("scan", "norm", "conv")):
        assert isinstance(found, str)
        assert "cannot be imported" in found


@pytest.mark.parametrize("module", ["recbole_mmm4rec", "recbole_mmm4rec.network", "recbole_mmm4rec.transfer.published"])
def test_import_is_light(module: str) -> None:
    heavy = ["mamba_ssm", "causal_conv1d", "triton", "ray", "open_clip", "sentence_transformers", "recbole"]
    if module == "recbole_mmm4rec":
        heavy.append("torch")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
