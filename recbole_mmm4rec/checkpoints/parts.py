"""What a checkpoint is made of: parts by name, each with ``state_dict()`` and ``load_state_dict()``.

A name is a key of the file. Those that RecBole has as well are RecBole's: ``config``, ``cur_step``,
``best_valid_score``, ``state_dict``, ``other_parameter``, ``optimizer``; only ``epoch`` belongs to the file itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.token_order import KEY, other_tokens, users_matter
from recbole_mmm4rec.checkpoints.tree import plain_settings
from recbole_mmm4rec.compat.caches import loaders_of
from recbole_mmm4rec.distributed import group


class Part(Protocol):
    """One thing that a training needs to go on."""

    def state_dict(self) -> Any:
        """Tensors and plain values in any nesting."""

    def load_state_dict(self, state: Any) -> Any:
        """Take over what :meth:`state_dict` gave; errors of Python where it is something else."""


Maker = Callable[[Any], "Part | None"]

_MAKERS: dict[str, Maker] = {}


def register(name: str) -> Callable[[Maker], Maker]:
    """Let checkpoints hold one part more; parts are read in the order in which they were registered.

    Args:
        name: its key in the file.

    Returns:
        A decorator of a function that gives a trainer's part, None for a trainer without it.
    """

    def taken(make: Maker) -> Maker:
        _MAKERS[name] = make
        return make

    return taken


def parts_of(trainer: Any) -> Iterator[tuple[str, Part]]:
    """The names and parts of a trainer."""
    for name, make in _MAKERS.items():
        part = make(trainer)
        if part is not None:
            yield name, part


class Settings:
    """RecBole's configuration, with the order of tokens and the encoders of the features among its keys."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def state_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return plain_settings(self.config.final_config_dict)

    def load_state_dict(self, state: Any) -> None:
        """Change nothing; refuse a checkpoint whose ids stand for other tokens.

        Raises:
            UserError: naming the field that differs.
        """
        problem = other_tokens(state.get(KEY), self.config[KEY] or {}, users_matter(self.config))
        if problem:
            raise UserError(problem)


class Attribute:
    """A plain value that a trainer has as an attribute."""

    def __init__(self, trainer: Any, name: str, kinds: tuple[type, ...]) -> None:
        self.trainer, self.name, self.kinds = trainer, name, kinds

    def state_dict(self) -> Any:
        """The value, numbers of NumPy as Python's own."""
        return plain(getattr(self.trainer, self.name))

    def load_state_dict(self, state: Any) -> None:
        """Set it.

        Raises:
            TypeError: it is of another type.
        """
        if not isinstance(state, self.kinds):
            raise TypeError(f"a {type(state).__name__}, not a {self.kinds[0].__name__}")
        setattr(self.trainer, self.name, state)


