"""The fuzzer's readers behind HTTP: the service's requests, in this process, as a server of ASGI calls it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzzing.cases import Case, Reader, pictures
from fuzzing.watch import mistakes

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.recommend.encoders import Encoders
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.serve.app import Service
from recbole_mmm4rec.serve.current import Current, Kept
from recbole_mmm4rec.serve.desk import Desk
from recbole_mmm4rec.serve.encoding import EncodingDesk, Made
from recbole_mmm4rec.serve.limits import Limits
from recbole_mmm4rec.serve.shop import Shop


class _Any:
    """Stands in for an encoder: what it says depends on nothing."""

    def __init__(self, dim: int, pictured: bool) -> None:
        self.dim, self.pictured = dim, pictured

    def prepare(self, source: Any) -> Any:
        from recbole_mmm4rec.encoders.pictures import read_picture

        return read_picture(source) if self.pictured else source

    def encode(self, prepared: Any) -> np.ndarray:
        return np.ones((len(prepared), self.dim), np.float32)


def _service(model: Path, adding: bool) -> Callable[[Path], Callable[[Path], None]]:
    """The service in this process, as a server of ASGI calls it."""

    def begin(inside: Path) -> Callable[[Path], None]:
        def start(folder: Path) -> Desk:
            return Desk(Shop(Recommender.load(folder)))

        def load(made: Made) -> Encoders:
            encoders = Encoders(made)
            encoders.loaded.update({"text": _Any(12, False), "image": _Any(6, True)})  # type: ignore[dict-item]
            return encoders

        loop = asyncio.new_event_loop()
        limits = Limits(k=50, history=200)
        encoders = Kept(lambda: EncodingDesk(load), "encoders")
        service = Service(Current(model, start), encoders, limits, None, adding)
        failed: list[BaseException] = []

        class Told(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.exc_info and record.exc_info[1] is not None:
                    failed.append(record.exc_info[1])

        log = logging.getLogger("recbole_mmm4rec.serve")
        log.addHandler(Told())
        log.propagate = False

        async def asked(method: str, path: str, query: bytes, body: bytes, kind: bytes) -> tuple[int, bytes]:
            status, said = 0, b""
            waiting = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive() -> Any:
                return waiting.pop() if waiting else {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                nonlocal status, said
                status = message.get("status", status)
                said += message.get("body", b"")

            headers = [(b"content-type", kind), (b"host", b"localhost"), (b"content-length", str(len(body)).encode())]
            scope = {
                "type": "http",
                "method": method,
                "path": path,
                "raw_path": path.encode("utf-8", "replace"),
                "query_string": query,
                "headers": headers,
                "http_version": "1.1",
                "scheme": "http",
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 80),
                "asgi": {"version": "3.0"},
                "root_path": "",
            }
            await service.app(scope, receive, send)
            return status, said

        count = 0

        def read(folder: Path) -> None:
            nonlocal count
            told = json.loads((folder / "request.json").read_bytes())
            count += 1
            if adding and count % 100 == 0:  # what was added is forgotten
                service.current._take()
            failed.clear()
            query = (folder / "query").read_bytes()
            path = (folder / "path").read_bytes().decode("utf-8", "replace")
            body = (folder / "body").read_bytes()
            status, said = loop.run_until_complete(asked(told["method"], path, query, body, told["kind"].encode()))
            if failed:
                raise failed[0]
            if status >= 500 or not status:
                raise AssertionError(f"status {status}: {said[:200]!r}")
            if status >= 400:
                line = json.loads(said)["error"]
                if mistakes(line, ""):
                    raise AssertionError(f"status {status}: {line[:200]}")
                raise UserError(line)

        return read

    return begin


def requests(adding: bool) -> list[Case]:
    """Requests to every address."""
    picture = base64.b64encode(pictures()[0]).decode()
    times = [1_610_000_000, 1_610_003_600]
    posts: list[tuple[str, Any]] = [
        (
            "/recommend",
            {"history": ["k01", "k02"], "k": 3, "timestamps": times, "exclude_seen": False, "modalities": ["text"]},
        ),
        ("/recommend", {"history": ["k01"], "only": ["k03", "no"], "exclude": ["k04"], "neighbours": True}),
        ("/recommend", {"history": [], "where": {"category": ["garden", "office"], "price": 5.5}}),
        ("/similar", {"item": "k01", "k": 4, "modalities": ["image"], "where": {"category": "garden"}}),
        ("/search", {"text": "red tent", "k": 3, "history": ["k01", "k02"], "timestamps": times}),
        ("/search", {"image": picture, "k": 3, "exclude": ["k04"]}),
        ("/explain", {"history": ["k01", "k02"], "item": "k03", "timestamps": times, "modalities": ["text", "image"]}),
    ]
    if adding:
        new = {"item_id": "new", "text": "a tent", "columns": {"category": "garden", "price": 2.5}}
        vectors = {"item_id": "n2", "text_vector": [0.5] * 12, "image_vector": [1.0] * 6}
        posts = [("/items", {"items": [new]}), ("/items", {"items": [{**new, "image": picture}, vectors]}), *posts[:1]]
    found: list[Case] = []
    for path, asked in posts:
        told = {"method": "POST", "kind": "application/json"}
        found.append(
            {
                "path": path.encode(),
                "query": b"",
                "body": json.dumps(asked).encode(),
                "request.json": json.dumps(told).encode(),
            }
        )
    for path, query in (
        ("/titles", "q=tent&limit=5"),
        ("/picture", "item=k01"),
        ("/healthz", ""),
        ("/about", ""),
        ("/metrics", ""),
        ("/", ""),
        ("/api", ""),
    ):
        told = {"method": "GET", "kind": "text/plain"}
        found.append(
            {"path": path.encode(), "query": query.encode(), "body": b"", "request.json": json.dumps(told).encode()}
        )
    return found if not adding else found[: len(posts)]


def readers(corpus: Path) -> list[Reader]:
    """All of the service."""
    asked = {"body": "request", "query": "bytes", "path": "bytes"}
    model = (corpus / "kiosk" / "model").resolve()
    return [
        Reader("the service's requests", 20_000, requests(False), asked, begin=_service(model, False)),
        Reader("items added to the service", 3_000, requests(True), asked, begin=_service(model, True)),
    ]
