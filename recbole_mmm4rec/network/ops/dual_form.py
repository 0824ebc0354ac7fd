"""The scan on packed sequences as masked products: the dual form, in chunks, and its last position alone.

Source: Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), section 6. What they compute: :func:`.plain.recurrence`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_mmm4rec.network.ops.decays import decay
from recbole_mmm4rec.network.ops.packing.ragged import Block, Ragged

# more positions at once only make the (q, q) products larger: 256 take twice as long at L = 200 (docs/benchmarks.md)
CHUNK = 64


def dual_form(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged, chunk: int) -> Tensor:
    """:func:`.plain.recurrence` as masked (l, l) products inside chunks, the state carried from chunk to chunk.

    Args:
        x: (T, H, P), dt: (T, H), A: (H,), B and C: (T, G, N).
        ragged: layout of the T tokens, no idle ones among them.
        chunk: positions of a product, no effect on the result.

    Returns:
        (T, H, P) in the dtype of x.
    """
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
        weight = decay(_segment_sums(steps)) * dt[:, part].transpose(1, 2).unsqueeze(-2)  # (n, H, q, q)
        Bq, Cq = B[:, part].transpose(1, 2), C[:, part].transpose(1, 2)  # (n, G, q, N)
        xq = x[:, part].transpose(1, 2)  # (n, H, q, P)
        scores = torch.matmul(Cq, Bq.transpose(-1, -2)).unsqueeze(2)  # (n, G, 1, q, q)
        mixed = (scores * weight.unflatten(1, (groups, heads // groups))).flatten(1, 2)
        y = torch.matmul(mixed.to(x.dtype), xq)
        if state is not None:
            carried = torch.matmul(Cq.unsqueeze(2), state.unflatten(1, (groups, -1)).to(Cq.dtype)).flatten(1, 2)
            y = y + (carried * decay(steps.cumsum(-1)).unsqueeze(-1)).to(y.dtype)
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
    weight = decay(_after(steps, -1)) * dt.transpose(1, 2)  # (n, H, q)
    inflow = (weight.unsqueeze(-1) * xq).unflatten(1, (groups, heads // groups))
    added = torch.matmul(Bq.transpose(-1, -2).unsqueeze(2).to(inflow.dtype), inflow).flatten(1, 2)
    return added if state is None else added + decay(steps.sum(-1))[..., None, None] * state


def last_of_dual_form(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
    """The scan's output at the last position of each sequence alone, by any backend's mathematics.

    Args:
        x: (T, H, P), dt: (T, H), A: (H,), B: (T, G, N) as for :func:`dual_form`.
        C: (B, G, N), of the last positions.

    Returns:
        (B, H, P).
    """
    heads, groups = x.shape[1], B.shape[1]
    after = _after(ragged.unpack(dt * A), 1)  # (B, L, H)
    kept = decay(ragged.pack(after))  # (T, H), from a token to the last position
    match = (ragged.spread(C) * B).sum(-1)  # (T, G)
    weight = (match.repeat_interleave(heads // groups, dim=1) * kept * dt).to(x.dtype)
    return ragged.collect(weight.unsqueeze(-1) * x)
