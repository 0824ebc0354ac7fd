"""Two processes that train together, started once for many tests."""

from __future__ import annotations

import multiprocessing as mp
import os
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import recbole_mmm4rec  # noqa: F401  (RecBole works only when repaired)
from recbole_mmm4rec.distributed import group
from recbole_mmm4rec.run.build import build, make_config


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Pair:
    """Processes of one group, which run what they are told."""

    def __init__(self, folder: Path, size: int = 2) -> None:
        """Start them; logs and checkpoints that they write where they stand land in ``folder``."""
        context = mp.get_context("spawn")
        address = f"127.0.0.1:{free_port()}"
        self.ends, self.processes = [], []
        for number in range(size):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(number, size, address, folder, there), daemon=True)
            process.start()
            self.ends.append(here)
            self.processes.append(process)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What a function of a test module gives in each process; all of them call it at once."""
        for end in self.ends:
            end.send((function, arguments))
        answers = [end.recv() for end in self.ends]
        assert all(fine for fine, _ in answers), "\n".join(text for fine, text in answers if not fine)
        return [value for _, value in answers]

    def close(self) -> None:
        """Let the processes end."""
        for end in self.ends:
            end.send(None)
        for process in self.processes:
            process.join(timeout=20)
            process.kill()


def _serve(number: int, size: int, address: str, folder: Path, end: Connection) -> None:
    sys.argv = ["run_recbole.py"]
    os.chdir(folder)
    torch.set_num_threads(1)
    group.join(number, size, torch.device("cpu"), address)
    while (message := end.recv()) is not None:
        function, arguments = message
        try:
            end.send((True, function(*arguments)))
        except BaseException:
            end.send((False, traceback.format_exc()))
    group.leave()


def place() -> dict[str, Any]:
    """The settings of a process of a pair; none outside of one."""
    if not group.active():
        return {}
    size = group.world()
    return {"local_rank": group.rank(), "world_size": size, "nproc": size, "offset": 0, "ip": "", "port": ""}


def trained(model: str, dataset: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Train and test, in this process or in all of a pair.

    Returns:
        ``losses`` of the epochs, ``valid`` and ``test`` results, the checkpoint's ``file``, the final ``weights``, and
        a ``random`` number that follows.
    """
    run = build(make_config(model, dataset, config_dict={**settings, **place()}), count_flops=False)
    run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    weights = {name: weight.detach().numpy().copy() for name, weight in run.model.named_parameters()}
    test = run.trainer.evaluate(run.test)
    return {
        "losses": list(run.trainer.train_loss_dict.values()),
        "valid": [dict(entry.result) for entry in run.trainer.valid_history],
        "test": dict(test),
        "file": run.trainer.saved_model_file,
        "weights": weights,
        "random": torch.rand(1).item(),
        "tensorboard": run.trainer.tensorboard.log_dir,
    }
