"""Compare the network with the published program's tensors on a device, for every backend that runs there.

    python benchmarks/check_parity.py                 on the GPU, with mamba-ssm's and causal-conv1d's kernels
    python benchmarks/check_parity.py --device cpu

Prints the largest error of scores (relative to the largest score) and of gradients (norm of the difference over the
norm, worst tensor), and exits with 1 where one is above its bound.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import torch
from machine import processor
from safetensors.torch import load_file

import recbole_mmm4rec
from recbole_mmm4rec.errors import UserError
from recbole_mmm4rec.published import network_from_published, our_name

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
BOUNDS = {"recurrence": (1e-5, 1e-4), "torch": (1e-5, 1e-4), "mamba_ssm": (1e-4, 1e-3)}
CASES = {
    "zero_stamp": ("output.scores", "grad."),
    "masked": ("output.scores_masked_padding", "grad_masked_padding."),
}


def errors(device: str, backend: str, padding: str) -> tuple[float, float]:
    """The largest errors of scores and of gradients under one backend and padding."""
    golden = load_file(GOLDEN / "base.safetensors", device=device)
    config = json.loads((GOLDEN / "base.json").read_text())
    weights = {name.removeprefix("model."): value for name, value in golden.items() if name.startswith("model.")}
    network = network_from_published(weights, {**config, "time_padding": padding, "ssd_backend": backend}).to(device)
    tables = network.items.tables()
    inputs = (golden[f"input.{name}"] for name in ("item_seq", "length", "timestamp"))
    logits = network.user_vectors(*inputs, tables) @ network.fused_items(tables).T
    torch.nn.functional.cross_entropy(logits, golden["input.label"]).backward()
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


def main() -> int:
    """Run the comparison and print one line a case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda (default) or cpu")
    device = parser.parse_args().device
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU here; try --device cpu")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    card = torch.cuda.get_device_name() if device == "cuda" else processor()
    print(f"recbole-mmm4rec {recbole_mmm4rec.__version__}, PyTorch {torch.__version__}, {card}")
    failed = False
    for backend in ("recurrence", "torch", *(["mamba_ssm"] if device == "cuda" else [])):
        for padding in CASES:
            try:
                found = errors(device, backend, padding)
            except UserError as error:
                print(f"{backend:<11}{padding:<11} did not run: {error}")
                failed = True
                continue
            good = all(value <= bound for value, bound in zip(found, BOUNDS[backend], strict=True))
            failed |= not good
            verdict = "ok" if good else "WRONG"
            print(f"{backend:<11}{padding:<11} scores {found[0]:.1e}  gradients {found[1]:.1e}  {verdict}")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
