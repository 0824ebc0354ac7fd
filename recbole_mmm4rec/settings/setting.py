"""What the program knows about one setting: a row of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, Final

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.settings.kinds import Kind, shown


class Counts(Flag):
    """What a setting counts for, beside the result of a run."""

    NOTHING = 0
    DATA = auto()
    """It changes what the data set holds: one that was cached under another value is not used again."""
    SHAPE = auto()
    """It shapes the weights or gives them their meaning: a fine-tuning shares it with its pre-training."""
    MEANING = auto()
    """Weights fit under any value but mean something else: a checkpoint of another value is warned of."""
    PROTOCOL = auto()
    """All models of a comparison, and all trials of a search, share it."""
    COMMAND = auto()
    """A comparison sets it for each run: it says where or how often, not what."""
    ELSEWHERE = auto()
    """A comparison file says it in another place than among the settings."""
    FIXED = auto()
    """A search cannot try values of it: it changes what is measured, or where."""
    RESUMED = auto()
    """It may differ between a run and the one that goes on with it."""
    LAUNCH = auto()
    """It says on which processes a run happens, and is no part of its configuration."""
    COMPUTED = auto()
    """RecBole or this package computes it; what a user sets would be ignored."""


class _FromRecBole:
    def __repr__(self) -> str:
        return "RecBole's"


RECBOLE: Final = _FromRecBole()
"""The default of a row whose default stands in RecBole's own files."""


@dataclass(frozen=True)
class Setting:
    """A setting.

    Attributes:
        name: the key.
        kind: what it may be.
        about: what it is, in a few words.
        default: of MMM4Rec, written to ``properties/model/MMM4Rec.yaml``; :data:`RECBOLE` leaves it to RecBole.
        counts: what it counts for.
        ours: only our own models have it, or have it so; otherwise it holds for every model.
        models: rivals that have it, too; of a row that is not ours, the only models that have it.
        instead: of a computed one, what to set in its place.
    """

    name: str
    kind: Kind
    about: str
    default: Any = RECBOLE
    counts: Counts = Counts.NOTHING
    ours: bool = False
    instead: str = ""
    models: tuple[str, ...] = ()

    def holds_for(self, model: str, ours: bool) -> bool:
        """Whether a model has it; ``ours``: whether the model is one of ours."""
        return model in self.models or (ours if self.ours else not self.models)

    def check(self, value: Any, where: str = "") -> None:
        """Refuse a value that the setting cannot have.

        Args:
            value: already typed.
            where: what the message starts with; key and value by default.

        Raises:
            UserError: naming the key, the value and what it may be.
        """
        wrong = self.kind.complaint(value)
        if wrong is not None:
            if where.startswith("--") and set("[{") & set(wrong):
                wrong += "; a shell needs it in double quotes"
            raise UserError(f"{where or f'{self.name}={shown(value)}'}: {wrong}")
