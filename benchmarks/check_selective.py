"""Compare mamba-ssm's compiled selective scan, which Mamba4Rec's earlier layers take on a GPU, with the plain one.

    python benchmarks/check_selective.py

Prints the largest error of the outputs (relative to the largest output) and of the gradients (norm of the difference
over the norm, worst tensor), and exits with 1 where one is above its bound or where the compiled scan is not there.
``--device cpu`` has nothing to compare.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recbole_mmm4rec.network.ops import selective
from recbole_mmm4rec.network.ops.packing.ragged import Ragged

BOUNDS = (1e-4, 1e-3)
"""Of outputs and of gradients, in float32."""
SHAPES = ((6, 9, 12, 5), (300, 50, 128, 32))
"""Sequences, L, E, N: few, and a layer of Mamba4Rec with the sizes of its paper."""
NAMES = ("x", "step", "A", "B", "C")


def inputs(device: str, count: int, length: int, E: int, N: int) -> tuple[list[Tensor], Ragged]:
    """x (T, E), Δ (T, E), A (E, N), B (T, N), C (T, N) of sequences of 1 to ``length`` tokens."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, length + 1, (count,), generator=draw)
    ragged = Ragged(lengths.to(device), length)
    x, step = (torch.randn(len(ragged), E, generator=draw) for _ in range(2))
    B, C = (torch.randn(len(ragged), N, generator=draw) for _ in range(2))
    A = -torch.arange(1.0, N + 1).repeat(E, 1)
    return [part.to(device).requires_grad_() for part in (x, (step - 3).exp(), A, B, C)], ragged


def run(parts: list[Tensor], ragged: Ragged, upward: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (T, E), and the gradients of the inputs."""
    x, step, A, B, C = parts
    found = selective.selective_scan(x, step, A, B, C, ragged)
    return found.detach(), torch.autograd.grad(found, parts, upward)


def errors(device: str, count: int, length: int, E: int, N: int) -> tuple[float, float]:
    """The largest errors of the outputs and of the gradients."""
    parts, ragged = inputs(device, count, length, E, N)
    upward = torch.randn(len(ragged), E, generator=torch.Generator().manual_seed(1)).to(device)
    found, gradients = run(parts, ragged, upward)
    with mock.patch.object(selective, "compiled_scan", return_value=None):
        wanted, truths = run(parts, ragged, upward)
    of_each = [float((one - two).norm() / two.norm()) for one, two in zip(gradients, truths, strict=True)]
    for name, error in zip(NAMES, of_each, strict=True):
        print(f"    gradient of {name:<6}{error:.1e}")
    return float((found - wanted).abs().max() / wanted.abs().max()), max(of_each)


def main() -> int:
    """Compare and print; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
    if parser.parse_args().device == "cpu":
        print("a processor has no compiled scan: nothing to compare")
        return 0
    if not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here")
    if selective.compiled_scan("cuda") is None:
        print("did not run: mamba-ssm's compiled scan cannot be imported; the plain one is used in its place")
        return 1
    good = True
    for shape in SHAPES:
        value_error, gradient_error = errors("cuda", *shape)
        within = value_error <= BOUNDS[0] and gradient_error <= BOUNDS[1]
        print(f"{shape}: values {value_error:.1e}  gradients {gradient_error:.1e}  {'ok' if within else 'WRONG'}")
        good &= within
    return int(not good)


if __name__ == "__main__":
    raise SystemExit(main())
