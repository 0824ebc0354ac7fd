"""Values that cannot work are one clear line, whichever way they come; those that can are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recbole.config import Config
from shop import settings, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run import cli, quick_start
from recbole_mmm4rec.settings.values import check_eval_args, check_values


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", "many", "epochs='many': it must be a whole number, at least 0"),
        ("epochs", 1.5, "epochs=1.5"),
        ("epochs", True, "epochs=True"),
        ("seed", "x", "seed='x': it must be a whole number"),
        ("seed", -1, "seed=-1"),
        ("weight_decay", -1, "weight_decay=-1: it must be a number, at least 0"),
        ("learning_rate", 0, "learning_rate=0: it must be a number above 0"),
        ("learning_rate", float("nan"), "learning_rate=nan"),
        ("train_batch_size", 0, "train_batch_size=0: it must be a whole number, at least 1"),
        ("eval_batch_size", [1], r"eval_batch_size=\[1\]"),
        ("clip_grad_norm", 5, r"clip_grad_norm=5: .*\{'max_norm': 5\}"),
        ("clip_grad_norm", {"norm": 5}, "clip_grad_norm="),
        ("clip_grad_norm", {"max_norm": "five"}, "clip_grad_norm="),
        ("clip_grad_norm", {"max_norm": 5, "error_if_nonfinite": True}, "clip_grad_norm="),
        ("pretrain_on", None, "pretrain_on=None: it must be all_but_last or all"),
        ("accumulation_steps", True, "accumulation_steps=True: it must be a whole number, at least 1"),
        ("label_smoothing", 1, "label_smoothing=1: it must be a number from 0 to below 1"),
        ("loss_chunk", float("nan"), "loss_chunk=nan: it must be auto or a whole number"),
        ("loss_chunk", 2.5, "loss_chunk=2.5"),
        ("loss_chunk", -1, "loss_chunk=-1"),
        ("sampled_uniform", float("inf"), "sampled_uniform=inf: it must be a whole number"),
        ("sampled_in_batch", 1, "sampled_in_batch=1: it must be True or False"),
        ("mask_false_negatives", "yes", "mask_false_negatives='yes': it must be True or False"),
        ("train_unit", "users", "train_unit='users': it must be prefix or user"),
        ("train_unit", False, "train_unit=False"),
        ("features_in", "disc", "features_in='disc': it must be one of auto, memory, mapped"),
        ("row_wise_ids", "maybe", "row_wise_ids='maybe': it must be one of auto, True, False"),
        ("neighbour_weight", -1, "neighbour_weight=-1: it must be a number, at least 0"),
        ("neighbour_window", 0, "neighbour_window=0: it must be a whole number, at least 1"),
        ("neighbour_decay", 0.0, "neighbour_decay=0.0: it must be a number above 0, at most 1"),
        ("cuda_graphs", 0, "cuda_graphs=0: it must be one of auto, True, False"),
        ("eval_args", "LS", "eval_args='LS': it must be a mapping"),
        ("eval_args", {"spilt": {"LS": "test_only"}}, "unknown key 'spilt'; did you mean 'split'"),
        ("eval_args", {"split": "LS"}, "split='LS': it must be one of"),
        ("eval_args", {"split": {"LS": "valid_and_tset"}}, "did you mean 'valid_and_test'"),
        ("eval_args", {"split": {"RS": [0.8, 0.2]}}, r"split RS: \[0.8, 0.2\] must be three shares"),
        ("eval_args", {"split": {"RS": ["a", 0.1, 0.1]}}, "split RS"),
        ("eval_args", {"split": {"TS": [0, 0, 0]}}, "split TS"),
        ("eval_args", {"split": {"TS": [0, 0, 1]}}, "split TS"),
        ("eval_args", {"split": {"RS": [0.8, 0.1, 0.1], "LS": "test_only"}}, "split="),
        ("eval_args", {"order": "time"}, "order='time': it must be TO"),
        ("eval_args", {"group_by": "item"}, "group_by='item'"),
        ("eval_args", {"mode": "uni"}, "mode='uni': it must be full"),
        ("eval_args", {"mode": {"valid": "full", "tst": "full"}}, "its keys must be valid and test"),
    ],
)
def test_unusable_values(tmp_path: Path, key: str, value: Any, message: str) -> None:
    changes = settings(tmp_path, **{key: value})
    for run in (
        lambda: check_values({key: value}, "MMM4Rec"),
        lambda: quick_start.run_recbole("MMM4Rec", "shop", config_dict=changes),
        lambda: Config(model="MMM4Rec", dataset="shop", config_dict=changes),
    ):
        with pytest.raises(UserError, match=message) as caught:
            run()
        assert "\n" not in str(caught.value)


def test_the_command_line_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shop(tmp_path)
    where = ["--model=MMM4Rec", "--dataset=shop", f"--data_path={tmp_path}"]
    for argument in ("--weight_decay=-1", "--clip_grad_norm=5", "--epochs=1.5", "--eval_args={'split': {'LS': 'all'}}"):
        assert cli.main([*where, argument]) == 2
        key = argument[2:].partition("=")[0]
        error = capsys.readouterr().err
        assert error.startswith((f"error: --{key}=", "error: eval_args: split LS"))
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"split": {"RS": [8, 1, 1]}, "order": "RO", "group_by": None, "mode": "full"},
        {"split": {"LS": "valid_only"}, "group_by": "user", "mode": {"valid": "uni100", "test": "full"}},
        {"split": {"TS": [0.0, 0.5, 0.5]}, "order": "TO", "group_by": "none", "mode": {"test": "pop10"}},
        {"split": None, "mode": "labeled"},
    ],
)
def test_usable_eval_args(given: dict[str, Any]) -> None:
    check_eval_args(given)


def test_usable_values() -> None:
    sound = {"epochs": 0, "seed": 2**32 - 1, "weight_decay": 0, "learning_rate": 1e-9, "clip_grad_norm": None}
    check_values(sound, "MMM4Rec")
    clipping = {"clip_grad_norm": {"max_norm": 5, "norm_type": 2}, "weight_decay": None, "anything": object()}
    check_values(clipping, "MMM4Rec")
