"""The service's addresses: what each is asked and answers, and who does the work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import recbole_mmm4rec
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve import answers, page
from recbole_mmm4rec.serve.adding import add
from recbole_mmm4rec.serve.batching import Batcher, Deliver
from recbole_mmm4rec.serve.current import Current
from recbole_mmm4rec.serve.front import Front
from recbole_mmm4rec.serve.limits import Limits, RefusedError
from recbole_mmm4rec.serve.metrics import CONTENT_TYPE, Metrics
from recbole_mmm4rec.serve.reference import reference
from recbole_mmm4rec.serve.schemas import (
    AddAsked,
    Answer,
    ExplainAsked,
    Mistake,
    RecommendAsked,
    SearchAsked,
    SimilarAsked,
    in_one_line,
)
from recbole_mmm4rec.serve.searching import search

Job = Callable[[], bytes]
"""Work for one of the threads: makes an answer's body."""
BATCH = 64
"""The most requests that are answered together."""
TITLES = 50
"""The most items that the search box is given."""
_MISTAKES: dict[int | str, dict[str, Any]] = {
    404: {"model": Mistake, "description": "There is no such item."},
    413: {"model": Mistake, "description": "The body is too large."},
    422: {"model": Mistake, "description": "What was asked cannot be answered; the line says why."},
    503: {"model": Mistake, "description": "Too many requests wait."},
}
_TITLE = "MMM4Rec, served"
ASKED: dict[str, type[BaseModel]] = {
    "/recommend": RecommendAsked,
    "/similar": SimilarAsked,
    "/search": SearchAsked,
    "/explain": ExplainAsked,
    "/items": AddAsked,
}
"""What a POST to an address holds."""


