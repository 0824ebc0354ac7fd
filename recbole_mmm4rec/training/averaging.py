"""An exponential average of the weights, which is what is validated, kept and scored with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recbole_mmm4rec.checkpoints.parts import register
from recbole_mmm4rec.training.observers import Observer, Training


class Averaging(Observer):
    """Weights that train and their average take turns in one model: while it trains, and at all other times.

    After each optimiser step ``average ← d·average + (1 − d)·weights``; it begins as the weights after the first.
    Source of averaging weights: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging" (SIAM
    Journal on Control and Optimization 30, 1992); done by PyTorch's ``swa_utils``.
    """

    place = "averaging"

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            network: what trains, on its device.
            decay: d, above 0 and below 1.
        """
        self.network = network
        self.averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._training: list[Tensor] | None = None  # the weights that train, while the average is in their place

    @classmethod
    def of(cls, config: Any, network: nn.Module) -> Averaging | None:
        """The average that ``weight_average`` of a configuration asks for, if any."""
        decay = float(config["weight_average"] or 0)
        return cls(network, decay) if decay else None

    def epoch_begins(self, training: Training, epoch: int) -> None:
        """What trains takes its place."""
        self.hide()

    def epoch_trained(self, training: Training, epoch: int) -> None:
        """What is validated, kept and scored with takes its place."""
        self.show()

    def pausing(self, training: Training) -> None:
        """What is written is the average, with what trains beside it."""
        self.show()

    def going_on(self, training: Training) -> None:
        """What trains takes its place."""
        self.hide()

    def step(self) -> None:
        """Take the weights in after an optimiser step."""
        self.averaged.update_parameters(self.network)

    @torch.no_grad()
    def show(self) -> None:
        """Put the average into the network."""
        if self._training is not None or not int(self.averaged.n_averaged):
            return
        self._training = [weight.clone() for weight in self.network.parameters()]
        for weight, average in zip(self.network.parameters(), self.averaged.module.parameters(), strict=True):
            weight.copy_(average)

    @torch.no_grad()
    def hide(self) -> None:
        """Put the weights that train back into the network."""
        if self._training is None:
            return
        for weight, kept in zip(self.network.parameters(), self._training, strict=True):
            weight.copy_(kept)
        self._training = None

    def state_dict(self) -> dict[str, Tensor]:
        """The weights that train and how often they were taken in; the average is the model's own state then.

        Nothing before the first step, and while the network holds the weights that train.
        """
        if self._training is None:
            return {}
        names = [name for name, _ in self.network.named_parameters()]
        return {**dict(zip(names, self._training, strict=True)), "n_averaged": self.averaged.n_averaged}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with what :meth:`state_dict` gave; the network has been given the average beforehand."""
        if not state:
            return
        self._training = []
        averages = dict(self.averaged.module.named_parameters())
        for name, weight in self.network.named_parameters():
            averages[name].copy_(weight)
            self._training.append(state[name].to(weight.device, copy=True))
        self.averaged.n_averaged.copy_(state["n_averaged"])


@register("averaging")
def _averaging(trainer: Any) -> Averaging | None:
    averaging: Averaging | None = getattr(trainer, "averaging", None)
    return averaging
