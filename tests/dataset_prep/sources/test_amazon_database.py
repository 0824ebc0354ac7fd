"""The database behind ``amazon`` when memory, disk or patience run out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_prep.sources.amazon.database import review_table
from recbole_mmm4rec.base.errors import UserError


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_inside_the_database_is_one_of_the_program(tmp_path: Path) -> None:
    interrupt = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), review_table(tmp_path / "spill", with_rating=False) as table:  # noqa: PT012
        table._database.execute("SET threads = 1")  # a second one would be left to finish its part of the work
        interrupt.start()
        table._database.execute("SELECT sum(sqrt(range)) FROM range(10_000_000_000)")


def test_what_does_not_fit_into_memory_goes_to_disk_and_away_again(tmp_path: Path) -> None:
    spill = tmp_path / "spill"
    with review_table(spill, with_rating=False) as table:
        table._database.execute("SET memory_limit = '100MB'")
        table._database.execute("INSERT INTO review SELECT 0, 'A' || range, 'B' || range, 1, 1 FROM range(3_000_000)")
        assert any(spill.iterdir())
        assert len(table) == 3_000_000
    assert not spill.exists()


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    spill = tmp_path / "no folder" / "spill"
    with pytest.raises(UserError, match="not enough memory, or no disk space"), review_table(spill, False) as table:  # noqa: PT012
        table._database.execute("SET memory_limit = '100MB'")
        table._database.execute("INSERT INTO review SELECT 0, 'A' || range, 'B' || range, 1, 1 FROM range(3_000_000)")
