"""Repair of RecBole's TensorBoard."""

from __future__ import annotations

import logging
import os
import shutil
from functools import wraps
from types import ModuleType
from typing import Any

from recbole_mmm4rec.distributed import group

logger = logging.getLogger(__name__)

_ROOM = 2**20  # bytes; an event takes some hundred


def write_tensorboard_late(module: ModuleType) -> None:
    """Write TensorBoard's files while they are written to, by one process, and never at the cost of the training.

    Broken: ``get_tensorboard`` (utils/utils.py:208) starts a thread for every trainer that is made. It writes by a
    relative path, so that a program that goes to another folder loses it, is never closed, and ends in a traceback
    where the disk is full or the folder has gone. Each process of several writes one.
    """
    original = module.get_tensorboard

    @wraps(original)
    def get_tensorboard(given: logging.Logger) -> Board:
        names = [handler.baseFilename for handler in given.handlers if isinstance(handler, logging.FileHandler)]
        name = names[0] if names else f"model-{module.get_local_time()}"
        folder = os.path.join("log_tensorboard", os.path.basename(name).split(".")[0])  # as RecBole names it
        return Board(folder if group.is_main() else None)

    vars(module)["get_tensorboard"] = get_tensorboard


class Board:
    """Stands for TensorBoard's ``SummaryWriter``, which it makes when something is written.

    Attributes:
        log_dir: the folder; None on all but one of several processes, which write nothing.
    """

    def __init__(self, folder: str | None) -> None:
        self.log_dir = folder
        self._folder = None if folder is None else os.path.abspath(folder)
        self._writer: Any = None

    def __getattr__(self, name: str) -> Any:
        """A method of the writer, which is done once it returns."""
        if name.startswith("__"):
            raise AttributeError(name)

        def written(*args: Any, **kwargs: Any) -> None:
            if self._folder is not None:
                try:
                    self._write(name, args, kwargs)
                except OSError as error:
                    self._give_up(error)

        return written

    def close(self) -> None:
        """End the writer's thread; whatever is written afterwards starts another one."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                self._give_up(error)

    def _write(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert self._folder is not None
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            os.makedirs(self._folder, exist_ok=True)
            self._look_for_room()
            self._writer = SummaryWriter(self._folder)
        self._look_for_room()
        getattr(self._writer, name)(*args, **kwargs)
        self._writer.flush()  # its thread would meet a full disk where nobody catches it

    def _look_for_room(self) -> None:
        assert self._folder is not None
        if shutil.disk_usage(self._folder).free < _ROOM:
            raise OSError("the disk is full")

    def _give_up(self, error: OSError) -> None:
        told, self._folder = self._folder, None
        logger.warning("TensorBoard: %s cannot be written, nothing more is: %s", told, error.strerror or error)
        self.close()
