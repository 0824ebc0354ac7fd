"""RecBole's own reading and writing of checkpoints, led through our format: nothing that a file holds is run."""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.checkpoints.format import ENDING, STOCK, read, write
from recbole_mmm4rec.compat.tools import ModuleView

Place = str | os.PathLike[str]


def use_our_files(module: ModuleType) -> None:
    """Read and write the checkpoints of a module of RecBole's as we do.

    RecBole's ``torch.load`` (trainer/trainer.py:323, 583, and six models) runs whatever a file holds, and since PyTorch
    2.6 refuses RecBole's own files (#2212 for NeuMF); its ``torch.save`` writes over the best checkpoint in place
    (#1735). Only the module's own name ``torch`` is changed.
    """
    vars(module)["torch"] = ModuleView(module.torch, load=_load, save=_save)


def _load(file: Any, map_location: Any = None, **ignored: Any) -> dict[str, Any]:
    """A checkpoint's state, its tensors on a device."""
    state = read(file)
    device = torch.device(map_location or "cpu")
    if device.type == "cpu":
        return state
    moved: dict[str, Any] = tree_map(lambda part: part.to(device) if isinstance(part, Tensor) else part, state)
    return moved


def _save(content: Any, file: Place | IO[bytes], *args: Any, **kwargs: Any) -> None:
    """Write a state as its file's name says; what is no state, such as NeuMF's parts, as PyTorch does, but whole."""
    if not isinstance(file, (str, os.PathLike)):
        torch.save(content, file, *args, **kwargs)
    elif isinstance(content, dict):
        held = content.get("other_parameter")
        if isinstance(held, dict):  # modules among them: their weights are in the model's own
            kept = {name: value for name, value in held.items() if not isinstance(value, nn.Module)}
            content = {**content, "other_parameter": kept}
        write(Path(file), content)
    else:
        with whole_file(Path(file)) as whole:
            torch.save(content, whole, *args, **kwargs)


def read_arrays_alone(module: ModuleType) -> None:
    """Read arrays of numbers, and no pickles in them.

    ``LDiffRec`` reads a data set's ``item_emb.npy`` with ``allow_pickle=True``
    (model/general_recommender/ldiffrec.py:232).
    """
    numpy = module.np

    def load(file: Any, *args: Any, **ignored: Any) -> Any:
        try:
            return numpy.load(file)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{str(file)!r} is no array of numbers ({str(error).splitlines()[0]})") from None

    vars(module)["np"] = ModuleView(numpy, load=load)


def name_our_files(module: ModuleType) -> None:
    """Let the best models of RecBole's trainers have names of our format.

    Args:
        module: ``recbole.trainer.trainer``.
    """
    original = module.Trainer.__init__

    @wraps(original)
    def __init__(self: Any, config: Any, model: Any) -> None:  # noqa: N807  it takes the place of that method
        original(self, config, model)
        self.saved_model_file = self.saved_model_file.removesuffix(STOCK) + ENDING

    module.Trainer.__init__ = __init__
