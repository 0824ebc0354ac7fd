"""Items by words or by a picture, through the encoders that made the shop's features; alone and with a history.

- Words are compared with the items' texts, a picture with their pictures: the cosine in the encoder's own space, of the
  items that have the modality.
- Words and a picture together, or either with a history, are sums: the cosines of each, and the model's scores for the
  history, are standardised over the shop (mean 0, standard deviation 1) and added with equal weights. An item without
  text or picture takes the mean there, 0; one that has neither is not found.

More of any summand never lowers an item: the sum grows with each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.ops.tables.frozen import pieces
from recbole_mmm4rec.recommend.histories import encode, ids_of
from recbole_mmm4rec.recommend.lists import all_scores, list_of
from recbole_mmm4rec.recommend.results import Recommendations
from recbole_mmm4rec.recommend.scorer import NO_TIMES, Scorer

_ASKED = {"text": "texts", "image": "pictures"}


def search(
    scorer: Scorer,
    text: str | None,
    image: Any,
    count: int,
    history: Sequence[str] | None,
    timestamps: Sequence[Any] | None,
    allowed: Tensor | None,
    notes: Sequence[str],
    vectors: Mapping[str, Any] | None = None,
) -> Recommendations:
    """The items that fit; arguments as for :meth:`~.recommender.Recommender.search`, checked, and

    Args:
        count: K.
        allowed: (I+1,) bool, items that may be found; None: all.
        notes: what there is to say already.

    Raises:
        UserError: see :func:`queries` and :func:`fits`; a query that cannot be encoded, a history that cannot be used.
    """
    told = list(notes)
    names, times = [] if history is None else ids_of(history), None if timestamps is None else [timestamps]
    encoded = encode([names], times, scorer.items, scorer.max_len, scorer.has_time)
    asked = queries(scorer.modalities, text, image, vectors)
    made = {name: scorer.encoders.vector(name, source) for name, source in asked.items() if source is not None}
    scores = fits(scorer, {name: made[name] if name in made else (vectors or {})[name] for name in asked})
    if encoded.lengths[0]:
        scores = beside_history(scores, all_scores(scorer, encoded)[0, 1:].cpu())
        told += [NO_TIMES] if scorer.has_time and times is None else []
    elif names:
        told.append("the shop has none of the history's items: the query alone counts")
    return list_of(scorer, scores, count, allowed, told, encoded.unknown[0])


def queries(
    modalities: Sequence[str], text: Any, image: Any, vectors: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What is asked for.

    Args:
        modalities: of the model.
        text: words; None for none.
        image: a picture, see :meth:`~.encoders.Encoders.vector`; None for none.
        vectors: modality to what the encoder has made of it already.

    Returns:
        Modality to words or picture; to None where there is a vector.

    Raises:
        UserError: nothing is asked for, it is of another kind, or the model does not know what is.
    """
    asked: dict[str, Any] = {}
    if text is not None:
        if not isinstance(text, str):
            raise UserError(f"text={str(text)[:60]!r}: must be words")
        if not text.strip():
            raise UserError("text: the query is empty; give words")
        asked["text"] = " ".join(text.split())
    if image is not None:
        asked["image"] = image
    asked |= dict.fromkeys(vectors or {})
    if not asked:
        raise UserError("search: nothing is asked for; give text, image, or both")
    for name in asked:
        if name not in modalities:
            raise UserError(
                f"{name}: this model has no {_ASKED.get(name, name)} of its items; search by {' or '.join(modalities)}"
            )
    return asked


def fits(scorer: Scorer, vectors: Mapping[str, Any]) -> Tensor:
    """How well each item fits a query.

    Args:
        scorer: a model folder ready to score.
        vectors: modality to (F,) numbers that the shop's encoder has made of the query.

    Returns:
        (I+1,) float32 on the processor: of one thing asked for its cosine, of two the sum of the standardised ones;
        −inf of items that have none of what is asked for, and of padding.

    Raises:
        UserError: a vector of another width, or with a number that is none.
    """
    found = [cosines(scorer, name, vector) for name, vector in vectors.items()]
    if len(found) == 1:
        return found[0]
    total = torch.stack([standardised(each) for each in found])
    nowhere = torch.isinf(total).all(0)
    summed = torch.where(torch.isinf(total), 0.0, total).sum(0)
    return summed.masked_fill(nowhere, -torch.inf)


def cosines(scorer: Scorer, modality: str, vector: Any) -> Tensor:
    """(I+1,) float32 cosines of a query's vector, (F,), with the items' features; −inf of items that have none.

    Raises:
        UserError: the vector is of another width, or a number of it is none.
    """
    items = scorer.network.items
    features, column = items.features[modality], items.modalities.index(modality)
    query = torch.as_tensor(vector, dtype=torch.float32, device=scorer.device)
    if query.shape != features.shape[1:]:
        raise UserError(
            f"{modality}: the query's vector has the shape {tuple(query.shape)}; {features.shape[1]} numbers are wanted"
        )
    if not bool(torch.isfinite(query).all()):
        raise UserError(f"{modality}: the query's vector has a number that is none")
    query = torch.nn.functional.normalize(query, dim=0)
    found = torch.empty(items.rows)
    for piece in pieces(*features.shape):
        rows = features.take(piece)
        found[piece] = ((rows @ query) / torch.linalg.vector_norm(rows, dim=1).clamp(min=1e-12)).cpu()
    found[~items.present[:, column].cpu()] = -torch.inf
    found[0] = -torch.inf
    return found


def beside_history(query: Tensor, scores: Tensor) -> Tensor:
    """The sum of a query's and a history's standardised scores.

    Args:
        query: (I+1,), −inf where an item is not to be found.
        scores: (I,) the model's for the history.

    Returns:
        (I+1,), −inf in the same places.
    """
    return standardised(query) + torch.cat([torch.zeros(1), standardised(scores)])


def standardised(values: Tensor) -> Tensor:
    """Values with mean 0 and standard deviation 1; −inf stays, and equal ones become 0."""
    there = values > -torch.inf
    known = values[there].double()
    spread = known.std(correction=0) if len(known) else known.sum()
    made = (values.double() - (known.mean() if len(known) else 0.0)) / (spread if spread > 0 else 1.0)
    return made.float()
