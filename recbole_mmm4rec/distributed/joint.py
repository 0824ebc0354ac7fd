"""The loss and the gradient of a joint batch from each process's part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.distributed import group
from recbole_mmm4rec.distributed.batches import counted

BUCKET_BYTES = 16 * 2**20
"""Small gradients are summed over the processes together, as many as fit here; a larger one where it stands."""

_sizes: list[int] | None = None  # samples of each process in the batch whose loss is being computed


def sizes_of(batches: Sequence[Any], device: torch.device) -> list[list[int]]:
    """How many samples each process has in each of some batches: one list a batch."""
    counts = group.all_counts([counted(batch) for batch in batches], device)
    return [list(sizes) for sizes in zip(*counts, strict=True)]


@contextmanager
def batch_of(sizes: list[int]) -> Iterator[None]:
    """While the loss of a batch is computed: how many samples each process has in it."""
    global _sizes
    _sizes = sizes
    try:
        yield
    finally:
        _sizes = None


def first_row() -> int:
    """Where this process's rows begin in what :func:`rows_of_all` gives."""
    if _sizes is None:
        return 0
    return min(sum(_sizes[: group.rank()]), sum(_sizes) - 1)  # without rows of its own: some row


def rows_of_all(rows: Tensor) -> Tensor:
    """The rows of all processes' parts of the batch, with gradients.

    Args:
        rows: (B, …) of this process's part.

    Returns:
        (B of the joint batch, …), in the order of the processes; ``rows`` itself where no other process takes part.
    """
    if _sizes is None or len(_sizes) == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows, tuple(_sizes), group.rank())
    return gathered


class _Gather(torch.autograd.Function):
    """Concatenate over the processes; the gradient of a row is the sum of what all processes ask of it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: tuple[int, ...], own: int) -> Tensor:
        ctx.first, ctx.count, ctx.given = sum(sizes[:own]), sizes[own], len(rows)
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: sizes[own]] = rows[: sizes[own]]
        every = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(every, padded)
        return torch.cat([part[:size] for part, size in zip(every, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        own = gradient.new_zeros(ctx.given, *gradient.shape[1:])
        own[: ctx.count] = gradient[ctx.first : ctx.first + ctx.count]
        return own, None, None


def own_share(loss: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """A loss times this process's share of the joint batch's samples: summed over the processes, the joint loss.

    Args:
        loss: gives the mean over a batch, or a tuple of means.
        device: of the training.
    """

    def shared(interaction: Any, *args: Any, **kwargs: Any) -> Any:
        (sizes,) = sizes_of([interaction], device)
        with batch_of(sizes):
            found = loss(interaction, *args, **kwargs)
        share = sizes[group.rank()] / sum(sizes)
        return tuple(part * share for part in found) if isinstance(found, tuple) else found * share

    return shared


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over the processes; a parameter without one anywhere keeps none.

    Raises:
        UserError: a sparse gradient.
    """
    weights = [weight for weight in parameters if weight.requires_grad]
    if not weights:
        return
    held = torch.tensor([float(weight.grad is not None) for weight in weights], device=weights[0].device)
    dist.all_reduce(held)
    lacking = [place for place, weight in enumerate(weights) if weight.grad is None]
    nowhere = {place for place in lacking if not held[place]}
    gradients = []
    for place, weight in enumerate(weights):
        if place in nowhere:
            continue
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        if weight.grad.is_sparse:
            raise UserError(
                "sparse gradients cannot be summed over several processes; use dense embeddings, or nproc=1"
            )
        gradients.append(weight.grad)
    for bucket in _buckets(gradients):
        _sum_together(bucket)


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbouring gradients of one dtype and device, up to :data:`BUCKET_BYTES` together."""
    waiting: list[Tensor] = []
    filled = 0
    for gradient in gradients:
        alike = waiting and (gradient.dtype, gradient.device) == (waiting[0].dtype, waiting[0].device)
        if waiting and (not alike or filled + gradient.nbytes > BUCKET_BYTES):
            yield waiting
            waiting, filled = [], 0
        waiting.append(gradient)
        filled += gradient.nbytes
    if waiting:
        yield waiting


def _sum_together(gradients: list[Tensor]) -> None:
    if len(gradients) == 1 and gradients[0].is_contiguous():
        dist.all_reduce(gradients[0])
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def sum_after_backward(model: nn.Module, device: torch.device) -> Tensor:
    """A zero to add to a loss; the backward pass of the sum ends with :func:`sum_gradients`."""
    zero = torch.zeros((), device=device, requires_grad=True)

    def at_the_end(_: Tensor) -> None:
        engine = torch.autograd.Variable._execution_engine  # what DistributedDataParallel calls from its reducer
        engine.queue_callback(lambda: sum_gradients(model.parameters()))

    zero.register_hook(at_the_end)
    return zero
