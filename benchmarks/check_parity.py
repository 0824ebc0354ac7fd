"""Compare the network with the published program's tensors on a device, for every backend that runs there.

    python benchmarks/check_parity.py                 on the GPU, with mamba-ssm's and causal-conv1d's kernels
    python benchmarks/check_parity.py --device cpu

Prints the largest error of scores (relative to the largest score) and of gradients (norm of the difference over the
norm, worst tensor), and exits with 1 where one is above its bound. Each backend computes with the tokens of the batch;
where it can, also with more of them than there are (padded), and as a recorded CUDA graph (graphed). On a GPU the gated
norm's kernel is compared with its formula, and dropout in a graph must draw anew.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import processor
from safetensors.torch import load_file
from torch import Tensor

import recbole_mmm4rec
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.ops import kernels
from recbole_mmm4rec.training.cuda_graphs import GraphedLoss
from recbole_mmm4rec.transfer.published import network_from_published, our_name

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
BOUNDS = {"recurrence": (1e-5, 1e-4), "torch": (1e-5, 1e-4), "numba": (1e-5, 1e-4), "mamba_ssm": (1e-4, 1e-3)}
CASES = {
    "zero_stamp": ("output.scores", "grad."),
    "masked": ("output.scores_masked_padding", "grad_masked_padding."),
}
NORM_BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
SPARE = 37
"""Tokens too many in the padded way."""
INPUTS = ("item_seq", "length", "timestamp", "label")


def ways(device: str) -> Iterator[tuple[str, str]]:
    """Backends and ways of computing that run on a device."""
    yield from (("recurrence", "plain"), ("recurrence", "padded"), ("torch", "plain"))
    if device == "cpu":
        yield "numba", "plain"
    if device == "cuda":
        yield from (("mamba_ssm", "plain"), ("mamba_ssm", "padded"), ("mamba_ssm", "graphed"))


def published(device: str, **changes: Any) -> tuple[MMM4RecNetwork, dict[str, Tensor]]:
    """The network with the published program's weights, and the tensors of its run."""
    golden = load_file(GOLDEN / "base.safetensors", device=device)
    config = json.loads((GOLDEN / "base.json").read_text())
    weights = {name.removeprefix("model."): value for name, value in golden.items() if name.startswith("model.")}
    return network_from_published(weights, {**config, **changes}).to(device), golden


def logits_of(network: MMM4RecNetwork, batch: dict[str, Tensor], padded_to: int | None) -> Tensor:
    """(B, I+1) scores, the padding row among them, as in the published program."""
    tables = network.items.tables()
    histories = (batch[name] for name in INPUTS[:3])
    return network.user_vectors(*histories, tables, padded_to=padded_to) @ network.fused_items(tables).T


def graphed_logits(network: MMM4RecNetwork, batch: dict[str, Tensor], tokens: int) -> Tensor:
    """Scores from a recorded step, which also sets the gradients; another batch is replayed before."""
    made: list[Tensor] = []

    def loss(static: dict[str, Tensor], padded_to: int) -> Tensor:
        logits = logits_of(network, static, padded_to)
        made.append(logits.detach())  # the last one is the recording's
        return F.cross_entropy(logits, static["label"])

    step = recorded(network, loss)
    step({name: values.flip(0) for name, values in batch.items()}, tokens)
    step(batch, tokens)
    return made[-1]


def recorded(
    network: MMM4RecNetwork, loss: Callable[[dict[str, Tensor], int], Tensor]
) -> Callable[[dict[str, Tensor], int], Tensor]:
    """Recorded steps that may not fall back.

    Raises:
        UserError: by a step, where the recording failed.
    """
    graphed = GraphedLoss(loss, network.parameters())

    def step(batch: dict[str, Tensor], tokens: int) -> Tensor:
        mean = graphed(batch, tokens)
        if mean is None:
            raise UserError("the step could not be recorded")
        return mean

    return step


