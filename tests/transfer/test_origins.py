"""A pre-training that has seen what a training is asked about is told; one that has not is not."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
from pattern_shop import NAME, pattern_settings, prepared, write_pattern_shop

from recbole_mmm4rec.run.build import build, make_config
from recbole_mmm4rec.transfer.origins import note_origins

pytestmark = pytest.mark.usefixtures("own_folder")
WORDS = "what is validated and tested here may have been trained on there; pre-train without it"


def start(folder: Path) -> str:
    """An untrained checkpoint of the shop in ``folder``."""
    trainer = prepared(folder, is_modality_bias=False).trainer
    trainer._save_checkpoint(0, verbose=False)
    return str(trainer.saved_model_file)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if WORDS in record.getMessage()]
    caplog.clear()
    return found


def test_the_same_set_and_another_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = start(tmp_path / "a")
    with caplog.at_level(logging.WARNING):
        prepared(tmp_path / "a", pretrained=source, stage="pretrain")  # goes on with it
        assert not warnings(caplog)
        prepared(tmp_path / "a", pretrained=source)
        (told,) = warnings(caplog)
        assert told.startswith(f"pretrained: {source} was trained on {NAME}, which may hold interactions of {NAME}: ")
        write_pattern_shop(tmp_path / "b", users=4, seed=1)
        prepared(tmp_path / "b", pretrained=source)  # the name is the same, the file is not
        assert not warnings(caplog)
        shutil.copytree(tmp_path / "a" / NAME, tmp_path / "c" / NAME)
        prepared(tmp_path / "c", pretrained=source)
        assert len(warnings(caplog)) == 1


def test_what_a_start_started_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = start(tmp_path / "a")
    write_pattern_shop(tmp_path / "b", users=4, seed=1)
    second = prepared(tmp_path / "b", pretrained=first, stage="pretrain").trainer
    second._save_checkpoint(0, verbose=False)
    with caplog.at_level(logging.WARNING):
        prepared(tmp_path / "a", pretrained=str(second.saved_model_file))
        (told,) = warnings(caplog)
        assert "itself started from a training on data that may hold interactions of" in told
        write_pattern_shop(tmp_path / "c", users=5, seed=2)
        prepared(tmp_path / "c", pretrained=str(second.saved_model_file))
        assert not warnings(caplog)


def test_a_part_of_a_merged_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pattern_shop(tmp_path)
    record = {"source": "merge", "options": {"sets": ["other", NAME]}, "inputs": {}}
    (tmp_path / "mix").mkdir()
    (tmp_path / "mix" / "mix.prep.json").write_text(json.dumps(record))
    config = make_config("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path))
    with caplog.at_level(logging.WARNING):
        note_origins("FILE", {"dataset": "mix", "data_path": str(tmp_path / "mix")}, config)
        assert len(warnings(caplog)) == 1
        note_origins("FILE", {"dataset": "other", "data_path": str(tmp_path / "other")}, config)
        note_origins("FILE", {"dataset": None}, config)
        note_origins("FILE", {"dataset": None, "started_from": 7}, config)  # what a file says need not be so
        (tmp_path / "mix" / "mix.prep.json").write_text("{")
        note_origins("FILE", {"dataset": "mix", "data_path": str(tmp_path / "mix")}, config)
        assert not warnings(caplog)


def test_unisrec_tells_it_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pattern_shop(tmp_path)
    given = {
        **{"data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved"), "modalities": ["text"]},
        **{"n_layers": 1, "n_heads": 2, "hidden_size": 8, "inner_size": 12, "n_exps": 2},
    }
    run = build(make_config("UniSRec", NAME, config_dict={**given, "stage": "pretrain"}), count_flops=False)
    run.trainer._save_checkpoint(0, verbose=False)
    with caplog.at_level(logging.WARNING):
        again = {**given, "pretrained": str(run.trainer.saved_model_file)}
        build(make_config("UniSRec", NAME, config_dict=again), count_flops=False)
        assert len(warnings(caplog)) == 1
