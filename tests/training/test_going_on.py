"""What a training needs to go on, and several processes that are asked to end."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from breaking import broken_off
from pattern_shop import prepared

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.training import keeping
from recbole_mmm4rec.training.keeping import Keeping

pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_best_model_that_is_gone_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    changes = {"epochs": 3, "resume": True}
    broken_off(prepared(tmp_path, **changes), 2)
    (best,) = (file for file in (tmp_path / "saved").glob("*.safetensors") if not file.stem.endswith("-last"))
    kept = best.read_bytes()
    best.unlink()
    run = prepared(tmp_path, **changes)
    with pytest.raises(UserError, match="the best model of that training, is not there; put it there, or begin anew"):
        run.trainer.fit(run.train, run.valid)
    best.write_bytes(kept)
    run = prepared(tmp_path, **changes)
    run.trainer.fit(run.train, run.valid)
    assert len(run.trainer.valid_history) == 3


@pytest.mark.parametrize("several", [True, False])
def test_a_signal_to_processes_that_keep_nothing_ends_them(monkeypatch: pytest.MonkeyPatch, several: bool) -> None:
    """One process is ended by the signal itself."""
    told: list[Any] = []
    monkeypatch.setattr(keeping.group, "active", lambda: several)
    monkeypatch.setattr(keeping.group, "barrier", lambda: told.append("barrier"))
    monkeypatch.setattr(keeping, "any_of_all", lambda *asked: list(asked))
    stopping = SimpleNamespace(asked=signal.SIGTERM, tell=told.append)
    keeper = Keeping(lambda *_: None)
    keeper.epoch_ends(SimpleNamespace(stopping=stopping), 0)  # type: ignore[arg-type]
    assert told == (["barrier", 0] if several else [])
