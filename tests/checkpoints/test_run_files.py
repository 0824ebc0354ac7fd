"""The files of a run: one process at a time, and nothing left of killed ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from breaking import broken_off
from pattern_shop import prepared
from shop import python

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.run_files import RunFiles

pytestmark = pytest.mark.usefixtures("own_folder", "forked")

HOLDING = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from pattern_shop import prepared
from recbole_mmm4rec.checkpoints.run_files import RunFiles
files = RunFiles(prepared(Path({folder!r}), resume=True).config)
with files.claimed():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("way", [{"resume": True}, {"stage": "pretrain"}], ids=["resume", "pretrain"])
def test_the_second_of_two_is_refused(tmp_path: Path, way: dict[str, object]) -> None:
    run = prepared(tmp_path, epochs=1, **way)
    files = RunFiles(run.config)
    with files.claimed():
        with pytest.raises(UserError, match=r"^checkpoint_dir=.*another process is training the same run") as caught:
            run.trainer.fit(run.train, run.valid)
        assert "\n" not in str(caught.value)
        other = prepared(tmp_path, epochs=1, seed=5, **way)
        other.trainer.fit(other.train, other.valid)
    run.trainer.fit(run.train, run.valid)
    assert not list((tmp_path / "saved").glob(".*"))  # locks are gone


def test_a_plain_training_claims_nothing(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=1)
    with RunFiles(run.config).claimed():
        run.trainer.fit(run.train, run.valid)


def test_a_kill_releases(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=1, resume=True)
    code = HOLDING.format(tests=str(Path(__file__).parents[1] / "helpers"), folder=str(tmp_path))
    assert python("-c", code, cwd=tmp_path).returncode < 0
    assert [file.suffix for file in (tmp_path / "saved").glob(".*")] == [".lock"]
    run.trainer.fit(run.train, run.valid)
    assert not list((tmp_path / "saved").glob(".*"))


@pytest.mark.parametrize(
    "way", [{"resume": True}, {"stage": "pretrain", "pretrain_checkpoint_every": 1}], ids=["resume", "pretrain"]
)
def test_what_a_kill_leaves_is_removed(tmp_path: Path, way: dict[str, object]) -> None:
    """Parts of files, whatever process wrote them, and best models of epochs that were never noted."""
    changes = {"epochs": 2, **way}
    run = prepared(tmp_path, **changes)
    broken_off(run, 1)
    files = RunFiles(run.config)
    left = [files.folder / f".{file.name}.1.tmp" for file in (files.last, files.of_epoch(2), files.waiting(7))]
    for file in (*left, files.waiting(7)):
        file.write_bytes(b"half")
    other = files.folder / ".MMM4Rec-other-last.safetensors.1.tmp"
    other.write_bytes(b"half")
    again = prepared(tmp_path, **changes)
    again.trainer.fit(again.train, again.valid)
    assert again.trainer.start_epoch == 1
    assert [file for file in files.folder.iterdir() if re.search(r"\.tmp$|\.epoch\d+$|\.lock$", file.name)] == [other]
    if "stage" in way:
        assert files.by_epoch() == [str(files.of_epoch(1)), str(files.of_epoch(2))]


def test_a_kill_before_the_first_note_leaves_nothing_for_ever(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=1, resume=True)
    files = RunFiles(run.config)
    files.folder.mkdir(exist_ok=True)
    files.waiting(0).write_bytes(b"a model")
    run.trainer.fit(run.train, run.valid)
    assert sorted(files.folder.iterdir()) == sorted([files.last, Path(run.trainer.saved_model_file)])