def errors(device: str, backend: str, padding: str, way: str = "plain") -> tuple[float, float]:
    """The largest errors of scores and of gradients under one backend, padding and way of :func:`ways`."""
    network, golden = published(device, time_padding=padding, ssd_backend=backend)
    batch = {name: golden[f"input.{name}"] for name in INPUTS}
    tokens = int(batch["length"].sum())
    if way == "graphed":
        logits = graphed_logits(network, batch, tokens)
    else:
        logits = logits_of(network, batch, None if way == "plain" else tokens + SPARE)
        F.cross_entropy(logits, batch["label"]).backward()
    scores, prefix = CASES[padding]
    wanted = golden[scores]
    score_error = float((logits.detach() - wanted).abs().max() / wanted.abs().max())
    parameters = dict(network.named_parameters())
    worst = 0.0
    for name, truth in golden.items():
        if name.startswith(prefix):
            gradient = parameters[str(our_name(name.removeprefix(prefix)))].grad
            assert gradient is not None
            worst = max(worst, float((gradient.reshape(truth.shape) - truth).norm() / truth.norm()))
    return score_error, worst


def norm_errors(device: str, dtype: torch.dtype, rows: int = 1000, width: int = 512) -> tuple[float, float]:
    """The errors of the gated norm's kernel and of its gradients against float64; 0 and 0 mean that both are exact.

    Raises:
        UserError: the kernel does not run here.
    """
    torch.manual_seed(0)
    shapes = ((rows, width), (rows, width), (width,))
    y, z, weight = (torch.randn(shape, device=device, dtype=dtype) for shape in shapes)
    upward = torch.randn(rows, width, device=device, dtype=dtype)
    ours = [y.requires_grad_(), z.requires_grad_(), weight.float().requires_grad_()]
    truth = [value.detach().double().requires_grad_() for value in ours]
    found = kernels.gated_norm(ours[0], ours[1], ours[2], 1e-12)
    if found is None:
        raise UserError("mamba-ssm's gated norm does not run here")
    gated = truth[0] * F.silu(truth[1])
    wanted = gated * torch.rsqrt(gated.square().mean(1, keepdim=True) + 1e-12) * truth[2]
    gradients = torch.autograd.grad(found, ours, upward)
    truths = torch.autograd.grad(wanted, truth, upward.double())
    worst = max(float((one - two).norm() / two.norm()) for one, two in zip(gradients, truths, strict=True))
    return float((found - wanted).detach().abs().max() / wanted.detach().abs().max()), worst


def dropout_draws_anew(device: str) -> bool:
    """Whether replays of one recorded step on one batch differ in their loss, and are finite."""
    network, golden = published(device, ssd_backend="mamba_ssm", dropout_prob=0.4)
    batch = {name: golden[f"input.{name}"] for name in INPUTS}

    def loss(static: dict[str, Tensor], padded_to: int) -> Tensor:
        return F.cross_entropy(logits_of(network, static, padded_to), static["label"])

    step = recorded(network.train(), loss)
    values = [float(step(batch, int(batch["length"].sum()))) for _ in range(8)]
    return len(set(values)) == len(values) and all(value == value for value in values)


def line(name: str, found: Callable[[], tuple[float, float]], bounds: tuple[float, float]) -> bool:
    """Print one comparison; whether it is within its bounds."""
    try:
        score_error, gradient_error = found()
    except UserError as error:
        print(f"{name:<32}did not run: {error}")
        return False
    good = score_error <= bounds[0] and gradient_error <= bounds[1]
    print(f"{name:<32}values {score_error:.1e}  gradients {gradient_error:.1e}  {'ok' if good else 'WRONG'}")
    return good


def main() -> int:
    """Run the comparison and print one line a case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
    device = parser.parse_args().device
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU here; try --device cpu")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    card = torch.cuda.get_device_name() if device == "cuda" else processor()
    print(f"recbole-mmm4rec {recbole_mmm4rec.__version__}, PyTorch {torch.__version__}, {card}")
    good = []
    for backend, way in ways(device):
        for padding in CASES:
            found = lambda b=backend, p=padding, w=way: errors(device, b, p, w)  # noqa: E731
            good.append(line(f"{backend}, {way}, {padding}", found, BOUNDS[backend]))
    if device == "cuda":
        for dtype, bound in NORM_BOUNDS.items():
            name = f"gated norm, {str(dtype).removeprefix('torch.')}"
            good.append(line(name, lambda d=dtype: norm_errors(device, d), (bound, bound)))
        good.append(line("dropout in a graph", lambda: (0.0 if dropout_draws_anew(device) else 1.0, 0.0), (0.5, 0.5)))
    return int(not all(good))


if __name__ == "__main__":
    raise SystemExit(main())
