"""Model and encoders in processes of their own: what the network asks for and what they compute do not wait.

In one process all would share Python's lock, and a list would wait for every request that comes meanwhile.
"""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.desk import Job, Result

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""No question makes an encoder be fetched."""


class Process:
    """Starts a process, waits until it is ready, and passes questions on.

    Args:
        threads: of a computation.
        folder: the model folder whose desk works there; None: the encoders'.

    Raises:
        UserError: the folder cannot be read.
    """

    def __init__(self, threads: int = 1, folder: Path | None = None) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), str(threads)]
        environment = {**OFFLINE, **os.environ, "OMP_NUM_THREADS": str(threads)}
        named = [] if folder is None else [str(folder)]
        self._process = subprocess.Popen([*command, *named], pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        try:
            status, said = self._received()
        except (EOFError, OSError):
            self.close()
            raise UserError(f"{folder or 'encoders'}: the process ended while it was loading; see above") from None
        if status != 200:
            self.close()
            raise UserError(said.decode())
        self._about: dict[str, Any] = json.loads(said)

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def about(self) -> dict[str, Any]:
        """As :meth:`Desk.about`, of when it was loaded."""
        return self._about

    def ask(self, jobs: Sequence[Job]) -> list[Result]:
        """As :meth:`Desk.ask`.

        Raises:
            EOFError, OSError: the process is gone.
        """
        self._pipe.send_bytes(pickle.dumps(list(jobs)))
        found: list[Result] = self._received()
        return found

    def _received(self) -> Any:
        return pickle.loads(self._pipe.recv_bytes())

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(number: str, threads: str, folder: str | None = None) -> int:
    """The process: answers until the other end of the pipe is closed."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # the service's, which closes the pipe when all is answered
    import torch

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    torch.set_num_threads(int(threads))
    pipe = Connection(int(number))
    try:
        desk = _desk(folder)
    except UserError as error:
        pipe.send_bytes(pickle.dumps((422, str(error).encode())))
        return 2
    gc.collect()
    gc.freeze()  # what is loaded stays: looking through it for garbage would be a pause
    pipe.send_bytes(pickle.dumps((200, json.dumps(desk.about()).encode())))
    while True:
        try:
            jobs = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return 0
        pipe.send_bytes(pickle.dumps(desk.ask(jobs)))


def _desk(folder: str | None) -> Any:
    if folder is None:
        from recbole_mmm4rec.serve.encoding import EncodingDesk

        return EncodingDesk()
    from recbole_mmm4rec.recommend.recommender import Recommender
    from recbole_mmm4rec.serve.desk import Desk
    from recbole_mmm4rec.serve.shop import Shop

    return Desk(Shop(Recommender.load(folder)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
