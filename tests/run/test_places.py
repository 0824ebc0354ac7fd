"""Folders that cannot be written to are told of before anything is read or trained; full disks, cut-off caches."""

from __future__ import annotations

import contextlib
import logging
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shop import settings, write_shop

from recbole_mmm4rec.compat.tensorboard import Board
from recbole_mmm4rec.run import cli
from recbole_mmm4rec.run.build import build, make_config, start_log

pytestmark = pytest.mark.usefixtures("own_folder")


def typed(folder: Path, **changes: Any) -> list[str]:
    """The command line of a short training."""
    if not (folder / "shop").exists():
        write_shop(folder)
    given = settings(folder, **{"train_neg_sample_args": None, **changes})
    return ["--model=SASRec", "--dataset=shop", *(f"--{key}={value}" for key, value in given.items())]


def told(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("place", ["a file", "a file/in it", "/proc/nowhere", "/sys"])
def test_a_checkpoint_dir_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    (tmp_path / "a file").touch()
    assert cli.main(typed(tmp_path, checkpoint_dir=place)) == 2
    assert told(capsys).startswith(f"error: checkpoint_dir='{place}': no folder to write to (")


def test_a_file_where_the_log_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").touch()
    assert cli.main(typed(tmp_path)) == 2
    assert told(capsys).startswith(f"error: the log goes to 'log/SASRec' in '{tmp_path}': no folder to write to (")
    assert not (tmp_path / "saved").exists()


@contextlib.contextmanager
def bare_logger() -> Iterator[logging.Logger]:
    """The root logger without pytest's handlers, whose presence keeps RecBole from adding its own."""
    logger = logging.getLogger()
    level, handlers = logger.level, list(logger.handlers)
    logger.handlers.clear()
    try:
        yield logger
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def test_a_log_that_finds_no_room_is_told_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shop(tmp_path)
    config = make_config("SASRec", "shop", config_dict=settings(tmp_path, train_neg_sample_args=None))
    with bare_logger() as logger, open("/dev/full", "w") as full:
        start_log(config)
        (file,) = (handler for handler in logger.handlers if isinstance(handler, logging.FileHandler))
        file.stream.close()
        file.stream = full
        capsys.readouterr()
        for _ in range(3):
            logger.error("a line")
        file.stream = None  # type: ignore[assignment]
        shown = capsys.readouterr().err
        with contextlib.suppress(OSError):
            full.close()
    assert shown.count("cannot be written, nothing more is: [Errno 28] No space left on device") == 1
    assert "Traceback" not in shown


def test_tensorboard_never_costs_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = shutil.disk_usage(tmp_path)
    board = Board(str(tmp_path / "board"))
    assert not (tmp_path / "board").exists()  # nothing is written yet
    board.add_scalar("loss", 1.0, 0)
    (file,) = (tmp_path / "board").iterdir()
    size = file.stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=0))
    for step in range(3):
        board.add_scalar("loss", 1.0, step)
    board.add_hparams({"a": 1}, {"b": 2})
    board.close()
    assert [record.message for record in caplog.records if "TensorBoard" in record.message] == [
        f"TensorBoard: {tmp_path / 'board'} cannot be written, nothing more is: the disk is full"
    ]
    assert [entry.stat().st_size for entry in (tmp_path / "board").iterdir()] == [size]


def test_a_writer_is_closed_with_the_training(tmp_path: Path) -> None:
    write_shop(tmp_path)
    changes = settings(tmp_path, train_neg_sample_args=None)
    run = build(make_config("SASRec", "shop", config_dict=changes), count_flops=False)
    run.trainer.fit(run.train, run.valid, verbose=False)
    assert run.trainer.tensorboard._writer is None
    assert list(Path(run.trainer.tensorboard.log_dir).rglob("events*"))


def cached(folder: Path, **changes: Any) -> Any:
    given = settings(folder, train_neg_sample_args=None, save_dataset=True, save_dataloaders=True, **changes)
    return build(make_config("SASRec", "shop", config_dict=given), count_flops=False)


@pytest.mark.parametrize("damage", ["cut off", "another class", "a link"])
def test_caches_that_cannot_be_read_are_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    write_shop(tmp_path)
    first = cached(tmp_path)
    files = sorted((tmp_path / "saved").glob("shop-*.pth"))
    assert len(files) == 2
    for file in files:
        content = file.read_bytes()
        if damage == "cut off":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "another class":
            file.write_bytes(pickle.dumps({"config": 1}).replace(b"config", b"nofing"))
        else:
            file.rename(tmp_path / file.name)
            file.symlink_to(tmp_path / file.name)
    caplog.clear()
    again = cached(tmp_path)
    assert again.train.sample_size == first.train.sample_size
    told = [record.message for record in caplog.records if "is made anew" in record.message]
    assert len(told) == 2
    assert all("\n" not in line for line in told)
    if damage != "a link":
        caplog.clear()
        cached(tmp_path)  # the new ones are whole
        assert "made anew" not in caplog.text
