"""The matrix products of a step, counted and run alone: what no implementation of this network goes below.

The rest of a step moves data; how long the widest tensors take to be written and read once is counted beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks import figures, shop_batches
from benchmarks.ours import Ours
from benchmarks.steps import TASKS, Task, make_setup
from benchmarks.suite import Options, say
from benchmarks.turns import timed
from recbole_mmm4rec.network import NetworkConfig

TITLE = "The floor of a step"
ABOUT = """\
`python -m benchmarks --only floor`: every matrix product of a step at the sizes of the steps above, forward and
backward, run alone with its real shapes (the smallest of several runs), summed; then a copy of as many bytes as the
tensors of a step that are T tokens wide, each written once and read once in the forward and in the backward pass.
T tokens, S tokens that the last layer's convolution can see, B users. `distance` is our step of the same run over
the products' sum."""
CELLS = tuple(cell for cell in TASKS if "alone" not in cell)


@dataclass(frozen=True)
class Product:
    """``count`` products (rows × inner) · (inner × columns); ``backward``: how many of the two gradients are needed."""

    name: str
    rows: int
    inner: int
    columns: int
    backward: int = 2
    count: int = 1

    def flops(self, training: bool) -> float:
        """Operations, an addition and a multiplication counted as two."""
        return 2.0 * self.count * self.rows * self.inner * self.columns * (1 + self.backward * training)


def products(task: Task, tokens: int, tail: int, projected: bool) -> list[Product]:
    """The products of one step of the two-modality network with one layer.

    Args:
        task: B, and whether it trains.
        tokens: T of the batch; tail: S.
        projected: the first layer's projections of all items are at hand, as in an evaluation.
    """
    c, items, width = NetworkConfig(), shop_batches.ITEMS, shop_batches.FEATURE_WIDTHS["text"]
    D, E, GN, H = c.hidden_size, c.inner_width, c.group_width, c.n_heads
    made = [
        Product("text: out_proj", tokens, E, D),
        Product("text: feed-forward", tokens, D, c.inner_size, count=2),
        Product("image: out_proj", tail, E, D),
        Product("cross: x, B, dt", tokens, D, E + GN + H),
        Product("cross: C", tail, D, GN),
        Product("cross: z, out_proj", task.users, D, E, count=2),
        Product("cross: feed-forward", task.users, D, c.inner_size, count=2),
        Product("scores", task.users, D, items),
    ]
    if not projected:
        made += [
            Product("text: in_proj", tokens, D, 2 * E + 2 * GN + H),
            Product("image: x, B, C, dt", tokens, D, E + 2 * GN + H),
            Product("image: z", tail, D, E),
        ]
    if task.training:
        made.append(Product("items: adapters", items + 1, width, D, backward=1, count=2))
    return made


def wide_bytes(task: Task, tokens: int, tail: int) -> int:
    """Bytes of the tensors that are T (or S) tokens wide in float32, written and read once a pass."""
    c = NetworkConfig()
    D, E, GN = c.hidden_size, c.inner_width, c.group_width
    widths = tokens * (2 * (E + 2 * GN) * 3 + (E + GN) * 3 + 2 * E * 3 + 8 * D) + tail * (E * 3 + GN * 2 + 4 * D)
    passes = 4 if task.training else 2
    return 4 * widths * passes


def seconds_of(product: Product, training: bool, dtype: torch.dtype, device: str, repeats: int) -> float:
    """The time of a product and of the gradients it needs, each the smallest of ``repeats``."""
    x = torch.randn(product.rows, product.inner, device=device).to(dtype)
    weight = torch.randn(product.columns, product.inner, device=device).to(dtype)
    grad = torch.randn(product.rows, product.columns, device=device).to(dtype)
    calls = [lambda: torch.mm(x, weight.t())]
    if training:
        calls.append(lambda: torch.mm(grad.t(), x))
        calls += [lambda: torch.mm(grad, weight)] * (product.backward == 2)
    return product.count * sum(min(timed(call, device == "cuda") for _ in range(repeats)) for call in calls)


def cells(options: Options) -> list[str]:
    """The names of the measurements: those of the steps with both modalities."""
    return list(CELLS)


def measure(options: Options, cell: str) -> dict[str, Any]:
    """Run the products of one step, a copy of its wide tensors, and our step.

    Args:
        options: ``device`` and ``quick`` (2 repetitions) count.
        cell: one of :data:`CELLS`.

    Returns:
        tokens, operations, and for each precision the seconds of the products and of our step.
    """
    task, repeats, cuda = TASKS[cell], 2 if options.quick else 6, options.device == "cuda"
    counts = shop_batches.TRAINING if task.training else shop_batches.TEST
    batch = shop_batches.make_batch(task.users, counts, 100)
    tokens = int(batch.item_seq_len.sum())
    tail = int(batch.item_seq_len.clamp(max=NetworkConfig().d_conv).sum())
    every = products(task, tokens, tail, projected=not task.training)
    block = torch.empty(wide_bytes(task, tokens, tail) // 8, dtype=torch.float32, device=options.device)
    result: dict[str, Any] = {
        "tokens": tokens,
        "tail": tail,
        "flops": sum(product.flops(task.training) for product in every),
        "bytes": wide_bytes(task, tokens, tail),
        "copy": min(timed(block.clone, cuda) for _ in range(repeats)),
        "precisions": {},
    }
    del block
    for precision in ("float32", "bfloat16"):
        dtype = getattr(torch, precision)
        alone = {p.name: seconds_of(p, task.training, dtype, options.device, repeats) for p in every}
        ours = Ours(make_setup(task, options, precision))
        own = []
        for repeat in range(-1, repeats):
            drawn = shop_batches.make_batch(task.users, counts, 100, ours.setup)
            if not task.training and repeat < 0:
                ours.begin_evaluation()
            call = ours.train_step if task.training else ours.score
            own.append(timed(lambda run=call, given=drawn: run(given), cuda))  # type: ignore[misc]
        result["precisions"][precision] = {"products": alone, "ours": own[1:]}
        say(f"{precision}: products {sum(alone.values()) * 1e3:.0f} ms, step {np.median(own[1:]) * 1e3:.0f} ms")
    return result


def report(found: Mapping[str, dict[str, Any]]) -> str:
    """The Markdown tables: the floors, and where the operations of the largest step are."""
    rows = []
    for cell, result in found.items():
        for precision, times in result["precisions"].items():
            floor = sum(times["products"].values())
            step = float(np.median(times["ours"]))
            rows.append(
                [
                    cell,
                    precision,
                    f"{result['tokens']:,} / {result['tail']:,}",
                    f"{result['flops'] / 1e9:.1f}",
                    f"{floor * 1e3:.0f}",
                    f"{result['flops'] / floor / 1e9:,.0f}",
                    f"{result['copy'] * 1e3 * (1 if precision == 'float32' else 0.5):.0f}",
                    figures.milliseconds(times["ours"]),
                    f"{step / floor:.2f}",
                ]
            )
    head = ["", "precision", "T / S", "GFLOP", "products, ms", "GFLOP/s", "wide tensors, ms", "step, ms", "distance"]
    return figures.table(head, rows)
