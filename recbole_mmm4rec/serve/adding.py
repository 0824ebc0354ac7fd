"""Items that are added while the service runs, in memory alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.answers import as_json
from recbole_mmm4rec.serve.limits import Limits, check_count, check_same, picture
from recbole_mmm4rec.serve.schemas import AddAsked, NewItem
from recbole_mmm4rec.serve.shop import Shop

OURS = ("item_id", "text", "image", "text_vector", "image_vector")
"""What has a key of its own."""


def check(asked: AddAsked, limits: Limits) -> None:
    """Refuse what is too much.

    Raises:
        UserError: more items than allowed.
    """
    check_count(f"items: {len(asked.items):,}", len(asked.items), limits.added)


def add(shop: Shop, asked: tuple[AddAsked, Mapping[str, Any]]) -> bytes:
    """Make items recommendable.

    Args:
        shop: has the model.
        asked: the request, and of which encoders its vectors are.
    """
    one, made = asked
    check_same(made, shop.made)
    added = shop.recommender.add_items(rows_of(one), write=False)
    shop.refresh()
    return as_json({"added": list(added.items), "seconds": added.seconds, "notes": list(added.notes)})


def rows_of(asked: AddAsked) -> list[dict[str, Any]]:
    """Rows of items as the model takes them; a picture comes as bytes, never as a name.

    Raises:
        UserError: a picture that is none, or a column that has a key of its own.
    """
    return [_row(one, f"items[{number}]") for number, one in enumerate(asked.items)]


def to_encode(asked: AddAsked, modalities: Iterable[str]) -> bool:
    """Whether a text or a picture comes without the vector that a model with some modalities looks at."""
    return any(
        getattr(one, name) and getattr(one, f"{name}_vector") is None for one in asked.items for name in modalities
    )


def with_vectors(asked: AddAsked, vectors: Sequence[Mapping[str, list[float]]]) -> AddAsked:
    """The request with what the encoders have made of its texts and pictures."""
    items = [
        one.model_copy(update={f"{name}_vector": vector for name, vector in found.items()})
        for one, found in zip(asked.items, vectors, strict=True)
    ]
    return asked.model_copy(update={"items": items})


def _row(one: NewItem, place: str) -> dict[str, Any]:
    for column in one.columns:
        if column in OURS:
            raise UserError(f"{place}: columns: {column!r} has a key of its own; write it beside 'columns'")
    image = None if one.image is None else picture(f"{place}: image", one.image)
    return {
        **one.columns,
        "item_id": one.item_id,
        "text": one.text,
        "image": image,
        "text_vector": one.text_vector,
        "image_vector": one.image_vector,
    }
