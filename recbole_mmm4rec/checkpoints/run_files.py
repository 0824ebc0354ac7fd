"""The files of one run: under which names its states lie, which is the newest, and that one process at a time works."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.locks import claimed
from recbole_mmm4rec.checkpoints.format import ENDING, read
from recbole_mmm4rec.checkpoints.run_id import run_id
from recbole_mmm4rec.settings.stage import is_pretraining


class RunFiles:
    """Names in ``checkpoint_dir``: ``STEM-last.safetensors``, and what belongs to a run that is not finished.

    A pre-training also has ``STEM.safetensors``, its best model, and ``STEM-epochNNNN.safetensors``. What an epoch has
    found to be the
    best model waits in ``STEM-best.epochN`` until that epoch is noted, so that a kill between the two leaves the best
    one of the epochs that are noted.
    """

    def __init__(self, config: Any) -> None:
        """The names.

        Args:
            config: RecBole's configuration, after its data set was made.
        """
        self.folder = Path(config["checkpoint_dir"])
        self.pretraining = is_pretraining(config)
        kind = "-pretrain" if self.pretraining else ""
        self.stem = f"{config['model']}{kind}-{config['dataset']}-{run_id(config)}"
        self.last = self.folder / f"{self.stem}-last{ENDING}"
        self.best = self.folder / f"{self.stem}{ENDING}"

    def of_epoch(self, epochs: int) -> Path:
        """The checkpoint of a pre-training after so many epochs."""
        return self.folder / f"{self.stem}-epoch{epochs:04d}{ENDING}"

    def by_epoch(self) -> list[str]:
        """The files named by epoch, in the order of the epochs, which may have more digits than others."""
        files = self.folder.glob(f"{glob.escape(self.stem)}-epoch*{ENDING}")
        return sorted((str(file) for file in files), key=lambda name: (len(name), name))

    def waiting(self, epoch: int) -> Path:
        """Where the model of an epoch waits that is the best so far."""
        return self.folder / f"{self.stem}-best.epoch{epoch}"

    def take_best(self, epoch: int, best: str | Path) -> None:
        """Let the best model of a noted epoch take its place, and forget one of an epoch that is not.

        Args:
            epoch: RecBole's number of the noted one.
            best: the best model's file.
        """
        for file in self.folder.glob(f"{glob.escape(self.stem)}-best.epoch*"):
            if file == self.waiting(epoch):
                os.replace(file, best)
            else:
                file.unlink()

    def newest(self) -> Path | None:
        """The state with most epochs behind it.

        Raises:
            UserError: one cannot be read, or there is a best model alone that RecBole's trainer has written, which
                holds less than goes on.
        """
        named = [self.last, *([self.best] if self.pretraining else [])]
        epochs = {file: _epoch(file) for file in named if file.is_file()}
        for name in self.by_epoch()[-1:] if self.pretraining else ():
            number = re.search(rf"-epoch(\d+){re.escape(ENDING)}$", name)
            if number and int(number[1]) - 1 > max(epochs.values(), default=-2):
                epochs[Path(name)] = int(number[1]) - 1
        newest = max(epochs, key=lambda file: epochs[file], default=None)
        if newest == self.best and "random" not in read(newest):
            raise UserError(
                f"{self.last} is not there, and nothing goes on from {newest} alone; put it there, or begin anew with "
                "resume=False"
            )
        return newest

    def of_others(self) -> list[str]:
        """The newest states of other runs of the same model on the same data set, the latest first."""
        name = self.stem.rpartition("-")[0]
        files = self.folder.glob(f"{glob.escape(name)}-{'?' * 8}-last{ENDING}")
        return [str(file) for file in sorted(files, key=lambda file: -file.stat().st_mtime) if file != self.last]

    def begin_anew(self) -> None:
        """Remove what an earlier training of the same run has left: it would be gone on with after a kill."""
        self.last.unlink(missing_ok=True)
        if self.pretraining:
            for file in (*map(Path, self.by_epoch()), self.best):
                file.unlink(missing_ok=True)
        self.take_best(-1, self.best)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes from the same run, and remove files that killed ones had not written to the end.

        Raises:
            UserError: another process is at it.
        """
        path = self.folder / f".{self.stem}.lock"
        try:
            lock = claimed(path)
        except BlockingIOError:
            raise UserError(
                f"checkpoint_dir={str(self.folder)!r}: another process is training the same run ({self.stem}); wait "
                "for it, or name another checkpoint_dir"
            ) from None
        with lock:
            try:
                for part in self.folder.glob(f".{glob.escape(self.stem)}*.tmp"):
                    part.unlink(missing_ok=True)
                yield
            finally:
                path.unlink(missing_ok=True)


def _epoch(file: Path) -> int:
    try:
        epoch = read(file).get("epoch")
    except UserError as error:
        raise UserError(f"{file} is damaged; remove it to begin anew") from error
    if not isinstance(epoch, int):
        raise UserError(f"{file} is no state of a training; remove it to begin anew")
    return epoch