class OtherParameters:
    """RecBole's ``other_parameter`` without modules, whose weights are in the state of the model."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        """Name to value."""
        held = (self.model.other_parameter() or {}).items()
        return {name: value for name, value in held if not isinstance(value, nn.Module)}

    def load_state_dict(self, state: Any) -> None:
        """Hand the values to the model."""
        self.model.load_other_parameter(deepcopy(state))  # which may be written to, and is mapped to the file


class Optimizer:
    """An optimiser's state with the names of its parameters, so that each one finds its own."""

    def __init__(self, trainer: Any) -> None:
        self.optimizer, self.model = trainer.optimizer, trainer.model

    def _names(self) -> list[list[str]]:
        known = {id(weight): name for name, weight in self.model.named_parameters()}
        return [[known.get(id(weight), "") for weight in group["params"]] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's, and ``names``: those of each group's parameters."""
        return {**self.optimizer.state_dict(), "names": self._names()}

    def load_state_dict(self, state: Any) -> None:
        """Take it over; groups and parameters may stand in another order.

        Raises:
            ValueError: the groups hold other parameters.
        """
        names = state.get("names")
        arranged = state if names is None else self._arranged(state, names)
        self.optimizer.load_state_dict(deepcopy(arranged))  # PyTorch would keep tensors that are mapped to the file

    def _arranged(self, state: dict[str, Any], names: list[list[str]]) -> dict[str, Any]:
        """A state in the order of this optimiser."""
        own = self._names()
        if own == names:
            return state
        places = {frozenset(group): at for at, group in enumerate(names)}
        if places.keys() != {frozenset(group) for group in own}:
            raise ValueError("its groups hold other parameters")
        groups: list[dict[str, Any]] = []
        states: dict[int, Any] = {}
        for wanted in own:
            at = places[frozenset(wanted)]
            numbers = dict(zip(names[at], state["param_groups"][at]["params"], strict=True))
            first = sum(len(group["params"]) for group in groups)
            groups.append({**state["param_groups"][at], "params": list(range(first, first + len(wanted)))})
            for number, name in enumerate(wanted, first):
                if numbers[name] in state["state"]:
                    states[number] = state["state"][numbers[name]]
        return {"state": states, "param_groups": groups}


class Order:
    """The generators that shuffle a training loader: one, or of knowledge graphs one for each of its two loaders."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = generators

    def state_dict(self) -> list[Tensor]:
        """(S,) uint8 of each."""
        return [generator.get_state() for generator in self.generators]

    def load_state_dict(self, state: Any) -> None:
        """Go on from there; older files have the tensor of one."""
        for generator, own in zip(self.generators, [state] if isinstance(state, Tensor) else state, strict=True):
            generator.set_state(own)


class RandomNumbers:
    """The generators of dropout and sampled items: PyTorch's, NumPy's and Python's."""

    def __init__(self, device: torch.device) -> None:
        self.gpu = device if device.type == "cuda" else None

    def state_dict(self) -> dict[str, Any]:
        """Each generator's numbers as a tensor."""
        _, numbers, position, has_gauss, gauss = np.random.get_state()
        version, drawn, python_gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": None if self.gpu is None else torch.cuda.get_rng_state(self.gpu),
            "numpy": [torch.from_numpy(np.asarray(numbers, dtype=np.int64)), int(position), int(has_gauss), gauss],
            "python": [version, torch.tensor(drawn, dtype=torch.int64), python_gauss],
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from there; a GPU's numbers only on a GPU."""
        torch.set_rng_state(state["torch"])
        if self.gpu is not None and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.gpu)
        numbers, *rest = state["numpy"]
        np.random.set_state(("MT19937", numbers.numpy().astype(np.uint32), *rest))
        version, drawn, gauss = state["python"]
        random.setstate((version, tuple(drawn.tolist()), gauss))


@register("config")
def _settings(trainer: Any) -> Part:
    return Settings(trainer.config)


@register("cur_step")
def _steps_without_a_better_score(trainer: Any) -> Part:
    return Attribute(trainer, "cur_step", (int,))


@register("best_valid_score")
def _best_score(trainer: Any) -> Part:
    return Attribute(trainer, "best_valid_score", (float, int))


@register("best_valid_result")
def _best_result(trainer: Any) -> Part:
    return Attribute(trainer, "best_valid_result", (dict, type(None)))


@register("train_loss_dict")
def _losses(trainer: Any) -> Part:
    return Attribute(trainer, "train_loss_dict", (dict,))


@register("optimizer_step")
def _position_in_the_schedule(trainer: Any) -> Part | None:
    return Attribute(trainer, "optimizer_step", (int,)) if hasattr(trainer, "optimizer_step") else None


@register("state_dict")
def _weights(trainer: Any) -> Part:
    model: nn.Module = trainer.model
    return model


@register("other_parameter")
def _other_parameters(trainer: Any) -> Part:
    return OtherParameters(trainer.model)


@register("optimizer")
def _optimizer(trainer: Any) -> Part:
    return Optimizer(trainer)


@register("scaler")
def _scaler(trainer: Any) -> Part | None:
    return getattr(trainer, "scaler", None)


@register("order")
def _order(trainer: Any) -> Part | None:
    parts = loaders_of(getattr(trainer, "train_loader", None))
    generators = [part.generator for part in parts if getattr(part, "generator", None) is not None]
    return Order(generators) if generators else None


@register("random")
def _random_numbers(trainer: Any) -> Part | None:
    # of several processes each has numbers of its own, and their count may change
    return None if group.active() else RandomNumbers(trainer.device)


def plain(value: Any) -> Any:
    """Numbers of NumPy as Python's own, in any nesting of dictionaries and sequences."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(inner) for inner in value)
    return value.item() if isinstance(value, np.generic) else value
