"""What every request passes first and every answer last: names, sizes, times, headers, mistakes in one line."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from recbole_mmm4rec.base.errors import UserError, one_line
from recbole_mmm4rec.serve.limits import FAILED, Limits, RefusedError
from recbole_mmm4rec.serve.schemas import told

log = logging.getLogger("recbole_mmm4rec.serve")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""Of every answer: a browser loads nothing from elsewhere, and shows nothing of ours elsewhere."""


@dataclass(frozen=True)
class Post:
    """What is asked by POST.

    Attributes:
        schema: of the body.
        answer: of what was asked.
        large: whether the body may hold pictures.
    """

    schema: type[BaseModel]
    answer: Callable[[Any], Awaitable[Response]]
    large: bool = False


class Front:
    """Wraps the application, and reads and answers what is asked by POST itself.

    A page elsewhere can make a browser send requests to a service on the same machine. It cannot make it send JSON
    without asking first (which is never allowed), and a name of its own that leads here is not answered.

    Args:
        app: the application, for everything else.
        posts: path to what is asked there by POST. The application describes the same functions; called from here a
            request costs half of the processor time.
        limits: what a request may cost.
        hosts: the names under which the service is asked for; None: any.
        known: paths that are counted under their name.
        answered: is told path, status and seconds.
    """

    def __init__(
        self,
        app: App,
        posts: Mapping[str, Post],
        limits: Limits,
        hosts: Iterable[str] | None,
        known: Iterable[str],
        answered: Callable[[str, int, float], None],
    ) -> None:
        self._app, self._posts, self._limits, self._answered = app, posts, limits, answered
        self._hosts = None if hosts is None else frozenset(name.lower() for name in hosts)
        self._known = frozenset(known)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # monitors'; the server leaves out the body
            scope = {**scope, "method": "GET"}
        begin, status, path = time.perf_counter(), 0, scope["path"]

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            headers = {name: value for name, value in scope["headers"] if name in _LOOKED_AT}
            self._check_host(headers)
            if not scope.get("query_string", b"").isascii():
                raise RefusedError(400, "the address holds bytes beyond ASCII; write them as %XX")
            post = self._posts.get(path) if scope["method"] == "POST" else None
            if post is None:
                await self._app(scope, receive, sent)
            else:
                body = await self._body(headers, receive, post.large)
                response = await post.answer(post.schema.model_validate_json(body))
                await sent({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
                await sent({"type": "http.response.body", "body": response.body})
        except RefusedError as error:
            await answer(sent, error.status, error.line)
        except ValidationError as error:
            await answer(sent, 422, told(error, self._posts[path].schema))
        except UserError as error:
            await answer(sent, 422, str(error))
        except asyncio.CancelledError:
            if not status:
                await answer(sent, 503, "the service ends")
        except Exception:
            log.exception("%s %s failed", scope["method"], path)
            if not status:
                await answer(sent, 500, FAILED)
        finally:
            self._answered(path if path in self._known else "other", status, time.perf_counter() - begin)

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        if self._hosts is not None:
            host = _host(headers.get(b"host", b"").decode("latin-1"))
            if host not in self._hosts:
                raise RefusedError(421, f"host {host[:60]!r}: this service has another name (--name adds one)")

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, large: bool) -> bytes:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise RefusedError(415, f"content-type {kind[:60].decode('latin-1')!r}: application/json is wanted")
        most = self._limits.picture_body if large else self._limits.body
        too_large = RefusedError(413, f"the body has more than {most:,} bytes")
        size = headers.get(b"content-length", b"0")
        if size.isdigit() and int(size[:20]) > most:
            raise too_large
        try:
            return await asyncio.wait_for(_whole(receive, most, too_large), self._limits.seconds)
        except asyncio.TimeoutError:  # from Python 3.11 on the built-in one
            raise RefusedError(408, f"the body did not come within {self._limits.seconds:g} s") from None


_LOOKED_AT = (b"host", b"content-type", b"content-length")


async def _whole(receive: Receive, most: int, too_large: RefusedError) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(499, "who asked is gone")  # nobody reads it; it is counted
        body += message.get("body", b"")
        if len(body) > most:
            raise too_large
        more = message.get("more_body", False)
    return body


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    name = header.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


async def answer(send: Send, status: int, line: str) -> None:
    """An answer that is one line."""
    body = json.dumps({"error": one_line(line)}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # what is still coming is not read
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
