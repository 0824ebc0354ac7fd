"""The page at ``/`` and what it loads: files of this package, read once; nothing comes from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

from fastapi import FastAPI
from fastapi.responses import Response

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Address → file of ``page/``, and what it is."""


def add(api: FastAPI, reference: Callable[[], str]) -> None:
    """Give an application the addresses of the page, and ``/api``, the list of all others.

    Args:
        api: the application.
        reference: makes that list as HTML.
    """
    folder = resources.files("recbole_mmm4rec.serve") / "page"
    for address, (name, kind) in FILES.items():
        api.get(address, include_in_schema=False)(_file((folder / name).read_bytes(), kind))

    made: list[bytes] = []

    @api.get("/api", include_in_schema=False)
    async def listed() -> Response:
        if not made:
            made.append(reference().encode())
        return _response(made[0], "text/html; charset=utf-8")


def _file(content: bytes, kind: str) -> Callable[[], Response]:
    def file() -> Response:
        return _response(content, kind)

    return file


def _response(content: bytes, kind: str) -> Response:
    return Response(content, headers={"content-type": kind, "cache-control": "no-cache"})
