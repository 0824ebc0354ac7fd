"""The group of processes that train together, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from recbole_mmm4rec.base.errors import LostProcessError

PATIENCE = timedelta(hours=2)
"""How long a process waits for another one that is alive, for example while that one reads its data."""
MEETING = timedelta(minutes=10)
"""How long a process waits for the others to be started."""
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
"""The environment variable in which ``torchrun`` says how often it has started the processes again."""


def active() -> bool:
    """Whether this process belongs to a group."""
    return dist.is_available() and dist.is_initialized()


def restarted() -> bool:
    """Whether ``torchrun`` has started this process in place of one that ended."""
    return int(os.environ.get(RESTARTS, "0")) > 0


def rank() -> int:
    """Number of this process over all machines, from 0; 0 without a group."""
    return dist.get_rank() if active() else 0


def world() -> int:
    """How many processes there are on all machines."""
    return dist.get_world_size() if active() else 1


def is_main() -> bool:
    """Whether this process is the one that writes files, logs and progress bars."""
    return rank() == 0


def join(number: int, size: int, device: torch.device, address: str | None) -> None:
    """Enter the group; returns when all processes have.

    Args:
        number: of this process.
        size: how many there are.
        device: of the training; numbers on a GPU travel by nccl, all others by gloo.
        address: ``host:port`` of process 0; None where the environment says it, as ``torchrun``'s does.

    Raises:
        LostProcessError: the others did not come.
    """
    here = address is not None and address.partition(":")[0] in ("localhost", "127.0.0.1")
    if here and Path("/sys/class/net/lo").exists():  # the machine's own name need not resolve
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    url = "env://" if address is None else f"tcp://{address}"
    try:
        store, number, size = next(dist.rendezvous(url, number, size, timeout=MEETING))
        # torchrun's store outlives its processes, and with it the addresses of those before a restart
        attempt = dist.PrefixStore(f"attempt {os.environ.get(RESTARTS, '0')}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=attempt, rank=number, world_size=size, timeout=PATIENCE)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise LostProcessError(
            f"process {number} of {size} did not meet the others at {address or os.environ['MASTER_ADDR']}: {reason}"
        ) from error


def leave() -> None:
    """Leave the group, once all have come here; nothing without one."""
    if active():
        barrier()
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    if active():
        dist.all_reduce(torch.zeros(1))


def same(value: Any) -> Any:
    """Process 0's value, on every process: plain Python objects, and tensors on the processor in any nesting."""
    if not active():
        return value
    leaves, structure = tree_flatten(value) if is_main() else ([], None)
    plain = [_Empty(leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    message = [(structure, plain)]
    dist.broadcast_object_list(message, src=0)
    structure, plain = message[0]
    received = []
    for place, leaf in enumerate(plain):
        if isinstance(leaf, _Empty):
            tensor = leaves[place].cpu().contiguous() if is_main() else torch.empty(leaf.shape, dtype=leaf.dtype)
            dist.broadcast(tensor, src=0)
            received.append(leaves[place] if is_main() else tensor)
        else:
            received.append(leaf)
    assert structure is not None
    return tree_unflatten(received, structure)


class _Empty:
    """Stands for a tensor that follows."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype


def gathered(value: Any) -> list[Any] | None:
    """What each process has, in the order of their numbers, on process 0; None on the others."""
    if not active():
        return [value]
    everything: list[Any] | None = [None] * world() if is_main() else None
    dist.gather_object(value, everything, dst=0)
    return everything


def of_all(value: Any) -> list[Any]:
    """What each process has, in the order of their numbers, on every process."""
    if not active():
        return [value]
    everything: list[Any] = [None] * world()
    dist.all_gather_object(everything, value)
    return everything


def all_counts(counts: Sequence[int], device: torch.device) -> list[list[int]]:
    """Numbers of all processes, one list a process; each has as many."""
    if not active():
        return [list(counts)]
    own = torch.tensor(counts, dtype=torch.int64, device=device)
    every = [torch.empty_like(own) for _ in range(world())]
    dist.all_gather(every, own)
    found: list[list[int]] = torch.stack(every).tolist()
    return found


def total(value: Any) -> Any:
    """The sum over the processes of a number, or of each number of a tuple; None stays None."""
    if not active() or value is None:
        return value
    numbers = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(numbers)
    return tuple(numbers.tolist()) if isinstance(value, tuple) else numbers.item()


@torch.no_grad()
def share_weights(model: nn.Module) -> None:
    """Overwrite what a checkpoint of the model would hold with process 0's."""
    seen: set[int] = set()
    for tensor in model.state_dict().values():
        if isinstance(tensor, Tensor) and tensor.numel() and tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            sent = tensor if tensor.is_contiguous() else tensor.contiguous()
            dist.broadcast(sent, src=0)
            if sent is not tensor:
                tensor.copy_(sent)
