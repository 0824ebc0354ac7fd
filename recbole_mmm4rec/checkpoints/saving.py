"""Writing a training's state into a file and taking it over again: one writer and one reader for all checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints import format as files
from recbole_mmm4rec.checkpoints.parts import parts_of

_NEEDED = ("cur_step", "best_valid_score", "state_dict", "optimizer")
"""Parts that every trainer of RecBole has written."""
_STOCK = ("epoch", "cur_step", "best_valid_score", "state_dict", "other_parameter", "optimizer")
_MISFITS = (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError)


def save(trainer: Any, epoch: int, file: str | Path, instead: Mapping[str, Any] | None = None) -> None:
    """Write all parts of a trainer.

    Args:
        trainer: any trainer of RecBole's kind.
        epoch: RecBole's number of the last finished one; -1 before the first.
        file: where to.
        instead: states of parts that are written in place of what they are now.

    Raises:
        UserError: it cannot be written.
    """
    parts = {name: part.state_dict() for name, part in parts_of(trainer)}
    files.write(file, {"epoch": epoch, **parts, **(instead or {})})


def save_stock(trainer: Any) -> str | None:
    """Write the best model once more as RecBole without this package reads it: a pickle, with its configuration.

    Args:
        trainer: one that has kept a best model.

    Returns:
        the file, beside the best model's; None where there is no best model, or it is such a file.

    Raises:
        UserError: it cannot be written.
    """
    best = Path(getattr(trainer, "saved_model_file", ""))
    if not best.is_file() or best.suffix == files.STOCK:
        return None
    state = {name: part for name, part in files.read(best).items() if name in _STOCK}
    state["optimizer"].pop("names", None)
    stock = str(best.with_suffix(files.STOCK))
    files.write(stock, {**state, "config": trainer.config})
    return stock


def load(trainer: Any, state: Mapping[str, Any], source: str) -> None:
    """Let a trainer go on with what :func:`save`, or RecBole itself, has written.

    Args:
        trainer: one that has not begun; it begins with the epoch after.
        state: the file's content; parts that it lacks stay as they are, unless all trainers of RecBole have them.
        source: names the file in messages.

    Raises:
        UserError: it is no such file, or of another training.
    """
    parts = dict(parts_of(trainer))
    lacking = [name for name in ("epoch", *_NEEDED) if name not in state]
    if lacking:
        raise UserError(f"{source} is no state of a training: it has no {', '.join(lacking)}; remove it to begin anew")
    if not isinstance(state["epoch"], int) or state["epoch"] < -1:
        raise UserError(f"{source} is damaged: its epoch is {state['epoch']!r}; remove it to begin anew")
    for name, part in parts.items():
        if name not in state:
            continue
        try:
            part.load_state_dict(state[name])
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        except _MISFITS as error:
            told = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"{source} is damaged or of another training: {name}: {told}; remove it to begin anew"
            ) from error
    trainer.start_epoch = state["epoch"] + 1
