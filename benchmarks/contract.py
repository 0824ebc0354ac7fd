"""What an implementation has to offer to be measured beside ours, and finding it in a file.

`python -m benchmarks --against PATH` loads a Python file. It offers

    make(setup) -> an object with train_step(batch) and score(batch)

or, without make, functions train_step(batch) and score(batch) of its own, which find the setup in batch.setup.

setup
    settings       dict: every setting of the network with its value, names as in properties/model/MMM4Rec.yaml, but
                   max_len for MAX_ITEM_LIST_LENGTH: max_len 20, hidden_size 256, d_state 64, n_groups 8, head_dim 64 …
    features       dict: "text" and, but for the text-only row, "image": (I+1, 768) float32 on the CPU; row 0 is padding
    device         "cpu" or "cuda"
    precision      "float32", or "bfloat16": the forward pass under torch.autocast; refuse one with ValueError
    learning_rate  of NAdam, float
    weight_decay   of NAdam, added to the gradient as torch.optim.NAdam does by default, float
    seed           int
    weights        dict: our network's initial weights under the names of published checkpoints (docs/model.md), float32
                   on the CPU; take them if you can, and set loads_weights = True on your object: its scores are
                   then compared with ours, and a difference above 1e-3 of the largest score is an error

batch (on setup.device, all int64)
    item_seq       (B, L)  item numbers 1 … I, oldest first, right-padded with 0; L = 20
    item_seq_len   (B,)    valid positions, 1 … L
    timestamps     (B, L)  seconds, right-padded with 0
    labels         (B,)    the next item, 1 … I
    setup                  the setup

train_step(batch) is timed as a whole: forward pass with dropout, cross-entropy over all I items, backward pass, one
step of torch.optim.NAdam over all parameters, zeroing of the gradients. Returns the loss.

begin_evaluation(), which may be missing, is called once before scoring and timed on its own: whatever an evaluation
needs to compute once for all of its batches.

score(batch) is timed as a whole: encoding of the B histories without dropout or gradients, and their scores of all
items: (B, I) for items 1 … I, or (B, I+1) with a column for padding first.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.transfer import published

FUNCTIONS = ("train_step", "score")
LARGEST_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Setup:
    """What an implementation is made for; the fields stand in the module's docstring."""

    settings: dict[str, Any]
    features: dict[str, Tensor]
    device: str
    precision: str
    learning_rate: float
    weight_decay: float
    seed: int
    weights: dict[str, Tensor] | None


def load(path: Path, function: str = "make") -> Callable[[Setup], Any]:
    """The ``make`` of a file.

    Args:
        path: a Python file that keeps the contract.
        function: the name of its ``make``.

    Returns:
        a function that makes the implementation for a setup.

    Raises:
        UserError: no such file, a file that cannot be imported, or a function that is missing.
    """
    spec = importlib.util.spec_from_file_location(f"against_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"--against {path}: there is no such Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"--against {path}: cannot be imported: {type(error).__name__}: {error}") from error
    make = getattr(module, function, None)
    if make is None:
        check(module, path)
        return lambda setup: module
    return lambda setup: check(make(setup), path)


def check(made: Any, path: Path) -> Any:
    """``made`` itself, if it has the functions.

    Raises:
        UserError: naming the first function that is missing.
    """
    for name in FUNCTIONS:
        if not callable(getattr(made, name, None)):
            raise UserError(
                f"--against {path}: there is no function {name}(batch), neither in the file nor on what its "
                "make(setup) returns; `python -m benchmarks --contract` says what is needed"
            )
    return made


def compare_scores(found: Tensor, wanted: Tensor, path: Path) -> float:
    """The largest difference of two score matrices relative to the largest score.

    Args:
        found: (B, I) or (B, I+1), the implementation's.
        wanted: (B, I+1), ours.
        path: the implementation's file.

    Raises:
        UserError: another shape, or a difference above 1e-3.
    """
    users, columns = wanted.shape
    if tuple(found.shape) not in ((users, columns - 1), (users, columns)):
        raise UserError(
            f"--against {path}: score(batch) gave {tuple(found.shape)}, not ({users}, {columns - 1}) for "
            f"{users} users and {columns - 1} items"
        )
    found, wanted = found[:, found.shape[1] - (columns - 1) :].float(), wanted[:, 1:].float()
    difference = float((found - wanted).abs().max() / wanted.abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(
            f"--against {path}: with our weights its scores differ from ours by {difference:.1e} of the largest "
            f"(allowed: {LARGEST_DIFFERENCE:.0e}); it computes something else"
        )
    return difference


def published_weights(network: MMM4RecNetwork) -> dict[str, Tensor]:
    """The network's weights under the names and shapes of published checkpoints, shared ones once."""
    state = network.state_dict()
    stems = list(published._TOP)
    for index in range(network.config.num_layers):
        for stack, (_, names) in published._LAYER.items():
            block = "ssd" if stack == "encoder_ssd_layers" else "co_ssd"
            inner = [*names, *(f"{block}.{name}" for name in published._SSD)]
            stems += [f"{stack}.{index}.{name}" for name in inner]
    endings = ("", ".weight", ".bias", ".real.weight", ".real.bias", ".imag.weight", ".imag.bias")
    weights = {}
    for stem, ending in itertools.product(stems, endings):
        ours = published.our_name(stem + ending)
        if ours in state:
            value = state[ours].detach().cpu().clone()
            flat = "conv1d" in stem and ending == ".weight" and value.dim() == 2
            weights[stem + ending] = value.unsqueeze(1) if flat else value
    return weights
