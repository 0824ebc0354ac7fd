"""Repairs of how RecBole reads its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.config import Config
from shop import settings, write_shop

import recbole_mmm4rec  # noqa: F401 (repairs RecBole)
from recbole_mmm4rec.base.errors import UserError


@pytest.mark.parametrize(("use_gpu", "device"), [(False, "cpu"), (True, "cuda")])
def test_use_gpu_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_gpu: bool, device: str) -> None:
    write_shop(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Config("BPR", "shop", config_dict=settings(tmp_path, use_gpu=use_gpu))["device"].type == device


def test_times_are_loaded_under_the_users_name(tmp_path: Path) -> None:
    """Also where our own defaults name the columns."""
    for model in ("SASRec", "MMM4Rec"):
        given: dict[str, Any] = {key: value for key, value in settings(tmp_path).items() if key != "load_col"}
        columns = Config(model, "shop", config_dict={**given, "TIME_FIELD": "when"})["load_col"]["inter"]
        assert "when" in columns
    assert "when" not in Config("BPR", "shop", config_dict={**given, "TIME_FIELD": "when"})["load_col"]["inter"]


def test_a_general_model_that_goes_by_time_loads_the_times(tmp_path: Path) -> None:
    given: dict[str, Any] = {key: value for key, value in settings(tmp_path).items() if key != "load_col"}
    for split in ({"global_time": [8, 1, 1]}, {"LS": "valid_and_test"}):
        asked = {"split": split, "order": "TO", "mode": "full"}
        assert "timestamp" in Config("BPR", "shop", config_dict={**given, "eval_args": asked})["load_col"]["inter"]
    assert "timestamp" not in Config("BPR", "shop", config_dict=given)["load_col"]["inter"]


@pytest.mark.parametrize("asked", [{"order": "TO"}, {"mode": {"valid": "uni5"}}])
def test_a_sequential_model_is_not_split_at_random_unasked(tmp_path: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="it names no split, which would be a random one"):
        Config("SASRec", "shop", config_dict=settings(tmp_path, eval_args=asked))
    assert Config("BPR", "shop", config_dict=settings(tmp_path, eval_args=asked))["eval_args"]["split"]


def test_cross_entropy_takes_no_negatives_unless_the_user_says_so(tmp_path: Path) -> None:
    given = {key: value for key, value in settings(tmp_path).items() if key != "train_neg_sample_args"}
    for model, wanted in (("SASRec", "none"), ("BPR", "uniform")):
        assert Config(model, "shop", config_dict=dict(given))["train_neg_sample_args"]["distribution"] == wanted
