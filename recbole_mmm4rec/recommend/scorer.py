"""What every answer is made of: a model folder's network, its items, and the sides of its scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder import layout
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.items import ItemSide
from recbole_mmm4rec.recommend.encoders import Encoders
from recbole_mmm4rec.recommend.items import Items
from recbole_mmm4rec.scoring.mapped import is_mapped
from recbole_mmm4rec.scoring.recommend import Sides

if TYPE_CHECKING:  # the counts import SciPy
    from recbole_mmm4rec.scoring.neighbours import Counts

NO_TIMES = "no time stamps were given: all gaps between the items count as 0"


class Scorer:
    """A model folder ready to score.

    Attributes:
        content: the folder, checked.
        folder: where it lies.
        device: where scores are computed.
        network: with its weights, in evaluation mode.
        items: the catalogue.
        counts: the neighbours; None where they are off.
        side: what scoring needs of the items, with all modalities.
    """

    def __init__(self, content: Folder, device: str | torch.device = "cpu") -> None:
        self.content = content
        self.folder: Path = content.path
        self.device = checked_device(device)
        self.items = Items(content.items, content.pictures())
        self.network: MMM4RecNetwork = content.network().to(self.device)
        self.counts = content.counts()
        side = content.side()
        self._mapped = self.device.type == "cpu" and is_mapped(side.fused, content.path / layout.SIDE)
        tables = {name: table.to(self.device) for name, table in side.tables.items()}
        self.side = ItemSide(tables, side.fused.to(self.device))
        self._sides: dict[tuple[str, ...], Sides] = {}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of the model, text first."""
        return tuple(self.network.items.modalities)

    @property
    def max_len(self) -> int:
        """L, the items of a history that count, the newest ones."""
        return self.network.config.max_len

    @property
    def has_time(self) -> bool:
        """Whether the model looks at time stamps."""
        return self.network.config.is_time

    @property
    def has_neighbours(self) -> bool:
        """Whether what was taken together in training is added to the scores."""
        return self.counts is not None

    def sides(self, modalities: Any = None) -> Sides:
        """Item side and user side with some modalities; items count as if they had no other.

        Args:
            modalities: a name or names; None: all.

        Raises:
            UserError: the model does not have one.
        """
        names = self.chosen(modalities)
        if names not in self._sides:
            side = self.side
            mapped, withheld = self._mapped, [name for name in self.modalities if name not in names]
            if withheld:
                mapped = False
                tables = self.network.items
                with torch.no_grad(), tables.without(withheld):
                    made = {
                        name: tables.absent(name) if name in withheld else side.tables[name] for name in side.tables
                    }
                    side = tables.side(made)
            self._sides[names] = Sides(self.network, side, mapped)
        return self._sides[names]

    def chosen(self, modalities: Any) -> tuple[str, ...]:
        """The modalities that a request names, in the model's order.

        Raises:
            UserError: the model does not have one, or none is named.
        """
        if modalities is None:
            return self.modalities
        if not isinstance(modalities, Iterable):
            raise UserError(
                f"modalities={modalities!r}: must be a name or names; this model knows {' and '.join(self.modalities)}"
            )
        names = [modalities] if isinstance(modalities, str) else list(modalities)
        for name in names:
            if name not in self.modalities:
                raise UserError(f"modalities: {name!r}: this model knows {' and '.join(self.modalities)}")
        if not names:
            raise UserError(f"modalities: none is named; this model knows {' and '.join(self.modalities)}")
        return tuple(name for name in self.modalities if name in names)

    def neighbours_of(self, wanted: bool | None) -> Counts | None:
        """The neighbours that a request asks for; None for none of them.

        Args:
            wanted: True, False, or None: where the model has them.

        Raises:
            UserError: they are wanted, and the model has none.
        """
        if wanted and self.counts is None:
            raise UserError("neighbours=True: this model has none; train it with neighbour_weight above 0")
        return None if wanted is False else self.counts

    @cached_property
    def encoders(self) -> Encoders:
        """The encoders that made the features, each loaded when it is first asked for, and kept."""
        return Encoders(self.content.encoders, str(self.device))

    @torch.no_grad()
    def user_vectors(
        self, numbers: Tensor, lengths: Tensor, stamps: Tensor | None = None, modalities: Any = None
    ) -> Tensor:
        """The user vectors of histories.

        Args:
            numbers: (B, L) int64 item numbers, oldest first, right-padded with 0.
            lengths: (B,) int64, at least 1.
            stamps: (B, L) int64 seconds; None: all gaps are 0.
            modalities: as for :meth:`sides`.

        Returns:
            (B, D) float32, not normalised; its products with ``sides(modalities).side.fused`` are the scores.
        """
        if self.has_time and stamps is None:
            stamps = torch.zeros_like(numbers)
        given = (None if part is None else part.to(self.device) for part in (numbers, lengths, stamps))
        return self.sides(modalities).users(*given)  # type: ignore[arg-type]


def checked_device(named: str | torch.device) -> torch.device:
    """The processor or a GPU, as every command takes it.

    Args:
        named: cpu, cuda, or cuda:N.

    Raises:
        UserError: it is none of them, or not there.
    """
    try:
        device = torch.device(str(named))
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={str(named)!r}: there is no such device; write cpu or cuda")
    count = torch.cuda.device_count() if device.type == "cuda" and torch.cuda.is_available() else 0
    if device.type == "cuda" and not count:
        raise UserError(f"device={str(named)!r}: PyTorch finds no GPU here; write cpu")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device={str(named)!r}: the last GPU here is cuda:{count - 1}")
    return device


def batches(rows: Sequence[int], size: int) -> list[list[int]]:
    """Rows in groups of at most ``size``."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]
