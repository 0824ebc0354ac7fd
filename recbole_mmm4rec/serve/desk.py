"""Who answers questions with a model at hand, one batch at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve import answers
from recbole_mmm4rec.serve.adding import add
from recbole_mmm4rec.serve.limits import FAILED, RefusedError
from recbole_mmm4rec.serve.searching import search
from recbole_mmm4rec.serve.shop import Shop

log = logging.getLogger("recbole_mmm4rec.serve")

Job = tuple[str, Any]
"""What is asked, and the question."""
Result = tuple[int, bytes]
"""A status of HTTP and an answer's body; with a mistake, its line."""
DOES: Mapping[str, Callable[[Shop, Any], bytes]] = {
    "similar": answers.similar,
    "search": search,
    "explain": answers.explain,
    "add": add,
    "titles": answers.titles,
    "picture": answers.picture,
    "about": lambda shop, asked: json.dumps({**shop.about(), "made": shop.made}).encode(),
}
"""What is asked, but for lists, and who answers."""


class Desk:
    """Answers questions about a shop.

    Args:
        shop: the loaded model.
    """

    alive = True

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def about(self) -> dict[str, Any]:
        """What the model is and looks at, and of which encoders its features are."""
        return {**self.shop.about(), "made": self.shop.made}

    def ask(self, jobs: Sequence[Job]) -> list[Result]:
        """Answers to questions, in their order; those for lists are computed together."""
        lists = [place for place, (name, _) in enumerate(jobs) if name == "recommend"]
        found: dict[int, bytes | Exception] = {}
        if lists:
            made = answers.recommend(self.shop, [jobs[place][1] for place in lists])
            found.update(zip(lists, made, strict=True))
        return [_result(found[place]) if place in found else answered(self._one, job) for place, job in enumerate(jobs)]

    def _one(self, job: Job) -> bytes:
        name, asked = job
        return DOES[name](self.shop, asked)

    def close(self) -> None:
        """Nothing is held."""


def answered(work: Callable[[Job], bytes], job: Job) -> Result:
    """What a question gets: an answer, or why there is none."""
    try:
        return _result(work(job))
    except Exception as error:
        return _result(error)


def _result(found: bytes | Exception) -> Result:
    if isinstance(found, bytes):
        return 200, found
    if isinstance(found, RefusedError):
        return found.status, found.line.encode()
    if isinstance(found, UserError):
        return 422, str(found).encode()
    log.error("a question failed", exc_info=found)
    return 500, FAILED.encode()
