"""A checkpoint knows which items its numbers stand for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.trainer import Trainer
from shop import python, settings, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read, write
from recbole_mmm4rec.run import quick_start
from recbole_mmm4rec.run.build import build, make_config

CE = {"train_neg_sample_args": None, "loss_type": "CE"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path)
    return tmp_path


def rewrite(folder: Path, change: Any) -> None:
    file = folder / "shop" / "shop.inter"
    header, *lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([header, *change(lines)]))


def in_reverse(lines: list[str]) -> list[str]:
    return lines[::-1]


def another_user_first(lines: list[str]) -> list[str]:
    """The same order of items, another one of users."""
    item = lines[0].split("\t")[1]
    moved = next(n for n, line in enumerate(lines) if n and line.split("\t")[1] == item)
    return [lines[moved], *lines[:moved], *lines[moved + 1 :]]


@pytest.mark.parametrize(("model", "changes"), [("SASRec", CE), ("BPR", {})])
def test_lines_in_another_order_are_refused(folder: Path, model: str, changes: dict[str, Any]) -> None:
    file = quick_start.run_recbole(model, "shop", config_dict=settings(folder, **changes))["saved_model_file"]
    quick_start.load_data_and_model(file)
    rewrite(folder, in_reverse)
    with pytest.raises(UserError, match=r"\.safetensors.*'(item|user)_id'.*the same number in another order"):
        quick_start.load_data_and_model(file)


def test_more_items_are_refused(folder: Path) -> None:
    file = quick_start.run_recbole("SASRec", "shop", config_dict=settings(folder, **CE))["saved_model_file"]
    rewrite(folder, lambda lines: [*lines, "u0\tnew\t1600000000\n"])
    with pytest.raises(UserError, match=r"'item_id' .*20 then, 21 now"):
        quick_start.load_data_and_model(file)


def test_users_count_where_the_model_knows_them(folder: Path) -> None:
    sequential = quick_start.run_recbole("SASRec", "shop", config_dict=settings(folder, **CE))["saved_model_file"]
    general = quick_start.run_recbole("BPR", "shop", config_dict=settings(folder))["saved_model_file"]
    rewrite(folder, another_user_first)
    quick_start.load_data_and_model(sequential)
    with pytest.raises(UserError, match="'user_id'"):
        quick_start.load_data_and_model(general)


def test_resuming_looks_first(folder: Path) -> None:
    file = quick_start.run_recbole("SASRec", "shop", config_dict=settings(folder, **CE))["saved_model_file"]
    run = build(make_config("SASRec", "shop", config_dict=settings(folder, **CE)), count_flops=False)
    run.trainer.resume_checkpoint(file)
    assert run.trainer.start_epoch == 1
    rewrite(folder, in_reverse)
    run = build(make_config("SASRec", "shop", config_dict=settings(folder, **CE)), count_flops=False)
    before = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    with pytest.raises(UserError, match="'item_id'"):
        run.trainer.resume_checkpoint(file)
    assert isinstance(run.trainer, Trainer)
    assert all(torch.equal(before[name], weight) for name, weight in run.model.state_dict().items())


def test_a_checkpoint_without_the_note_is_loaded(folder: Path) -> None:
    file = quick_start.run_recbole("SASRec", "shop", config_dict=settings(folder, **CE))["saved_model_file"]
    checkpoint = read(file)
    del checkpoint["config"]["token_order"]
    write(file, checkpoint)
    assert quick_start.load_data_and_model(file)[2].item_num == 21


def test_workers_that_unpickle_the_objective_get_the_plug_in(tmp_path: Path) -> None:
    """RecBole's function, imported after the plug-in, is pickled under a name that imports the plug-in."""
    program = (
        "import pickle, recbole_mmm4rec; from recbole.quick_start import objective_function; "
        "print(pickle.dumps(objective_function).hex())"
    )
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pickled = bytes.fromhex(done.stdout.split()[-1])
    assert b"recbole_mmm4rec.run.quick_start" in pickled
    assert pickle.loads(pickled) is quick_start.objective_function
