"""Batches on their way to a GPU while the one before is being computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from recbole.data.interaction import Interaction


def prefetched(loader: Iterable[Interaction], device: torch.device) -> Iterator[Interaction]:
    """The batches of a loader on ``device``, in their order.

    For a GPU, a thread gathers the next batch into pinned memory and copies it on a stream of its own while this one
    computes; elsewhere the loader's own batches come as they are. Not yet run on a GPU.

    Args:
        loader: gives batches on the processor.
        device: where they are wanted.
    """
    if device.type != "cuda":
        yield from loader
        return
    stream, batches = torch.cuda.Stream(device), iter(loader)

    def sent() -> Interaction | None:
        batch = next(batches, None)
        return None if batch is None else _copied(batch, device, stream)

    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(sent)
        while (batch := coming.result()) is not None:
            coming = worker.submit(sent)
            current = torch.cuda.current_stream(device)
            current.wait_stream(stream)
            for tensor in batch.interaction.values():
                tensor.record_stream(current)  # its memory is not given away while the computation reads it
            yield batch


def _copied(batch: Interaction, device: torch.device, stream: torch.cuda.Stream) -> Interaction:
    """A batch on the device, its copy under way on ``stream``."""
    with torch.cuda.stream(stream):
        copied = {name: values.pin_memory().to(device, non_blocking=True) for name, values in batch.interaction.items()}
    return Interaction(copied)