class Service:
    """A model behind HTTP.

    Args:
        current: the model that is served.
        limits: what a request may cost.
        hosts: the names under which the service is asked for; None: any.
        allow_adding: whether POST /items adds items.

    Attributes:
        app: for a server of ASGI.
    """

    def __init__(
        self, current: Current, limits: Limits, hosts: Iterable[str] | None = None, allow_adding: bool = False
    ) -> None:
        self.current, self.limits, self.allow_adding = current, limits, allow_adding
        self.metrics = Metrics(lambda: self._model.waiting, lambda: len(current.shop.recommender.items))
        # One thread alone asks the model, which makes no promise to several at a time; another one does what needs no
        # model, and what would hold up the lists.
        self._model: Batcher[RecommendAsked | Job, bytes] = Batcher(self._work, BATCH, limits.waiting, "model")
        self._aside: Batcher[Job, bytes] = Batcher(_each, 1, limits.waiting, "aside")
        self._api = self._made()
        known = [route.path for route in self._api.routes if hasattr(route, "path")]
        self.app = Front(self._api, limits, hosts, ("/search", "/items"), known, self.metrics.answered)

    def change(self) -> None:
        """Begin to load the model folder again; from the event loop."""
        self.current.change(lambda done: self.metrics.changes.labels("done" if done else "failed").inc())

    def close(self) -> None:
        """End the threads once what waits is answered."""
        self._model.close()
        self._aside.close()

    def _work(self, jobs: Sequence[RecommendAsked | Job], deliver: Deliver) -> None:
        """Lists together and first, then the rest one by one."""
        lists = {place: job for place, job in enumerate(jobs) if isinstance(job, RecommendAsked)}
        if lists:
            self.metrics.batches.observe(len(lists))
            deliver(list(lists), answers.recommend(self.current.shop, list(lists.values())))
        _each(jobs, deliver)

    def _made(self) -> FastAPI:
        api = FastAPI(
            title=_TITLE,
            version=recbole_mmm4rec.__version__,
            description="Recommendations of one shop's items from histories of users.",
            docs_url=None,  # FastAPI's own pages load their programs from elsewhere
            redoc_url=None,
        )
        for path, ask, what in (
            ("/recommend", self._asked_recommend(), "What comes next after a history"),
            ("/similar", self._asked_similar(), "Items like one"),
            ("/search", self._asked_search(), "Items by words or by a picture"),
        ):
            api.post(path, summary=what, response_model=Answer, responses=_MISTAKES)(ask)
        api.post("/explain", summary="Why an item is recommended", responses=_MISTAKES)(self._asked_explain())
        api.post("/items", summary="Add items, in memory, where the service allows it", responses=_MISTAKES)(
            self._asked_add()
        )
        self._add_get(api)
        page.add(api, partial(reference, api))
        _tell_mistakes(api)
        return api

    def _asked_recommend(self) -> Callable[..., Coroutine[Any, Any, Response]]:
        async def recommend(asked: RecommendAsked) -> Response:
            answers.check(asked, self.limits)
            return _json(await self._model.ask(asked))

        return recommend

    def _asked_similar(self) -> Callable[..., Coroutine[Any, Any, Response]]:
        async def similar(asked: SimilarAsked) -> Response:
            self._has(asked.item)
            return await self._one(asked, answers.similar)

        return similar

    def _asked_search(self) -> Callable[..., Coroutine[Any, Any, Response]]:
        async def search_(asked: SearchAsked) -> Response:
            return await self._one(asked, search)

        return search_

    def _asked_explain(self) -> Callable[..., Coroutine[Any, Any, Response]]:
        async def explain(asked: ExplainAsked) -> Response:
            self._has(asked.item)
            return await self._one(asked, answers.explain)

        return explain

    def _asked_add(self) -> Callable[..., Coroutine[Any, Any, Response]]:
        async def items(asked: AddAsked) -> Response:
            if not self.allow_adding:
                raise RefusedError(403, "items are added only where the service was started with --allow-adding")
            return _json(await self._model.ask(lambda: add(self.current, asked, self.limits)))

        return items

    async def _one(self, asked: Any, do: Callable[[Any, Any], bytes]) -> Response:
        answers.check(asked, self.limits)
        return _json(await self._model.ask(lambda: do(self.current.shop, asked)))

    def _has(self, item: str) -> None:
        if self.current.shop.recommender.items.number(item) is None:
            raise RefusedError(404, f"item {item[:200]!r}: the shop has no such item")

    def _add_get(self, api: FastAPI) -> None:
        @api.get("/healthz", summary="Whether the service answers, and with which model")
        async def healthz() -> dict[str, Any]:
            shop = self.current.shop
            return {"status": "ok", "model": shop.name, "items": len(shop.recommender.items)}

        @api.get("/metrics", summary="Counters and times for Prometheus", response_class=Response)
        async def metrics() -> Response:
            return Response(self.metrics.text(), media_type=CONTENT_TYPE)

        @api.get("/about", summary="What the model looks at, and the service's limits")
        async def about() -> dict[str, Any]:
            return {**self.current.shop.about(), "most": self.limits.k, "adding": self.allow_adding}

        @api.get("/titles", summary="Items whose id or text has these words, the most taken first")
        async def titles(q: str = Query("", max_length=200), limit: int = Query(20, ge=1, le=TITLES)) -> Response:
            return _json(await self._aside.ask(lambda: answers.titles(self.current.shop, q, limit)))

        @api.get("/picture", summary="An item's picture", responses={404: {"model": Mistake}}, response_class=Response)
        async def picture(item: str = Query(max_length=500)) -> Response:
            self._has(item)
            data = self.current.shop.recommender.items.picture(item)
            if data is None:
                raise RefusedError(404, f"item {item[:200]!r} has no picture")
            return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})


def _each(jobs: Sequence[RecommendAsked | Job], deliver: Deliver) -> None:
    """Do those jobs that are functions, one by one."""
    for place, job in enumerate(jobs):
        if not isinstance(job, RecommendAsked):
            try:
                deliver([place], [job()])
            except Exception as error:
                deliver([place], [error])


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _tell_mistakes(api: FastAPI) -> None:
    """Every mistake is a status and one line."""

    @api.exception_handler(UserError)
    async def mistaken(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    @api.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": error.line}, error.status, {"retry-after": "1"} if error.status == 503 else None)

    @api.exception_handler(RequestValidationError)
    async def misformed(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": in_one_line(error.errors(), ASKED.get(request.url.path))}, 422)

    @api.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path[:100]
        words = {404: f"{path}: there is no such address; /api lists them", 405: f"{path}: not by {request.method}"}
        return JSONResponse(
            {"error": words.get(error.status_code, str(error.detail))}, error.status_code, error.headers
        )
