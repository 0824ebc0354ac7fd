"""Words and pictures of requests become vectors here, apart from the model: a slow encoder holds up no list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recbole_mmm4rec.recommend.encoders import Encoders
from recbole_mmm4rec.recommend.item_rows import read_items
from recbole_mmm4rec.recommend.new_items import encode_rows
from recbole_mmm4rec.recommend.search import queries
from recbole_mmm4rec.serve.adding import rows_of
from recbole_mmm4rec.serve.answers import as_json
from recbole_mmm4rec.serve.desk import Job, Result, answered
from recbole_mmm4rec.serve.limits import picture
from recbole_mmm4rec.serve.schemas import AddAsked, SearchAsked

Made = Mapping[str, Mapping[str, Any]]
"""Modality of a model to what the store of its features says about itself."""


class EncodingDesk:
    """Encodes what is searched for and what is added.

    Args:
        load: makes a shop's encoders, each of which is loaded when it is first needed.
    """

    alive = True

    def __init__(self, load: Callable[[Made], Any] = Encoders) -> None:
        self._load = load
        self._made: Made | None = None

    def ask(self, jobs: Sequence[Job]) -> list[Result]:
        """Vectors in JSON: to ``search`` modality to numbers, to ``add`` of each item the same."""
        return [answered(self._one, job) for job in jobs]

    def about(self) -> dict[str, Any]:
        """Nothing: what is encoded comes with its encoders' names."""
        return {}

    def _one(self, job: Job) -> bytes:
        name, (made, asked) = job
        if made != self._made:  # another model is served now
            self._encoders, self._made = self._load(made), made
        return as_json(self._added(asked) if name == "add" else self._searched(asked))

    def _searched(self, asked: SearchAsked) -> dict[str, list[float]]:
        assert self._made is not None
        image = None if asked.image is None else picture("image", asked.image)
        wanted = queries(list(self._made), asked.text, image)
        return {name: self._encoders.vector(name, source).tolist() for name, source in wanted.items()}

    def _added(self, asked: AddAsked) -> list[dict[str, list[float]]]:
        assert self._made is not None
        rows = read_items(rows_of(asked))
        encode_rows(self._encoders, list(self._made), rows)
        return [{name: vector.tolist() for name, vector in one.vectors.items()} for one in rows]

    def close(self) -> None:
        """Nothing is held."""
