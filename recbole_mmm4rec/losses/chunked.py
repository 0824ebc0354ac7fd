"""Exact cross-entropy over a large catalogue, a chunk of items at a time.

The forward pass keeps a running log-sum-exp over chunks of items, the backward pass projects and scores each chunk
again: neither the (B, I) logits nor the (I, D) item side ever stands in memory. Sources: the running maximum and sum of
Milakov & Gimelshein, "Online normalizer calculation for softmax" (arXiv 1805.02867); recomputing the logits in the
backward pass as in Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models" (arXiv 2411.09009).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import GradientEdge

from recbole_mmm4rec.network.items import ItemTables

PLAIN_LOGITS = 32 * 2**20
"""B·I up to which all logits are made at once. On a processor that takes up to a tenth less time and, in this range,
half a GiB at most; from here on chunks take as long or less (benchmarks/catalogue.py)."""
CHUNK_LOGITS = {"cpu": 2 * 2**20, "cuda": 64 * 2**20}
"""B·n of a chunk: 8 MiB stay in a processor's cache while its products are still large; a GPU wants larger ones."""


def choose_chunk(users: int, count: int, device: str) -> int:
    """Items to score at once.

    Args:
        users: B.
        count: I.
        device: type of the device, such as "cpu".

    Returns:
        n; 0 where all logits at once fit into memory easily.
    """
    if users * count <= PLAIN_LOGITS:
        return 0
    return max(256, CHUNK_LOGITS.get(device, CHUNK_LOGITS["cuda"]) // users)


def chunked_cross_entropy(
    users: Tensor,
    items: ItemTables,
    labels: Tensor,
    chunk: int,
    label_smoothing: float = 0.0,
    rows: int | None = None,
) -> Tensor:
    """What ``full_cross_entropy(users, items.fused(items.tables()), labels, …)`` gives, in chunks of items.

    Beside the gradients themselves, memory does not grow with the catalogue. ID tables have a dense gradient each,
    written slice by slice.

    Args:
        users: (B, D), any floating dtype.
        items: the item side.
        labels: (B,) int64 in 1 … I.
        chunk: n, items that are scored at once, at least 1; no effect on the result but rounding.
        label_smoothing: share of the probability spread over all items.
        rows: where the items that are trained on end, the padding row among them; None for all.

    Returns:
        the mean over the batch, float32 (float64 for float64 users). Differentiable once, in ``users`` and in every
        parameter of ``items``.
    """
    device = users.device.type
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    plan = _Plan(items, rows or items.rows, chunk, label_smoothing, device, low)
    loss: Tensor = _ChunkedCrossEntropy.apply(plan, labels, users, *items.parameters())
    return loss


@dataclass(frozen=True)
class _Plan:
    """How the catalogue is walked through, the same in both passes."""

    items: ItemTables
    rows: int
    chunk: int
    label_smoothing: float
    device: str
    autocast: torch.dtype | None

    @property
    def count(self) -> int:
        """The items that are scored, without the padding row."""
        return self.rows - 1

    def chunks(self) -> Iterator[slice]:
        """Their rows in pieces."""
        for start in range(1, self.rows, self.chunk):
            yield slice(start, min(start + self.chunk, self.rows))

    def fused(self, rows: slice) -> Tensor:
        """(n, D), the item side of the scores of ``rows``, under the caller's precision in the backward pass, too."""
        # not from autocast's cache: a copy of a weight made without gradients must not serve where they are wanted
        with torch.autocast(self.device, self.autocast, enabled=self.autocast is not None, cache_enabled=False):
            return self.items.fused(self.items.vectors(rows), rows)

    def place(self, labels: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Column of each label in a chunk, (B, 1), and whether it is there at all, (B, 1)."""
        column = (labels - rows.start).unsqueeze(1)
        inside = (column >= 0) & (column < rows.stop - rows.start)
        return column.clamp(0, rows.stop - rows.start - 1), inside


class _Scorer:
    """Logits of a chunk, always in the same memory."""

    def __init__(self, users: Tensor, plan: _Plan) -> None:
        double = users.dtype == torch.float64
        self.sums = torch.float64 if double else torch.float32  # what is added up, is added up in this
        factors = plan.autocast if plan.autocast is not None and not double else users.dtype
        self.users = users.to(factors)  # (B, D)
        size = len(users) * min(plan.chunk, plan.count)
        self._logits = torch.empty(size, dtype=self.sums, device=users.device)
        self._factors = self._logits if factors == self.sums else self._logits.new_empty(size, dtype=factors)

    def logits(self, fused: Tensor) -> Tensor:
        """(B, n) in the dtype of sums; overwritten by the next call."""
        shape = (len(self.users), len(fused))
        size = shape[0] * shape[1]
        made = torch.mm(self.users, fused.t(), out=self._factors[:size].view(shape))
        return made if self._factors is self._logits else self._logits[:size].view(shape).copy_(made)

    def scaled(self, shares: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Two factors, (B, n) and (B, D), whose product over the batch is ``scale · sharesᵀ users``.

        Half precision needs the scale on the shares, which it would round to zero otherwise; full precision has it on
        the smaller factor.
        """
        if self._factors is self._logits:
            return shares, self.users * scale.to(self.users.dtype)
        return torch.mul(shares, scale, out=self._factors[: shares.numel()].view(shares.shape)), self.users


class _ChunkedCrossEntropy(torch.autograd.Function):
    """See :func:`chunked_cross_entropy`."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, labels: Tensor, users: Tensor, *parameters: Tensor) -> Tensor:
        scorer = _Scorer(users, plan)
        top = torch.full((len(users), 1), float("-inf"), dtype=scorer.sums, device=users.device)
        total, own = torch.zeros_like(top), torch.zeros_like(top)
        item_sum = torch.zeros(users.shape[1], dtype=scorer.sums, device=users.device)
        for rows in plan.chunks():
            fused = plan.fused(rows).to(scorer.users.dtype)
            if plan.label_smoothing:
                item_sum += fused.sum(0, dtype=scorer.sums)
            logits = scorer.logits(fused)
            column, inside = plan.place(labels, rows)
            own = torch.where(inside, logits.gather(1, column), own)
            higher = torch.maximum(top, logits.amax(1, keepdim=True))
            total = total * (top - higher).exp_() + logits.sub_(higher).exp_().sum(1, keepdim=True)
            top = higher
        normaliser = total.log_() + top  # (B, 1) log-sum-exp over all items
        ctx.plan = plan
        ctx.save_for_backward(labels, users, normaliser, item_sum, *parameters)
        smoothing = plan.label_smoothing
        loss = normaliser - (1 - smoothing) * own
        if smoothing:
            loss -= smoothing / plan.count * (scorer.users.to(scorer.sums) @ item_sum).unsqueeze(1)
        return loss.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        labels, users, normaliser, item_sum, *parameters = ctx.saved_tensors
        scorer = _Scorer(users, plan)
        scale = gradient / len(users)
        uniform = plan.label_smoothing / plan.count  # each item's share of the smoothed target
        with_users, with_items = ctx.needs_input_grad[2], any(ctx.needs_input_grad[3:])
        user_gradient = torch.zeros(users.shape, dtype=scorer.sums, device=users.device)
        item_gradients = _ItemGradients(parameters, ctx.needs_input_grad[3:], plan.items.rows)
        user_sum = (scorer.users.sum(0, dtype=scorer.sums) * scale).unsqueeze(0)
        for rows in plan.chunks():
            with torch.set_grad_enabled(with_items):
                made = plan.fused(rows)
            fused = made.detach().to(scorer.users.dtype)
            shares = scorer.logits(fused).sub_(normaliser).exp_()  # the softmax
            column, inside = plan.place(labels, rows)
            shares.scatter_add_(1, column, inside.to(shares.dtype) * (plan.label_smoothing - 1))
            left, right = scorer.scaled(shares, scale)
            if with_users:
                if right is scorer.users:
                    user_gradient += left @ fused
                else:
                    user_gradient.addmm_(left, fused)
            if with_items:
                upward = left.t() @ right
                if uniform:
                    upward -= (uniform * user_sum).to(upward.dtype)
                item_gradients.add(made, upward.to(made.dtype), rows)
        if with_users:
            if scorer.users.dtype == scorer.sums:
                user_gradient *= scale
            user_gradient -= uniform * scale * item_sum
        return None, None, user_gradient.to(users.dtype) if with_users else None, *item_gradients.taken()


class _ItemGradients:
    """Sums the parameters' gradients over chunks.

    Of a parameter with one row an item, only the chunk's rows are asked for: autograd's own gradient of a slice is a
    table of zeros around it, as large as the parameter, for every chunk.
    """

    def __init__(self, parameters: Sequence[Tensor], wanted: Sequence[bool], rows: int) -> None:
        self.parameters = parameters
        self.wanted = [index for index, want in enumerate(wanted) if want]
        self.by_row = {index for index in self.wanted if parameters[index].shape[:1] == (rows,)}
        self.sums: list[Tensor | None] = [None] * len(parameters)

    def add(self, fused: Tensor, upward: Tensor, rows: slice) -> None:
        """Take in a chunk.

        Args:
            fused: (n, D) with its graph.
            upward: (n, D), the loss's gradient in it.
            rows: the chunk.
        """
        if not fused.requires_grad:
            return
        slices = _slices_of([self.parameters[index] for index in self.by_row], fused)
        edges: list[Any] = []  # tensors and edges, as autograd.grad takes them
        owners: list[tuple[int, bool]] = []
        for index in self.wanted:
            found = slices.get(id(self.parameters[index]), []) if index in self.by_row else []
            edges += found or [self.parameters[index]]
            owners += [(index, True)] * len(found) or [(index, False)]
        parts = torch.autograd.grad(fused, edges, upward, allow_unused=True)
        for (index, sliced), part in zip(owners, parts, strict=True):
            if part is None:
                continue
            total = self.sums[index]
            if sliced:
                if total is None:
                    total = self.sums[index] = torch.zeros_like(self.parameters[index])
                total[rows] += part
            else:
                self.sums[index] = part if total is None else total.add_(part)

    def taken(self) -> list[Tensor | None]:
        """The gradients, in the order of the parameters; kept no longer."""
        sums, self.sums = self.sums, []
        return sums


def _slices_of(parameters: Sequence[Tensor], root: Tensor) -> dict[int, list[Tensor | GradientEdge]]:
    """Edges of the graph of ``root`` at which a slice of a parameter enters, by the parameter's ``id``.

    A parameter that enters in another way as well is left out.
    """
    sought = {id(parameter) for parameter in parameters}
    found: dict[int, list[Tensor | GradientEdge]] = {}
    other: set[int] = set()
    stack, seen = [root.grad_fn], {root.grad_fn}
    while stack and sought:
        node = stack.pop()
        assert node is not None
        for follower, _ in node.next_functions:
            if follower is None:
                continue
            leaf = id(getattr(follower, "variable", None))
            if leaf in sought:
                if node.name() == "SliceBackward0":
                    found.setdefault(leaf, []).append(GradientEdge(node, 0))
                else:
                    other.add(leaf)
            elif follower not in seen:
                seen.add(follower)
                stack.append(follower)
    return {leaf: edges for leaf, edges in found.items() if leaf not in other}
