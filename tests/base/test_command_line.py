"""How a command ends: interruptions are told in one line, whatever became of them on their way."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_mmm4rec.base.command_line import Parser, ended
from recbole_mmm4rec.base.errors import LostProcessError, UserError


@pytest.fixture(autouse=True)
def _plain_handlers() -> object:
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)


def come(number: int, then: BaseException | None = None) -> Callable[[], int]:
    """Work that is interrupted, and ends in another error where one is given."""

    def run() -> int:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            if then is None:
                raise
            raise then from None
        raise AssertionError

    return run


@pytest.mark.parametrize("then", [None, ImportError("numpy"), UserError("amazon needs duckdb"), RuntimeError()])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_is_one_line(
    number: int, status: int, then: BaseException | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(come(number, then), lambda: "go on", terminable=True) == status
    assert capsys.readouterr().err == "interrupted; go on\n"
    assert signal.getsignal(number) is signal.default_int_handler


@pytest.mark.parametrize("stuck", [False, True], ids=["written", "stuck"])
def test_a_line_of_a_log_ends_before_the_interruption(stuck: bool, capsys: pytest.CaptureFixture[str]) -> None:
    class Pieces(logging.Handler):
        """Writes a line in pieces, as RecBole's coloured lines are."""

        def emit(self, record: logging.LogRecord) -> None:
            print("epoch 1 [", end="")
            os.kill(os.getpid(), signal.SIGTERM)
            if stuck:
                time.sleep(60)
            print("time: 1 s]")

    logger, reached = logging.Logger("pieces"), []
    logger.addHandler(Pieces())

    def run() -> int:
        logger.warning("")
        reached.append(1)
        time.sleep(60)
        raise AssertionError

    assert ended(run, lambda: "go on", terminable=True) == 143
    shown = capsys.readouterr()
    assert shown.err == "interrupted; go on\n"
    assert shown.out == ("epoch 1 [" if stuck else "epoch 1 [time: 1 s]\n")
    assert bool(reached) is not stuck


@pytest.mark.parametrize(("error", "status"), [(UserError("no"), 2), (LostProcessError("no"), 1)])
def test_a_mistake_is_one_line(error: Exception, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise error

    assert ended(run) == status
    assert capsys.readouterr().err == "error: no\n"


def test_a_file_that_the_system_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: (tmp_path / ("x" * 1_000)).stat().st_size) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}/xxx")
    assert said.endswith("x: File name too long\n")
    with pytest.raises(OSError, match="no file"):
        ended(lambda: (_ for _ in ()).throw(OSError("no file")))


def test_what_was_typed_is_quoted_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="x")
    with pytest.raises(SystemExit):
        parser.parse_args(["a\nb\x1b[2J"])
    assert capsys.readouterr().err == "error: unrecognized arguments: a b\\x1b[2J (see x --help)\n"


def test_other_errors_are_not_hidden() -> None:
    def run() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ended(run)


def test_who_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def run() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return 0

    assert ended(run) == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_an_interruption_that_a_tear_down_swallows_comes_once_more(capsys: pytest.CaptureFixture[str]) -> None:
    class Falling:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)  # what is raised in here, Python only reports

    def run() -> int:
        Falling()
        for _ in range(600):
            time.sleep(0.05)
        return 0

    assert ended(run, terminable=True) == 143
    assert capsys.readouterr().err == "interrupted; the same command goes on where it was\n"
