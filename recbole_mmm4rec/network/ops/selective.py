"""The selective scan of Mamba (the first one) on packed tokens: every channel decays each of its N states by itself.

    h_t[e, n] = exp(Δ_t[e] A[e, n]) h_(t−1)[e, n] + Δ_t[e] B_t[n] x_t[e]
    y_t[e]    = Σ_n C_t[n] h_t[e, n]

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (arXiv 2312.00752), section 3.
The scans of :mod:`.scans` are Mamba-2's, where a head has one decay; they cannot compute this one.

Axes: T tokens of B sequences, E channels, N states, L positions.
"""

from __future__ import annotations

import functools
import importlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from recbole_mmm4rec.network.ops import kernels
from recbole_mmm4rec.network.ops.decays import LEAST, decay
from recbole_mmm4rec.network.ops.packing.ragged import Ragged

STATES_AT_ONCE = 2**20
"""Numbers of state, tokens × E × N, that stand in memory at a time: 4 MiB, which a processor's cache holds."""

Compiled = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def selective_scan(x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
    """The outputs at all positions, one position after the other; states are computed again in the backward pass.

    Args:
        x: (T, E) inputs.
        step: (T, E) Δ, positive.
        A: (E, N), negative.
        B: (T, N); C: (T, N).
        ragged: layout of the T tokens, without idle ones.

    Returns:
        (T, E), at least float32.
    """
    x, step, A, B, C = _full(x, step, A, B, C)
    compiled = compiled_scan(x.device.type)
    with torch.autocast(x.device.type, enabled=False):
        if compiled is not None:
            return _by_kernel(compiled, x, step, A, B, C, ragged)
        made: list[Tensor] = []
        for lengths in _runs(ragged.lengths.tolist(), A.numel()):
            first = sum(len(part) for part in made)
            tokens = slice(first, first + sum(lengths))
            made.append(checkpoint(
                _one_after_the_other, x[tokens], step[tokens], A, B[tokens], C[tokens], lengths,
                use_reentrant=False, preserve_rng_state=False,
            ))  # fmt: skip
        return torch.cat(made)


def last_of_selective_scan(x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
    """The output at the last position of each sequence, all tokens at once: what a token still is there, is

        exp(A[e, n] Σ_(r>t) Δ_r[e]) · Δ_t[e] B_t[n] x_t[e],

    a product of what each token knows by itself. The (T, E, N) exponentials are made a few tokens at a time, in the
    backward pass again.

    Args:
        x, step, A, B, ragged: as for :func:`selective_scan`.
        C: (B, N), of the last positions in the packed order.

    Returns:
        (B, E), at least float32.
    """
    x, step, A, B, C = _full(x, step, A, B, C)
    with torch.autocast(x.device.type, enabled=False):
        share = _Shares.apply(_later_steps(step, ragged), ragged.spread(C) * B, A)  # (T, E)
        return ragged.collect(step * x * share)


class _Shares(torch.autograd.Function):
    """g[t, e] = Σ_n exp(later[t, e] A[e, n]) M[t, n]: later (T, E), M (T, N), A (E, N) → (T, E)."""

    @staticmethod
    def forward(ctx: Any, later: Tensor, M: Tensor, A: Tensor) -> Tensor:
        ctx.save_for_backward(later, M, A)
        shares = torch.empty_like(later)
        for at in _pieces(len(later), A.numel()):
            shares[at] = torch.bmm(_decays(later[at], A), M[at].unsqueeze(2)).squeeze(2)
        return shares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        (dg,) = grads
        later, M, A = ctx.saved_tensors
        dlater, dM, dA = torch.empty_like(later), torch.empty_like(M), torch.zeros_like(A)
        for at in _pieces(len(later), A.numel()):
            decays = _decays(later[at], A)  # (t, E, N)
            dM[at] = torch.bmm(dg[at].unsqueeze(1), decays).squeeze(1)
            weighted = decays.mul_(M[at].unsqueeze(1)).mul_(dg[at].unsqueeze(2))
            dA += torch.einsum("te,ten->en", later[at], weighted)
            dlater[at] = weighted.mul_(A).sum(2)
        return dlater, dM, dA


def _decays(later: Tensor, A: Tensor) -> Tensor:
    """exp(later · A), (t, E) and (E, N) → (t, E, N); at least exp(LEAST), which is as good as nothing."""
    return (later.unsqueeze(2) * A).clamp_(min=LEAST).exp_()


def _later_steps(step: Tensor, ragged: Ragged) -> Tensor:
    """The sum of a sequence's steps after each token, (T, E) → (T, E)."""
    made = []
    for block in ragged.blocks:
        steps = step[block.first_token : block.first_token + block.count * block.length]
        steps = steps.view(block.count, block.length, -1)
        sums = steps.flip(1).cumsum(1).flip(1)  # this one and those after it
        made.append(F.pad(sums[:, 1:], (0, 0, 0, 1)).flatten(0, 1))
    return torch.cat(made)


def _one_after_the_other(x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, lengths: list[int]) -> Tensor:
    """Outputs (t, E) of a run of sequences, shortest first; arguments as above, of their tokens alone."""
    starts = torch.tensor([0, *lengths[:-1]], device=x.device).cumsum(0)
    inflow = step * x  # (t, E)
    state: Tensor | None = None  # (n, E, N) of the sequences that are this long
    outputs, order = [], []
    for position in range(lengths[-1]):
        ended = bisect_right(lengths, position)
        token = starts[ended:] + position
        state_in = inflow[token].unsqueeze(2) * B[token].unsqueeze(1)
        if state is not None:
            state_in = state_in + _kept(step[token], A) * state[len(state) - len(token) :]
        state = state_in
        outputs.append(torch.bmm(state, C[token].unsqueeze(2)).squeeze(2))
        order.append(token)
    places = torch.cat(order)
    return torch.cat(outputs).index_select(0, torch.argsort(places))


def _kept(step: Tensor, A: Tensor) -> Tensor:
    return decay(step.unsqueeze(2) * A)


def _runs(lengths: list[int], width: int) -> Iterator[list[int]]:
    """Lengths of a packed batch in runs of some times :data:`STATES_AT_ONCE`; a long sequence is one alone."""
    run: list[int] = []
    for length in lengths:
        if run and (sum(run) + length) * width > 8 * STATES_AT_ONCE:
            yield run
            run = []
        run.append(length)
    yield run


def _pieces(tokens: int, width: int) -> Iterator[slice]:
    size = max(1, STATES_AT_ONCE // width)
    return (slice(first, first + size) for first in range(0, tokens, size))


def _full(*parts: Tensor) -> tuple[Tensor, ...]:
    """At least float32: sums of small steps lose in half precision."""
    return tuple(part if part.dtype.itemsize >= 4 else part.float() for part in parts)


@functools.cache
def compiled_scan(device_type: str) -> Compiled | None:
    """mamba-ssm's compiled scan, (B, E, L) a tensor; None on a processor and where it cannot be imported."""
    if device_type != "cuda":
        return None
    kernels.scan_kernel()  # where mamba-ssm as a whole cannot be imported, its modules can after this
    try:
        found: Compiled = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except ImportError:  # it needs a compiled extension, which mamba-ssm's Triton kernels do without
        return None
    return found


def _by_kernel(compiled: Compiled, x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
    """The same by a kernel that takes padded sequences: what comes after the last position changes nothing before."""
    padded = (ragged.unpack(part).transpose(1, 2).contiguous() for part in (x, step, B, C))
    u, delta, states, queries = padded
    return ragged.pack(compiled(u, delta, A, states, queries).transpose(1, 2))
