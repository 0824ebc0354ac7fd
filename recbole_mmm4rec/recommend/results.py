"""What a recommendation is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recommended:
    """One item of a list.

    Attributes:
        item: its id.
        score: the model's; of a popular list the item's number of training interactions.
        text: the item's text, empty where it has none.
    """

    item: str
    score: float
    text: str


@dataclass(frozen=True)
class Recommendations:
    """A list of items, best first.

    Attributes:
        items: at most as many as were asked for.
        unknown: ids of the history that the shop does not have, which were left out.
        popular: whether the shop's popular items stand in for a history of which it knows no item.
        notes: what the user should know, one line each.
    """

    items: tuple[Recommended, ...]
    unknown: tuple[str, ...] = ()
    popular: bool = False
    notes: tuple[str, ...] = ()
