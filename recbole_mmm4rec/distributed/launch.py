"""Starting the processes of a training, and what happens when one of them ends."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

from recbole_mmm4rec.base.errors import LostProcessError, UserError

LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What ``torchrun`` tells each process that it starts."""

DEFAULT_PORT = "5678"
HERE = "localhost"
_OFTEN_SECONDS = 0.2
_TIME_TO_WRITE = 60.0
"""Seconds that processes have to make their step and write a checkpoint, when the training is ended."""


def from_environment(
    nproc: int = 1, world_size: int = -1, ip: str = HERE, port: str | None = None, group_offset: int = 0
) -> dict[str, Any] | None:
    """Where this process stands among those that ``torchrun`` has started.

    Args:
        nproc, world_size, ip, port, group_offset: what was asked for besides, see :func:`placement`.

    Returns:
        settings for RecBole's configuration; None where nobody has started several processes.

    Raises:
        UserError: part of the variables is missing, or something asks for processes once more.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return None
    missing = [name for name in LAUNCHER_VARIABLES if name not in os.environ]
    if missing:
        raise UserError(f"RANK is set but {', '.join(missing)} not: start with torchrun, or unset RANK and WORLD_SIZE")
    given = {"nproc": (nproc, 1), "world_size": (max(world_size, 0), 0), "ip": (ip, HERE), "port": (port, None)}
    for name, (value, default) in {**given, "group_offset": (group_offset, 0)}.items():
        if value != default:
            raise UserError(f"{name}={value}: torchrun has started the processes already; leave {name} out")
    local = int(os.environ["LOCAL_RANK"])
    return {
        "local_rank": local,
        "world_size": int(os.environ["WORLD_SIZE"]),
        "nproc": int(os.environ.get("LOCAL_WORLD_SIZE", local + 1)),
        "offset": int(os.environ["RANK"]) - local,
        "ip": os.environ["MASTER_ADDR"],
        "port": os.environ["MASTER_PORT"],
        "launched": "torchrun",
    }


def placement(nproc: int, world_size: int, ip: str, port: str | None, offset: int) -> dict[str, Any]:
    """What all processes of this machine are told.

    Args:
        nproc: processes on this machine.
        world_size: on all machines; −1 for ``nproc``.
        ip: address of the machine of process 0.
        port: its port; None for :data:`DEFAULT_PORT`, or a free one where there is one machine alone.
        offset: number of this machine's first process.

    Raises:
        UserError: more processes here than there are on all machines, or the address of another machine and no
            processes there.
    """
    size = nproc if world_size <= 0 else world_size
    if world_size <= 0 and offset == 0 and not is_here(ip):
        raise UserError(f"ip={ip}: nothing says how many processes there are on all machines; set world_size")
    if offset + nproc > size:
        raise UserError(
            f"world_size={size}: this machine's processes are {offset} to {offset + nproc - 1}, and numbers end at "
            f"{size - 1}; raise world_size, or lower group_offset"
        )
    if port is None:
        port = _free_port() if nproc == size else DEFAULT_PORT
    return {"world_size": size, "ip": ip, "port": port, "nproc": nproc, "offset": offset}


def is_here(ip: str) -> bool:
    """Whether an address is that of this machine for itself alone."""
    return ip in (HERE, "127.0.0.1", "::1")


def _free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def start(function: Callable[..., None], arguments: tuple[Any, ...], place: Mapping[str, Any]) -> Any:
    """Run a function in ``nproc`` new processes, until all have ended.

    Args:
        function: called with its number on this machine, the arguments, and a queue that it may put a result into.
        arguments: what every process gets.
        place: see :func:`placement`.

    Returns:
        what was put into the queue last; None where nothing was.

    Raises:
        UserError: the one that a process has put into the queue.
        LostProcessError: a process has failed or was killed; the others are stopped.
    """
    queue = mp.get_context("spawn").SimpleQueue()
    results: list[Any] = []
    context = start_processes(
        _beside_the_launcher,
        args=(function, os.getpid(), *arguments, queue),
        nprocs=place["nproc"],
        join=False,
        start_method="spawn",
    )
    assert context is not None
    try:
        while not context.join(timeout=_OFTEN_SECONDS, grace_period=_OFTEN_SECONDS):
            _empty(queue, results)  # a full pipe would stop the process that writes into it
        _empty(queue, results)
    except (ProcessRaisedException, ProcessExitedException) as error:
        _empty(queue, results)
        for result in results:
            if isinstance(result, UserError):
                raise result from None
        told = _what_happened(context.processes, place, error)
        if not results:
            raise LostProcessError(f"{told}; the others were stopped. {GO_ON}") from None
        print(f"warning: {told} after the result was known", file=sys.stderr)
    except BaseException:  # Ctrl-C for this process alone: the others would train on
        _end(context.processes)
        raise
    return results[-1] if results else None


def _end(processes: Sequence[Any]) -> None:
    """Let processes write what goes on, and end; what has not ended by then is killed."""
    try:
        for process in processes:
            process.terminate()
        until = time.monotonic() + _TIME_TO_WRITE
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
    finally:  # a second Ctrl-C does not wait
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _beside_the_launcher(number: int, function: Callable[..., None], launcher: int, *arguments: Any) -> None:
    """One of the processes: works as long as the one that has started it is there.

    PyTorch has the system send SIGINT when the launcher is killed, but not where that has happened before this
    process was ready, and a process that waits for the others in C++ does not notice.
    """
    threading.Thread(target=_end_with, args=(launcher,), daemon=True).start()
    function(number, *arguments)


def _end_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_OFTEN_SECONDS)
    os._exit(1)


def _empty(queue: Any, results: list[Any]) -> None:
    while not queue.empty():
        results.append(queue.get())


def _what_happened(processes: list[Any], place: Mapping[str, Any], error: Exception) -> str:
    """Which process ended first, and why; the others were stopped by us or fail because it is gone."""
    ours = (-signal.SIGTERM, -signal.SIGKILL)
    codes = [process.exitcode for process in processes]
    killed = [at for at, code in enumerate(codes) if code is not None and code < 0 and code != -signal.SIGTERM]
    noticed = int(getattr(error, "error_index", 0))  # ended while nobody had stopped it
    at = noticed if noticed in killed or not killed else killed[0]
    number, size, code = at + place["offset"], place["world_size"], codes[at]
    if code in ours or (code is not None and code < 0):
        why = f"was ended by {signal.Signals(-code).name}"
        why += " (the system does so when memory runs out)" if code == -signal.SIGKILL else ""
    else:
        print(error, file=sys.stderr)
        last = str(error).strip().splitlines()[-1]
        why = f"failed: {last}"
    return f"process {number} of {size} {why}"


GO_ON = "The same command with --resume=True goes on after the last checkpoint"


def share_cores(nproc: int) -> None:
    """Let the processes of one machine share its cores, unless ``OMP_NUM_THREADS`` says how many each one takes."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // nproc))
