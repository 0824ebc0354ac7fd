"""Requests of any form: an answer, or a status below 500 with one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from any_input import changed, few
from hypothesis import given
from hypothesis import strategies as st
from served import Served, served

ASKED: dict[str, dict[str, Any]] = {
    "/recommend": {"history": ["k01", "k02"], "k": 3, "timestamps": [1, 2], "where": {"category": "garden"}},
    "/similar": {"item": "k01", "k": 3, "modalities": ["image"]},
    "/search": {"text": "red tent", "image": "AAAA", "history": ["k01"], "timestamps": [1]},
    "/explain": {"history": ["k01", "k02"], "item": "k03", "timestamps": [1, 2], "neighbours": True},
    "/items": {"items": [{"item_id": "new", "text_vector": [0.5] * 12, "columns": {"price": 1}}]},
}


@pytest.fixture(scope="module")
def shop(model_folder: Path) -> Iterator[Served]:
    with served(model_folder, allow_adding=True) as running:
        yield running


@pytest.mark.parametrize("path", ASKED)
@few
@given(data=st.data())
def test_any_body(shop: Served, path: str, data: st.DataObject) -> None:
    body = json.dumps(data.draw(changed(ASKED[path]))).encode("utf-8", "surrogatepass")
    answer = shop.client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        (line,) = answer.json().values()
        assert line.splitlines() == [line]


@pytest.mark.parametrize("query", [b"limit=5&q=\xff\xfe", b"q=caf\xe9"])
def test_bytes_beyond_ascii_in_an_address_are_refused(shop: Served, query: bytes) -> None:
    """They come so from programs that do not write them as %XX, which not every server in front of it refuses."""
    import asyncio

    said: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    for path in ("/titles", "/nowhere"):
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": []}
        shop.service.app._hosts, names = None, shop.service.app._hosts
        try:
            asyncio.run(shop.service.app(scope, receive, send))
        finally:
            shop.service.app._hosts = names
    assert [message["status"] for message in said if "status" in message] == [400, 400]


def test_control_characters_of_an_address_are_spelt_out(shop: Served) -> None:
    answer = shop.client.get("/a%00b%1bc")
    assert (answer.status_code, answer.json()["error"]) == (
        404,
        r"/a\x00b\x1bc: there is no such address; /api lists them",
    )
