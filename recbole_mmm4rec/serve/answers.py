"""From questions to answers in bytes: recommendations in batches, the rest one at a time; runs where the model is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.limits import Limits, RefusedError, check_count
from recbole_mmm4rec.serve.schemas import Chosen, ExplainAsked, RecommendAsked, SimilarAsked
from recbole_mmm4rec.serve.shop import Shop


def check(asked: Any, limits: Limits) -> None:
    """Refuse what is too much, before it waits for its turn.

    Raises:
        UserError: k, the history or a list of ids is longer than allowed.
    """
    history = getattr(asked, "history", None) or ()
    check_count(f"history of {len(history):,} items", len(history), limits.history, "--max-history")
    if isinstance(asked, Chosen):
        check_count(f"k={asked.k}", asked.k, limits.k, "--max-k")
        for name in ("only", "exclude"):
            ids = getattr(asked, name) or ()
            check_count(f"{name}: {len(ids):,} ids", len(ids), 10 * limits.history, "--max-history")


def recommend(shop: Shop, asked: Sequence[RecommendAsked]) -> list[bytes | Exception]:
    """Answers to requests that came together; those that ask for the same kind of list are computed at once.

    Args:
        shop: has the model.
        asked: the requests.

    Returns:
        For each the body of its answer, or why there is none.
    """
    alike: dict[Any, list[int]] = {}
    for place, one in enumerate(asked):
        alike.setdefault(_kind(one), []).append(place)
    answers: list[bytes | Exception] = [b""] * len(asked)
    for places in alike.values():
        for place, answer in zip(places, _together(shop, [asked[place] for place in places]), strict=True):
            answers[place] = answer
    return answers


def _kind(asked: RecommendAsked) -> Any:
    """What requests must have in common to be answered by one call."""
    if asked.only is asked.exclude is asked.where is None:
        chosen = None
    else:
        chosen = json.dumps([asked.only, asked.exclude, asked.where], sort_keys=True)
    looked_at = None if asked.modalities is None else tuple(sorted(set(asked.modalities)))
    return asked.k, chosen, asked.exclude_seen, looked_at, asked.neighbours, asked.timestamps is None


def _together(shop: Shop, asked: list[RecommendAsked]) -> list[bytes | Exception]:
    first = asked[0]
    try:
        found = shop.recommender.recommend(
            [one.history for one in asked],
            first.k,
            timestamps=None if first.timestamps is None else [one.timestamps for one in asked],
            exclude_seen=first.exclude_seen,
            only=first.only,
            exclude=first.exclude,
            where=first.where,
            modalities=first.modalities,
            neighbours=first.neighbours,
        )
    except Exception as error:
        if len(asked) == 1:
            return [error]
        half = len(asked) // 2  # the others are not to pay for it, and few of them to be computed alone
        return [*_together(shop, asked[:half]), *_together(shop, asked[half:])]
    return [_body_or_error(shop, one) for one in found]


def _body_or_error(shop: Shop, found: Any) -> bytes | Exception:
    try:
        return body_of(shop, found)
    except Exception as error:
        return error


def body_of(shop: Shop, found: Any) -> bytes:
    """A list of items, as the recommender gives it, in JSON."""
    items = [
        {
            "item": one.item,
            "score": one.score,
            "text": one.text,
            "picture": shop.recommender.items.has_picture(one.item),
        }
        for one in found.items
    ]
    return as_json({"items": items, "unknown": found.unknown, "popular": found.popular, "notes": found.notes})


def similar(shop: Shop, asked: SimilarAsked) -> bytes:
    """Items like one."""
    _has(shop, asked.item)
    found = shop.recommender.similar(
        asked.item, asked.k, modalities=asked.modalities, only=asked.only, exclude=asked.exclude, where=asked.where
    )
    return body_of(shop, found)


def explain(shop: Shop, asked: ExplainAsked) -> bytes:
    """Why an item is recommended."""
    _has(shop, asked.item)
    found = shop.recommender.explain(
        asked.history,
        asked.item,
        timestamps=asked.timestamps,
        modalities=asked.modalities,
        neighbours=asked.neighbours,
    )
    return as_json(found.to_dict())


def titles(shop: Shop, asked: tuple[str, int]) -> bytes:
    """Items for the page's search box: words, and how many at most."""
    items = shop.recommender.items
    ids = [items.ids[place] for place in shop.titles.find(*asked)]
    return as_json(
        {"items": [{"item": one, "text": items.text(one), "picture": items.has_picture(one)} for one in ids]}
    )


def picture(shop: Shop, asked: str) -> bytes:
    """An item's picture, a JPEG."""
    _has(shop, asked)
    data: bytes | None = shop.recommender.items.picture(asked)
    if data is None:
        raise RefusedError(404, f"item {asked!r} has no picture")
    return data


def _has(shop: Shop, item: str) -> None:
    try:
        shop.recommender.items.known(item)
    except UserError as error:
        raise RefusedError(404, str(error)) from None


def as_json(value: Any) -> bytes:
    """JSON in UTF-8.

    Raises:
        UserError: a score is no number; JSON has no word for it.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise UserError("a score of this answer is no number; was the training finite?") from None
