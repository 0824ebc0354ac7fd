"""The format of checkpoints: the one module that knows how a state becomes a file and a file a state.

A state is a dictionary of tensors and plain values in any nesting; ``config``, where it is there, is RecBole's
configuration. Today a file is PyTorch's zip of a pickle, as RecBole writes it. Such files are read by
:mod:`~recbole_mmm4rec.checkpoints.reading`, which runs nothing that they hold.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.checkpoints.reading import read_checkpoint

ENDING = ".pth"
"""How the names of checkpoints end."""


def write(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a state; the file has its name only when it is whole.

    Raises:
        UserError: it cannot be written; what had the name before is as it was.
    """
    with whole_file(path) as file:
        torch.save(dict(state), file, pickle_protocol=4)


def read(path: str | Path) -> dict[str, Any]:
    """A state, its tensors on the processor, ``config`` as a plain dictionary of settings; nothing in the file is run.

    Raises:
        UserError: in one line: there is no such file, or it is none that can be read.
    """
    state = read_checkpoint(path)
    if isinstance(state.get("noted"), dict):  # an older note of the last epoch, its parts in groups
        more = state.pop("more", None)
        state = {**state, **state.pop("noted"), **(more if isinstance(more, dict) else {})}
        state = {name: value for name, value in state.items() if value is not None or name == "best_valid_result"}
    return state


def read_trusted(path: str | Path) -> dict[str, Any]:
    """A state with ``config`` as the object that RecBole has written, whose code a RecBole checkpoint runs when loaded.

    Raises:
        UserError: as for :func:`read`, or it is no checkpoint of a trainer.
    """
    if not Path(path).is_file():
        raise UserError(f"model file {str(path)!r} does not exist")
    try:
        state = torch.load(path, map_location="cpu", weights_only=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"model file {str(path)!r} cannot be read: {told}") from error
    if not isinstance(state, dict) or not {"config", "state_dict"} <= state.keys():
        raise UserError(f"model file {str(path)!r} is not a checkpoint of a RecBole trainer")
    return state
