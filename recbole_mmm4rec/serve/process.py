"""Model and encoders in processes of their own: what the network asks for and what they compute do not wait.

In one process all would share Python's lock, and a list would wait for every request that comes meanwhile.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.new_python import running
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
        named = [] if folder is None else [str(folder)]
        command = running(__name__, str(theirs.fileno()), str(threads), *named)
        environment = {**OFFLINE, **os.environ, "OMP_NUM_THREADS": str(threads)}
        with _held():
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
            atexit.register(self.close)  # where somebody still waits for it
        try:
            theirs.close()
            status, said = self._received()
            if status != 200:
                raise UserError(said.decode())
            self._about: dict[str, Any] = json.loads(said)
        except BaseException as error:
            self.close()
            if isinstance(error, (EOFError, OSError)):
                line = f"{folder or 'encoders'}: the process ended while it was loading; see above"
                raise UserError(line) from None
            raise

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
        """End the process, whatever it does: it has nothing to write."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        atexit.unregister(self.close)


@contextlib.contextmanager
def _held() -> Iterator[None]:
    """Signals wait until a process is there to be ended; it never hears them: they are the service's, which ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(number: str, threads: str, folder: str | None = None) -> int:
    """The process: answers until the other end of the pipe is closed."""
    import torch

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    torch.set_num_threads(int(threads))
    with contextlib.suppress(EOFError, ConnectionError):  # the service has gone
        return _answer(Connection(int(number)), folder)
    return 0


def _answer(pipe: Connection, folder: str | None) -> int:
    try:
        desk = _desk(folder)
    except UserError as error:
        pipe.send_bytes(pickle.dumps((422, str(error).encode())))
        return 2
    gc.collect()
    gc.freeze()  # what is loaded stays: looking through it for garbage would be a pause
    pipe.send_bytes(pickle.dumps((200, json.dumps(desk.about()).encode())))
    while True:
        jobs = pickle.loads(pipe.recv_bytes())
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
