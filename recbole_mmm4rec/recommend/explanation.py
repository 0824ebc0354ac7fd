"""What carried a score, as numbers and in a few sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from recbole_mmm4rec.base.texts import short

NEIGHBOURS = "neighbours"
"""What the neighbours' part is called beside the modalities."""
TOLD = 3
"""Past items that the sentences name at most."""
TELLING = 0.005
"""The smallest change that the sentences tell."""
_WORDS = {"text": "texts", "image": "pictures", NEIGHBOURS: "what others took together"}
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


@dataclass(frozen=True)
class PastItem:
    """An item of the history.

    Attributes:
        item: its id.
        text: its text, empty where it has none.
        position: its place in the history as it was given; 0 is the first.
        drop: by how much the score falls when it is left out; below 0 where the score rises.
        neighbours: its exact share of the neighbours' part; the shares sum to it.
    """

    item: str
    text: str
    position: int
    drop: float
    neighbours: float = 0.0


@dataclass(frozen=True)
class Gap:
    """The time between two items of the history that follow each other.

    Attributes:
        before: id of the earlier one.
        after: id of the later one.
        position: place of the later one in the history as it was given.
        seconds: between them.
        change: of the score when this gap is 0 and all others stay.
    """

    before: str
    after: str
    position: int
    seconds: int
    change: float


@dataclass(frozen=True)
class Explanation:
    """What carried the score of an item for a history.

    Attributes:
        item: its id.
        title: its text, empty where it has none.
        score: the model's, as in a recommendation.
        rank: its place among the items that are not in the history, and itself; 1 is the best.
        among: how many these are.
        modalities: the part of each modality; they and ``neighbours`` sum to the score.
        neighbours: the part of what was taken together in training; 0 where the model has none or it is left out.
        averages: the mean of each part, ``neighbours`` among them, over all items of the shop, for this history.
        past: the items of the history that counted, the one with the largest drop first.
        gaps: the times between them, the one whose absence changes most first; empty without time stamps.
        time: the change of the score when all gaps are 0; None without time stamps.
        unknown: ids of the history that the shop does not have.
        notes: what the user should know, one line each.
    """

    item: str
    title: str
    score: float
    rank: int
    among: int
    modalities: Mapping[str, float]
    neighbours: float
    averages: Mapping[str, float]
    past: tuple[PastItem, ...]
    gaps: tuple[Gap, ...] = ()
    time: float | None = None
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it, with the sentences under ``summary``."""
        return {**asdict(self), "summary": self.text()}

    def text(self) -> str:
        """A few sentences for a reader."""
        said = [f"{_named(self.item, self.title)} scores {self.score:.2f}, rank {self.rank:,} of {self.among:,}."]
        said += [self._parts(), self._past(), self._time()]
        return " ".join(sentence for sentence in said if sentence)

    def _parts(self) -> str:
        """How much each part lifts the item above the shop's average one."""
        parts = {**self.modalities, NEIGHBOURS: self.neighbours}
        lifts = [(parts[name] - mean, name) for name, mean in self.averages.items()]
        if not lifts:
            return ""
        listed = _and([f"{lift:+.2f} by {_WORDS.get(name, name)}" for lift, name in sorted(lifts, reverse=True)])
        return f"That is {sum(lift for lift, _ in lifts):+.2f} beside the shop's average item: {listed}."

    def _past(self) -> str:
        if len(self.past) == 1:
            return f"All of it comes from {_named(self.past[0].item, self.past[0].text)}, the only item that is known."
        helped = [one for one in self.past if one.drop > 0][:TOLD]
        if not helped:
            return "No past item carries it alone: without any of them the score is as high."
        first, *others = [f"{_named(one.item, one.text)} ({one.drop:.2f})" for one in helped]
        more = f", then {_and(others)}" if others else ""
        return f"The score falls most without {first}{more}."

    def _time(self) -> str:
        if self.time is None:
            return ""
        moved = [gap for gap in self.gaps if abs(gap.change) >= TELLING][:1]
        if not moved and abs(self.time) < TELLING:
            return "The times between the items hardly count."
        said = f"If there were no time between the items, it would be {self.score + self.time:.2f}"
        for gap in moved:
            does = "raise" if gap.change < 0 else "lower"
            said += f"; the {lasting(gap.seconds)} from {gap.before} to {gap.after} {does} it by {abs(gap.change):.2f}"
        return f"{said}."


def lasting(seconds: int) -> str:
    """A time in its largest unit: ``3 days``."""
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), _UNITS[-1])
    count = round(seconds / size)
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def _named(item: str, text: str) -> str:
    line = short(text, 60)
    return f"“{line}” ({item})" if line else item


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
