"""The service's addresses: what each is asked and answers, and who does the work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

import recbole_mmm4rec
from recbole_mmm4rec.base.errors import UserError, one_line
from recbole_mmm4rec.serve import answers, page
from recbole_mmm4rec.serve.adding import check as check_added
from recbole_mmm4rec.serve.adding import to_encode, with_vectors
from recbole_mmm4rec.serve.batching import Batcher, Deliver
from recbole_mmm4rec.serve.current import Current, Kept
from recbole_mmm4rec.serve.desk import Job, Result
from recbole_mmm4rec.serve.front import Front, Post
from recbole_mmm4rec.serve.limits import CHANGED, FAILED, Limits, RefusedError
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

BATCH = 64
"""The most requests that are answered together."""
CLOSING = 1.0
"""Seconds for what nobody waits for any more."""
TITLES = 50
"""The most items that the search box is given."""
_MISTAKES: dict[int | str, dict[str, Any]] = {
    404: {"model": Mistake, "description": "There is no such item."},
    413: {"model": Mistake, "description": "The body is too large."},
    422: {"model": Mistake, "description": "What was asked cannot be answered; the line says why."},
    503: {"model": Mistake, "description": "Too many requests wait."},
}


class Service:
    """A model behind HTTP.

    Args:
        current: the model that is served.
        encoders: of words and pictures.
        limits: what a request may cost.
        hosts: the names under which the service is asked for; None: any.
        allow_adding: whether POST /items adds items.

    Attributes:
        app: for a server of ASGI.
        model: the one thread that asks the model.
        encoding: the one that asks the encoders.
    """

    def __init__(
        self,
        current: Current,
        encoders: Kept,
        limits: Limits,
        hosts: Iterable[str] | None = None,
        allow_adding: bool = False,
    ) -> None:
        self.current, self.encoders, self.limits, self.allow_adding = current, encoders, limits, allow_adding
        self.metrics = Metrics(lambda: self.model.waiting, lambda: current.about["items"])
        self.model: Batcher[Job, Result] = Batcher(self._work, BATCH, limits.waiting, "model")
        self.encoding: Batcher[Job, Result] = Batcher(self._encode, 1, limits.waiting, "encoders")
        posts = {
            "/recommend": Post(RecommendAsked, self.recommend),
            "/similar": Post(SimilarAsked, self.similar),
            "/search": Post(SearchAsked, self.search, large=True),
            "/explain": Post(ExplainAsked, self.explain),
            "/items": Post(AddAsked, self.add, large=True),
        }
        api = self._described(posts)
        known = [route.path for route in api.routes if hasattr(route, "path")]
        self.app = Front(api, posts, limits, hosts, known, self.metrics.answered)

    def change(self) -> None:
        """Begin to load the model folder again; from the event loop."""
        self.current.change(lambda done: self.metrics.changes.labels("done" if done else "failed").inc())

    def close(self) -> None:
        """End. Who asked has been answered, or has been told that he is not."""
        for asking, kept in ((self.encoding, self.encoders), (self.model, self.current)):
            asking.close(CLOSING)
            kept.close()

    async def recommend(self, asked: RecommendAsked) -> Response:
        """What comes next after a history."""
        return await self._answer("recommend", asked)

    async def similar(self, asked: SimilarAsked) -> Response:
        """Items like one."""
        return await self._answer("similar", asked)

    async def search(self, asked: SearchAsked) -> Response:
        """Items by words, by a picture, or by both; with a history, the ones that fit both."""
        answers.check(asked, self.limits)
        made: Any = None
        while made != self.current.made:  # another model may have come meanwhile
            made = self.current.made
            vectors = json.loads(await self._body("search", (made, asked), self.encoding))
        return _json(await self._body("search", (asked, vectors, made)))

    async def explain(self, asked: ExplainAsked) -> Response:
        """Why an item is recommended after a history."""
        return await self._answer("explain", asked)

    async def add(self, asked: AddAsked) -> Response:
        """Add items, in memory, where the service was started with --allow-adding."""
        if not self.allow_adding:
            raise RefusedError(403, "items are added only where the service was started with --allow-adding")
        self._check_staying()
        check_added(asked, self.limits)
        made = self.current.made
        if to_encode(asked, made):
            asked = with_vectors(asked, json.loads(await self._body("add", (made, asked), self.encoding)))
            self._check_staying()
        return _json(await self._body("add", (asked, made)))

    def _check_staying(self) -> None:
        if self.current.changing:  # what is added would be lost
            raise RefusedError(503, CHANGED)

    async def _answer(self, name: str, asked: Any) -> Response:
        answers.check(asked, self.limits)
        return _json(await self._body(name, asked))

    async def _body(self, name: str, asked: Any, of: Batcher[Job, Result] | None = None) -> bytes:
        """What the model, or somebody else, has to say."""
        status, body = await (of or self.model).ask((name, asked))
        if status != 200:
            raise RefusedError(status, body.decode())
        return body

    def _work(self, jobs: Sequence[Job], deliver: Deliver) -> None:
        """Lists together and first, then the rest one by one."""
        lists = [place for place, (name, _) in enumerate(jobs) if name == "recommend"]
        if lists:
            self.metrics.batches.observe(len(lists))
            deliver(lists, self.current.ask([jobs[place] for place in lists]))
        for place, job in enumerate(jobs):
            if job[0] != "recommend":
                deliver([place], self.current.ask([job]))

    def _encode(self, jobs: Sequence[Job], deliver: Deliver) -> None:
        deliver(range(len(jobs)), self.encoders.ask(jobs))

    def _described(self, posts: dict[str, Post]) -> FastAPI:
        """The application: everything by GET, and the description of what is asked by POST."""
        api = FastAPI(
            title="MMM4Rec, served",
            version=recbole_mmm4rec.__version__,
            description="Recommendations of one shop's items from histories of users.",
            docs_url=None,  # FastAPI's own pages load their programs from elsewhere
            redoc_url=None,
        )
        lists = ("/recommend", "/similar", "/search")
        for path, post in posts.items():
            line = str(post.answer.__doc__).rstrip(".")
            model = Answer if path in lists else None
            api.post(path, summary=line, response_model=model, responses=_MISTAKES)(post.answer)
        self._add_get(api)
        page.add(api, partial(reference, api))
        _tell_mistakes(api)
        return api

    def _add_get(self, api: FastAPI) -> None:
        @api.get("/healthz", summary="Whether the service answers, and with which model")
        async def healthz() -> Response:
            about, alive = self.current.about, self.current.alive
            if not alive and not self.model.waiting:  # any question has it started again
                self._started_again = asyncio.ensure_future(self.model.ask(("about", None)))
            said = {"status": "ok" if alive else "the model is started again", "model": about["name"]}
            return JSONResponse({**said, "items": about["items"]}, 200 if alive else 503)

        @api.get("/metrics", summary="Counters and times for Prometheus", response_class=Response)
        async def metrics() -> Response:
            return Response(self.metrics.text(), media_type=CONTENT_TYPE)

        @api.get("/about", summary="What the model looks at, and the service's limits")
        async def about() -> dict[str, Any]:
            return {**self.current.about, "most": self.limits.k, "adding": self.allow_adding}

        @api.get("/titles", summary="Items whose id or text has these words, the most taken first")
        async def titles(q: str = Query("", max_length=200), limit: int = Query(20, ge=1, le=TITLES)) -> Response:
            return _json(await self._body("titles", (q, limit)))

        @api.get("/picture", summary="An item's picture", responses={404: {"model": Mistake}}, response_class=Response)
        async def picture(item: str = Query(max_length=500)) -> Response:
            data = await self._body("picture", item)
            return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _tell_mistakes(api: FastAPI) -> None:
    """Every mistake of what is asked by GET is a status and one line."""

    def handler(kind: type[Exception], status: int, line: Callable[[Any], str]) -> None:
        async def told(request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"error": one_line(line(error))}, getattr(error, "status", status))

        api.exception_handler(kind)(told)

    handler(UserError, 422, str)
    handler(RefusedError, 422, lambda error: error.line)
    handler(RequestValidationError, 422, lambda error: in_one_line(error.errors()))
    handler(Exception, 500, lambda error: FAILED)

    @api.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path[:100]
        words = {404: f"{path}: there is no such address; /api lists them", 405: f"{path}: not by {request.method}"}
        return JSONResponse(
            {"error": one_line(words.get(error.status_code, str(error.detail)))}, error.status_code, error.headers
        )
