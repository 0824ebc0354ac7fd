"""Mistakes of those who ask are a status and one line; failures of the service are told in its log alone."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from picture_server import bomb_png
from pydantic import BaseModel, ValidationError
from served import Held, Served, served, until

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.serve.limits import Limits
from recbole_mmm4rec.serve.schemas import AddAsked, RecommendAsked, SearchAsked

HISTORY = ["k01", "k02", "k08"]

LINES = [
    ("/recommend", {}, "history: is missing"),
    ("/recommend", {"history": "k01"}, "history='k01': a list is wanted"),
    ("/recommend", {"history": [1]}, "history[0]=1: a text is wanted"),
    ("/recommend", {"histroy": []}, "histroy: there is no such key; did you mean 'history'?"),
    ("/recommend", {"history": HISTORY, "k": "ten"}, "k='ten': a whole number is wanted"),
    ("/recommend", {"history": HISTORY, "k": 2.5}, "k=2.5: a whole number is wanted"),
    (
        "/recommend",
        {"history": [], "modalities": ["sound"]},
        "modalities[0]='sound': input should be 'text' or 'image'",
    ),
    ("/recommend", {"history": HISTORY, "k": 1000}, "k=1000: at most 100 here (--max-k allows more)"),
    (
        "/recommend",
        {"history": ["k01"] * 1001},
        "history of 1,001 items: at most 1,000 here (--max-history allows more)",
    ),
    (
        "/recommend",
        {"history": HISTORY, "where": dict.fromkeys(map(str, range(1001)), 1)},
        "where: at most 1,000 keys here",
    ),
    (
        "/recommend",
        dict.fromkeys(map(str, range(5000)), 1),
        "the body has 5,001 mistakes; /api lists what may be asked",
    ),
    ("/search", {"text": "x" * 2001}, "text='" + "x" * 59 + "…: string should have at most 2000 characters"),
    ("/search", {"image": "/etc/passwd"}, "image: the picture's bytes as base64 are wanted"),
    ("/search", {"image": "http://127.0.0.1/a.png"}, "image: the picture's bytes as base64 are wanted"),
    ("/search", {"image": "aGVsbG8="}, "image: no picture in a known format (JPEG, PNG, WEBP, GIF, BMP)"),
]


@pytest.mark.parametrize(("path", "asked", "line"), LINES)
def test_a_mistake_is_one_line(shop: Served, path: str, asked: dict[str, Any], line: str) -> None:
    assert shop.said(path, **asked) == (422, line)


@pytest.mark.parametrize(
    ("schema", "asked"),
    [
        (RecommendAsked, {"history": [1] * 250_000}),
        (RecommendAsked, {"history": [], "where": dict.fromkeys(map(str, range(40_000)))}),
        (SearchAsked, {"text": "x", "only": [1] * 1_000_000}),
        (AddAsked, {"items": [{}] * 500_000}),
        (AddAsked, {"items": [{"item_id": "new", "text_vector": ["x"] * 500_000}]}),
        (AddAsked, {"items": [{"item_id": "new", "columns": dict.fromkeys(map(str, range(200_000)))}]}),
    ],
)
def test_a_body_of_mistakes_is_not_listed(schema: type[BaseModel], asked: dict[str, Any]) -> None:
    """Each would take memory and time of all who ask."""
    with pytest.raises(ValidationError) as error:
        schema.model_validate_json(json.dumps(asked))
    assert error.value.error_count() == 1


WORDS: list[dict[str, Any]] = [
    {"k": 0},
    {"k": -1},
    {"k": 37},
    {"timestamps": [1]},
    {"timestamps": [3, 2, 1]},
    {"timestamps": [-1, 2, 3]},
    {"timestamps": [1_610_000_000_000] * 3},
    {"where": {"categroy": "garden"}},
    {"where": {"category": "gardn"}},
]


@pytest.mark.parametrize("asked", WORDS)
def test_the_models_words_are_the_services(shop: Served, model: Recommender, asked: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        model.recommend(HISTORY, **asked)
    assert shop.said("/recommend", history=HISTORY, **asked) == (422, str(error.value))


def test_there_is_no_such_item_or_address(shop: Served) -> None:
    assert shop.said("/similar", item="zzz") == (404, "item 'zzz': the shop does not have it")
    assert shop.said("/explain", history=HISTORY, item="zzz") == (404, "item 'zzz': the shop does not have it")
    for path in ("/nothing", "/page.css/../../command.py", "/page/index.html", "/%2e%2e/command.py"):
        answer = shop.client.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert shop.client.get("/recommend").json() == {"error": "/recommend: not by GET"}


def test_bodies_that_are_none(shop: Served) -> None:
    def said(content: bytes, kind: str = "application/json") -> tuple[int, str]:
        answer = shop.client.post("/recommend", content=content, headers={"content-type": kind})
        return answer.status_code, answer.json()["error"]

    assert said(b'{"history": ["k01"') == (422, "the body is no JSON (EOF while parsing a list at line 1 column 18)")
    assert said(b"")[0] == 422
    assert said(b"[]")[0] == 422
    assert said(b"\xff\xfe")[0] == 422
    assert said(b'{"history": ["k01"], "k": NaN}')[0] == 422
    assert said(b"[" * 100_000)[0] == 422
    assert said(b'{"history": ["\\ud800"]}')[0] in (200, 422)
    assert said(b"history=k01", "text/plain") == (415, "content-type 'text/plain': application/json is wanted")
    assert said(b" " * (512 * 1024 + 1)) == (413, "the body has more than 524,288 bytes")
    assert shop.client.get("/healthz").json()["status"] == "ok"


def test_a_body_without_length_or_end_is_refused(model_folder: Path) -> None:
    with served(model_folder, Limits(body=1_000, seconds=0.2)) as running:
        chunks = running.client.post(
            "/recommend", content=iter([b" " * 600] * 5), headers={"content-type": "application/json"}
        )
        assert (chunks.status_code, chunks.json()["error"]) == (413, "the body has more than 1,000 bytes")
        names = b"host: localhost\r\ncontent-type: application/json\r\ncontent-length: 100"
        head = b"POST /recommend HTTP/1.1\r\n" + names + b"\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as slow:
            slow.sendall(head)
            said = b"".join(iter(lambda: slow.recv(4096), b""))
        assert b"408" in said.split(b"\r\n")[0]
        assert b"the body did not come within 0.2 s" in said


def test_who_goes_in_the_middle_of_a_body_made_no_mistake(model_folder: Path) -> None:
    with served(model_folder) as running:
        names = b"host: localhost\r\ncontent-type: application/json\r\ncontent-length: 100"
        with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as going:
            going.sendall(b"POST /recommend HTTP/1.1\r\n" + names + b"\r\n\r\n{")
        counted = 'mmm4rec_requests_total{path="/recommend",status='
        until(lambda: counted in running.client.get("/metrics").text)
        assert counted + '"499"} 1.0' in running.client.get("/metrics").text


def test_a_name_that_only_leads_here_is_not_answered(shop: Served, model_folder: Path) -> None:
    answer = shop.client.get("/healthz", headers={"host": "evil.example:80"})
    assert answer.status_code == 421
    assert answer.json()["error"] == "host 'evil.example': this service has another name (--name adds one)"
    assert shop.client.get("/healthz", headers={"host": "LOCALHOST"}).status_code == 200


def test_too_many_are_told_to_come_again(model_folder: Path) -> None:
    with served(model_folder, Limits(waiting=1)) as running, Held(running):
        answer = running.post("/recommend", history=HISTORY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"] == "1 requests are waiting; come again in a second"


def test_a_failure_is_told_in_the_log_alone(model_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(model_folder) as running:
        model = running.desks[-1].shop.recommender
        model.recommend = lambda *_, **__: 1 / 0
        assert running.said("/recommend", history=HISTORY) == (500, "the service failed here; its log says where")
        assert "ZeroDivisionError" in caplog.text
        del model.recommend
        assert running.post("/recommend", history=HISTORY).status_code == 200


def test_a_picture_is_looked_at_before_it_is_believed(shop: Served) -> None:
    def said(data: bytes) -> str:
        status, line = shop.said("/search", image=base64.b64encode(data).decode())
        assert status == 422
        return line

    assert said(bomb_png()) == "image: more than 20,000,000 pixels"
    assert (
        said(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
        == "image: no picture in a known format (JPEG, PNG, WEBP, GIF, BMP)"
    )
