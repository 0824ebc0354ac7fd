"""The state-space operator (SSD, Mamba-2) on packed sequences, one function with three implementations.

Source: Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), sections 3 (recurrence), 6 (dual and chunked form).
For every head, with x of width P and state of size N:

    h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T          (P, N)
    y_t = h_t C_t                                       (P,)

The skip D is added by the caller, because the published program scales it by dt and Mamba's kernel does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_mmm4rec.network.ops import kernels
from recbole_mmm4rec.network.ops.ragged import Block, Ragged

# more positions at once only make the (q, q) products larger: 256 take twice as long at L = 200 (docs/benchmarks.md)
DUAL_FORM_CHUNK = 64
KERNEL_CHUNK = 256


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged, *, backend: str, chunk: int | None = None
) -> Tensor:
    """Scan packed sequences; nothing flows from one sequence into the next.

    Args:
        x: (T, H, P) inputs.
        dt: (T, H) float32 step sizes, positive.
        A: (H,) float32, negative.
        B: (T, G, N) and C: (T, G, N); head h reads group ⌊h·G/H⌋.
        ragged: the layout of the T tokens.
        backend: "torch", "mamba_ssm" or "recurrence"; "numba" does here what "torch" does.
        chunk: block length, no effect on the result; by default what is fast.

    Returns:
        (T, H, P) in the dtype of x.
    """
    if backend == "mamba_ssm":
        return kernels.scan(x, dt, A, B, C, ragged.seq_idx, chunk or KERNEL_CHUNK)
    if backend in kernels.DENSE:
        return dual_form(x, dt, A, B, C, ragged, min(chunk or DUAL_FORM_CHUNK, DUAL_FORM_CHUNK))
    return recurrence(x, dt, A, B, C, ragged)


def recurrence(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
    """:func:`ssd`, one position after the other: slow, and the truth for the other two."""
    heads, groups = x.shape[1], B.shape[1]
    B, C = (part.repeat_interleave(heads // groups, dim=1) for part in (B, C))  # (T, H, N)
    decay = torch.exp(dt * A)  # (T, H)
    state = x.new_zeros(ragged.lengths.numel(), heads, x.shape[2], B.shape[2])  # (B, H, P, N)
    outputs, order = [], []
    for step in range(ragged.longest):
        alive = torch.nonzero(ragged.lengths > step).squeeze(1)
        token = ragged.starts[alive] + step
        inflow = (dt[token].unsqueeze(-1) * x[token]).unsqueeze(-1) * B[token].unsqueeze(-2)
        moved = decay[token][..., None, None] * state[alive] + inflow
        state = state.index_copy(0, alive, moved.to(state.dtype))
        outputs.append(torch.einsum("bhpn,bhn->bhp", moved.to(C.dtype), C[token]))
        order.append(token)
    return torch.zeros_like(x).index_copy(0, torch.cat(order), torch.cat(outputs).to(x.dtype))


def dual_form(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged, chunk: int) -> Tensor:
    """:func:`ssd` as masked (l, l) products inside chunks, with the state carried from chunk to chunk."""
    return torch.cat([_dense_scan(x, dt, A, B, C, block, chunk).flatten(0, 1) for block in ragged.blocks])


def _dense_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, block: Block, chunk: int) -> Tensor:
    """The n sequences of one block: (n, l, H, P)."""
    assert block.idle is None, "idle tokens are for block_scan alone"
    heads, groups, width = x.shape[1], B.shape[1], x.shape[2]
    n, length = block.count, block.length

    def dense(part: Tensor) -> Tensor:
        return part.narrow(0, block.first_token, n * length).unflatten(0, (n, length))

    x, dt, B, C = dense(x), dense(dt), dense(B), dense(C)
    log_decay = dt * A
    state: Tensor | None = None
    outputs = []
    for begin in range(0, length, chunk):
        part = slice(begin, begin + chunk)
        steps = log_decay[:, part].transpose(1, 2)  # (n, H, q)
        weight = torch.exp(_segment_sums(steps)) * dt[:, part].transpose(1, 2).unsqueeze(-2)  # (n, H, q, q)
        Bq, Cq = B[:, part].transpose(1, 2), C[:, part].transpose(1, 2)  # (n, G, q, N)
        xq = x[:, part].transpose(1, 2)  # (n, H, q, P)
        scores = torch.matmul(Cq, Bq.transpose(-1, -2)).unsqueeze(2)  # (n, G, 1, q, q)
        mixed = (scores * weight.unflatten(1, (groups, heads // groups))).flatten(1, 2)
        y = torch.matmul(mixed.to(x.dtype), xq)
        if state is not None:
            carried = torch.matmul(Cq.unsqueeze(2), state.unflatten(1, (groups, -1)).to(Cq.dtype)).flatten(1, 2)
            y = y + (carried * torch.exp(steps.cumsum(-1)).unsqueeze(-1)).to(y.dtype)
        outputs.append(y.transpose(1, 2))
        if begin + chunk < length:
            state = _next_state(state, xq, dt[:, part], Bq, steps)
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)).reshape(n, length, heads, width)


def _segment_sums(steps: Tensor) -> Tensor:
    """(…, q) → (…, q, q): entry (t, s) is the sum of the steps s+1 … t, −inf where s > t.

    Summed per column rather than taken as a difference of two running sums, which loses the small decays.
    """
    q = steps.shape[-1]
    below = torch.ones(q, q, dtype=torch.bool, device=steps.device).tril(-1)
    sums = (steps.unsqueeze(-1) * below).cumsum(-2)
    # -inf before the exponential: above the diagonal it could overflow and poison the gradient
    return sums.masked_fill(~(below | torch.eye(q, dtype=torch.bool, device=steps.device)), float("-inf"))


def _after(steps: Tensor, dim: int) -> Tensor:
    """The sum of the steps that follow each one along ``dim``, summed from the end for accuracy."""
    reversed_sums = steps.flip(dim).cumsum(dim).flip(dim)
    size = steps.shape[dim]
    return torch.cat([reversed_sums.narrow(dim, 1, size - 1), torch.zeros_like(steps.narrow(dim, 0, 1))], dim)


def _next_state(state: Tensor | None, xq: Tensor, dt: Tensor, Bq: Tensor, steps: Tensor) -> Tensor:
    """The state (n, H, N, P) after a chunk."""
    heads, groups = xq.shape[1], Bq.shape[1]
    weight = torch.exp(_after(steps, -1)) * dt.transpose(1, 2)  # (n, H, q)
    inflow = (weight.unsqueeze(-1) * xq).unflatten(1, (groups, heads // groups))
    added = torch.matmul(Bq.transpose(-1, -2).unsqueeze(2).to(inflow.dtype), inflow).flatten(1, 2)
    return added if state is None else added + torch.exp(steps.sum(-1))[..., None, None] * state


def ssd_last(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
    """The scan's output at the last position of each sequence alone, by any backend's mathematics.

    Args:
        x: (T, H, P), dt: (T, H), A: (H,), B: (T, G, N) as for :func:`ssd`.
        C: (B, G, N), of the last positions.

    Returns:
        (B, H, P).
    """
    heads, groups = x.shape[1], B.shape[1]
    after = _after(ragged.unpack(dt * A), 1)  # (B, L, H)
    decay = torch.exp(ragged.pack(after))  # (T, H), from a token to the last position
    match = (ragged.spread(C) * B).sum(-1)  # (T, G)
    weight = (match.repeat_interleave(heads // groups, dim=1) * decay * dt).to(x.dtype)
    return ragged.collect(weight.unsqueeze(-1) * x)
