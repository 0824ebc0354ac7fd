"""Dropouts and temperature that change in the first epochs of a training."""

from __future__ import annotations

from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network import MMM4RecNetwork

_DROPOUTS = ("embedding_drop_prob", "dropout_prob", "time_dropout_prob")


def epoch_share(epoch: int, start: float, epochs: int) -> float:
    """A factor that goes from ``start`` in the first epoch straight to 1 after ``epochs``.

    Args:
        epoch: 0 for the first.
        start: the factor in it.
        epochs: 0: it is 1 from the first epoch on.
    """
    return start + (1.0 - start) * min(1.0, epoch / epochs) if epochs else 1.0


class EpochSchedule:
    """``dropout_start`` and ``temperature_start``, which are gone after ``schedule_epochs``.

    Dropout that grows from none: Morerio et al., "Curriculum Dropout" (arXiv 1703.06229); that ends early: Liu et al.,
    "Dropout Reduces Underfitting" (arXiv 2303.01500).
    """

    def __init__(self, config: Any) -> None:
        """Read the keys.

        Args:
            config: RecBole's configuration.

        Raises:
            UserError: a start without epochs, or a dropout of 1 or more.
        """
        dropout, temperature = config["dropout_start"], config["temperature_start"]
        self.dropout = 1.0 if dropout is None else float(dropout)
        self.heat = 1.0 if temperature is None else float(temperature) / float(config["temperature"])
        self.epochs = int(config["schedule_epochs"] or 0)
        changes = {"dropout_start": self.dropout, "temperature_start": self.heat}
        for key in (key for key, factor in changes.items() if factor != 1.0 and not self.epochs):
            raise UserError(f"{key}={config[key]}: it needs schedule_epochs, the epochs over which it ends")
        for key in (key for key in _DROPOUTS if self.dropout * float(config[key]) >= 1.0):
            raise UserError(
                f"dropout_start={dropout}: with {key}={config[key]} everything would be dropped; lower it to below "
                f"{1 / float(config[key]):.3g}"
            )

    def begin(self, epoch: int, network: MMM4RecNetwork) -> None:
        """Set what holds in an epoch, 0 for the first."""
        network.schedule(epoch_share(epoch, self.dropout, self.epochs), epoch_share(epoch, self.heat, self.epochs))
