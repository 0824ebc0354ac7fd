"""Search by vectors of words or pictures, which :mod:`~.encoding` has made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_mmm4rec.serve.answers import body_of
from recbole_mmm4rec.serve.limits import check_same
from recbole_mmm4rec.serve.schemas import SearchAsked
from recbole_mmm4rec.serve.shop import Shop


def search(shop: Shop, asked: tuple[SearchAsked, Mapping[str, Any], Mapping[str, Any]]) -> bytes:
    """Items that fit words, a picture, or both, and a history.

    Args:
        shop: has the model.
        asked: the request, the vectors of what it asks for, and of which encoders they are.
    """
    one, vectors, made = asked
    check_same(made, shop.made)
    found = shop.recommender.search(
        vectors=vectors,
        k=one.k,
        history=one.history,
        timestamps=one.timestamps,
        only=one.only,
        exclude=one.exclude,
        where=one.where,
    )
    return body_of(shop, found)
