"""What OpenMP's threads are told before PyTorch is loaded."""

from __future__ import annotations

import os
import sys

import pytest

from recbole_mmm4rec.base import openmp


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process in which PyTorch is not loaded, and whose user has asked for nothing."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name in openmp.ASKED:
        monkeypatch.setenv(name, "")  # so that what the test sets is taken back
        monkeypatch.delenv(name)
    return monkeypatch


def test_waiting_threads_sleep_soon(fresh: pytest.MonkeyPatch) -> None:
    assert openmp.told() == "OpenMP's own"
    openmp.rest_soon()
    assert os.environ["GOMP_SPINCOUNT"] == openmp.SPINS
    assert openmp.told() == f"GOMP_SPINCOUNT={openmp.SPINS}"


@pytest.mark.parametrize("name", openmp.ASKED)
def test_the_user_decides(name: str, fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv(name, "7")
    openmp.rest_soon()
    assert openmp.told() == f"{name}=7"


def test_where_it_would_change_nothing_it_is_not_said(fresh: pytest.MonkeyPatch) -> None:
    fresh.setitem(sys.modules, "torch", sys)
    openmp.rest_soon()
    assert "GOMP_SPINCOUNT" not in os.environ
