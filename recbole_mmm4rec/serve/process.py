"""The model in a process of its own: what the network asks for and what the model computes do not wait for each other.

In one process both would share Python's lock, and a list would wait for every request that comes meanwhile.
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
from recbole_mmm4rec.serve.desk import Desk, Job, Result
from recbole_mmm4rec.serve.shop import Shop

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""No question makes an encoder be fetched."""


class ModelProcess:
    """Starts the process, waits until the model is loaded, and passes questions on.

    Args:
        folder: the model folder.
        threads: of a computation.

    Raises:
        UserError: the folder cannot be read.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), str(threads), str(folder)]
        environment = {**OFFLINE, **os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        try:
            status, said = self._received()
        except (EOFError, OSError):
            self.close()
            raise UserError(f"{folder}: the model's process ended while it was loading; see above") from None
        if status != 200:
            self.close()
            raise UserError(said.decode())
        self._about: dict[str, Any] = json.loads(said)

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


def main(number: str, threads: str, folder: str) -> int:
    """The process: answers until the other end of the pipe is closed."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # the service's, which closes the pipe when all is answered
    import torch

    from recbole_mmm4rec.recommend.recommender import Recommender

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    torch.set_num_threads(int(threads))
    pipe = Connection(int(number))
    try:
        desk = Desk(Shop(Recommender.load(folder)))
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


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
