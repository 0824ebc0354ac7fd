"""The scan alone, forward and backward, by the length of the sequences: where one way overtakes the other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import figures
from benchmarks.suite import Options, say
from benchmarks.turns import timed
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.ops.choice import choose_scan
from recbole_mmm4rec.network.ops.packing.ragged import Ragged
from recbole_mmm4rec.network.ops.scans import DualForm, Kernels, TokenScan

TITLE = "The scan by length"
HEADS, WIDTH, GROUPS, STATE = 8, 64, 8, 64  # the paper's H, P, G, N
SCANS: dict[str, TokenScan] = {
    "torch": DualForm("torch"),
    "torch, chunks of 16": DualForm("torch", 16),
    "mamba_ssm": Kernels(),
}
TOKENS = 8_000
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
LENGTHS = (20, 50, 200, 1000)
ABOUT = f"""\
`python -m benchmarks --only scan`: {TOKENS:,} packed tokens in full sequences of the given length, H {HEADS}, P
{WIDTH}, G {GROUPS}, N {STATE}, float32, forward and backward; `torch` is the dual form in chunks of up to 64
positions, `mamba_ssm` mamba-ssm's Triton kernels (on a GPU alone). In turn on the same tokens; median (quartiles)
in ms, ratio to `torch`: median (smallest–largest)."""


def cells(options: Options) -> list[str]:
    """One measurement a length."""
    return [str(length) for length in LENGTHS]


def measure(options: Options, cell: str) -> dict[str, Any]:
    """Time every implementation at one length.

    Args:
        options: ``device`` and ``quick`` (3 repetitions) count.
        cell: the length L.

    Returns:
        ``seconds`` of every implementation, one a repetition, and why one is ``absent``.
    """
    length, cuda = int(cell), options.device == "cuda"
    names, absent = list(SCANS), {}
    try:
        choose_scan("mamba_ssm", options.device)
    except UserError as error:
        names.remove("mamba_ssm")
        absent["mamba_ssm"] = str(error)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    repeats = 3 if options.quick else 20 if cuda else 7
    for repeat in range(-2, repeats):  # the first two warm up, and let Triton choose its tiles
        given, ragged = inputs(length, repeat, options.device)
        for name in names if repeat % 2 else reversed(names):
            found = timed(partial(forward_backward, given, ragged, name), cuda)
            if repeat >= 0:
                seconds[name].append(found)
    say(f"L = {length}: " + ", ".join(f"{name} {figures.milliseconds(values)} ms" for name, values in seconds.items()))
    return {"seconds": seconds, "absent": absent}


def inputs(length: int, seed: int, device: str) -> tuple[Inputs, Ragged]:
    """x (T, H, P), dt (T, H), A (H,), B and C (T, G, N), all leaves for gradients, and their layout."""
    torch.manual_seed(seed + 10)
    tokens = TOKENS // length * length
    shapes = ((tokens, HEADS, WIDTH), (tokens, HEADS), (HEADS,), (tokens, GROUPS, STATE), (tokens, GROUPS, STATE))
    x, dt, A, B, C = (torch.randn(shape, device=device) for shape in shapes)
    given = (x, torch.nn.functional.softplus(dt - 3), -torch.exp(A), B, C)
    ragged = Ragged(torch.full((tokens // length,), length, device=device), length)
    x, dt, A, B, C = (part.detach().requires_grad_() for part in given)
    return (x, dt, A, B, C), ragged


def forward_backward(given: Inputs, ragged: Ragged, name: str) -> None:
    """Scan and back, by one of :data:`SCANS`."""
    y = SCANS[name].scan(*given, ragged)
    torch.autograd.grad(y.sum(), given)


def report(found: Mapping[str, dict[str, Any]]) -> str:
    """The Markdown table."""
    rows, notes = [], set()
    for length, result in found.items():
        for backend, seconds in result["seconds"].items():
            ratio = "" if backend == "torch" else figures.spread(figures.ratios(seconds, result["seconds"]["torch"]))
            rows.append([length, backend, figures.milliseconds(seconds), ratio])
        notes |= {f"{name} did not run: {why}." for name, why in result["absent"].items()}
    return "\n\n".join([figures.table(["L", "", "ms", "ratio to torch"], rows), *sorted(notes)])
