"""What the service answers is what the model says in Python."""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_server import picture
from served import Held, Served, served, until

from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.serve.schemas import RecommendAsked

TIMES = [1_610_000_000, 1_610_003_600, 1_610_090_000]
HISTORY = ["k01", "k02", "k08"]


def as_answer(model: Recommender, found: Any) -> dict[str, Any]:
    """The JSON for a list."""
    pictures = {item: model.items.picture(item) is not None for item in model.items.ids}
    items = [
        # the service has prepared the inputs of all items, which rounds differently
        {"item": o.item, "score": pytest.approx(o.score, abs=1e-4), "text": o.text, "picture": pictures[o.item]}
        for o in found.items
    ]
    return {"items": items, "unknown": [*found.unknown], "popular": found.popular, "notes": [*found.notes]}


ASKED: list[dict[str, Any]] = [
    {},
    {"k": 3},
    {"k": 36},
    {"timestamps": TIMES},
    {"exclude_seen": False},
    {"modalities": ["text"]},
    {"modalities": ["image"], "neighbours": False, "k": 5},
    {"only": ["k03", "k04", "nothing"]},
    {"exclude": ["k03", "k04"]},
    {"where": {"category": "garden"}},
    {"where": {"category": ["garden", "office"]}, "k": 4},
]


@pytest.mark.parametrize("asked", ASKED)
def test_recommendations_are_the_models(shop: Served, model: Recommender, asked: dict[str, Any]) -> None:
    answer = shop.post("/recommend", history=HISTORY, **asked)
    assert answer.status_code == 200
    assert answer.json() == as_answer(model, model.recommend(HISTORY, **asked))


def test_unknown_and_missing_items_are_told(shop: Served, model: Recommender) -> None:
    found = shop.post("/recommend", history=["k01", "zzz"]).json()
    assert found["unknown"] == ["zzz"]
    found = shop.post("/recommend", history=["zzz"]).json()
    assert found["popular"]
    assert found == as_answer(model, model.recommend(["zzz"]))


def test_requests_that_come_together_are_answered_together_and_as_alone(shop: Served, model: Recommender) -> None:
    """While the thread is held up, requests of all kinds gather; one of them is a mistake."""
    asked = [{"history": HISTORY[: 1 + n % 3], **ASKED[n % len(ASKED)]} for n in range(33)]
    asked = [{**one, "timestamps": TIMES[: len(one["history"])]} if "timestamps" in one else one for one in asked]
    asked[5] = {"history": HISTORY, "timestamps": [3, 2, 1]}
    answers: list[Any] = [None] * len(asked)
    before = batches(shop)

    def ask(place: int) -> None:
        answers[place] = shop.post("/recommend", **asked[place])

    with Held(shop):
        threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(asked))]
        for thread in threads:
            thread.start()
        until(lambda: shop.service.model.waiting == len(asked) + 1)
    for thread in threads:
        thread.join()
    assert batches(shop) == (before[0] + 1, before[1] + len(asked))
    for place, (one, answer) in enumerate(zip(asked, answers, strict=True)):
        if place == 5:
            assert answer.status_code == 422
        else:
            alone = as_answer(model, model.recommend(one.pop("history"), **one))
            assert answer.json() == alone


def batches(shop: Served) -> tuple[int, int]:
    """How many batches there were, and requests in them."""
    text = shop.client.get("/metrics").text
    return tuple(int(float(re.search(rf"^mmm4rec_batch_{name} (\S+)", text, re.M)[1])) for name in ("count", "sum"))  # type: ignore[index, return-value]


def test_similar_items_are_the_models(shop: Served, model: Recommender) -> None:
    for asked in ({}, {"k": 2, "modalities": ["image"]}, {"where": {"category": "office"}}):
        assert shop.post("/similar", item="k07", **asked).json() == as_answer(model, model.similar("k07", **asked))


def test_an_explanation_is_the_models(shop: Served, model: Recommender) -> None:
    for asked in ({}, {"timestamps": TIMES}, {"modalities": ["text"], "neighbours": False}):
        found = shop.post("/explain", history=HISTORY, item="k09", **asked).json()
        alone = json.loads(json.dumps(model.explain(HISTORY, "k09", **asked).to_dict()))
        assert found["score"] == pytest.approx(alone["score"], abs=1e-4)
        assert [one["item"] for one in found["past"]] == [one["item"] for one in alone["past"]]
        assert (found["rank"], found["among"], set(found)) == (alone["rank"], alone["among"], set(alone))


def test_search_is_by_words_or_by_the_bytes_of_a_picture(model_folder: Path) -> None:
    sent = picture(kind="JPEG")
    asked: list[tuple[str, Any]] = []

    class Drawn:
        """An encoder that finds item 7 in whatever it is given."""

        def __init__(self, made: Any) -> None:
            assert {name: one["modality"] for name, one in made.items()} == {"text": "text", "image": "image"}

        def vector(self, modality: str, source: Any) -> Any:
            asked.append((modality, source))
            return model.network.items.features[modality].take(slice(7, 8))[0].numpy()

    with served(model_folder, load=Drawn) as running:
        model = running.desks[-1].shop.recommender
        model.encoders = Drawn(model.encoders.made)
        text = running.post("/search", text="red tent", k=2).json()
        image = running.post("/search", image=base64.b64encode(sent).decode(), k=2).json()
        both = running.post("/search", text="red tent", history=HISTORY, where={"category": "garden"}).json()
        assert text == as_answer(model, model.search("red tent", k=2))
        assert image["items"][0]["item"] == model.items.ids[6]
        assert both == as_answer(model, model.search("red tent", history=HISTORY, where={"category": "garden"}))
        assert running.said("/search") == (422, "search: nothing is asked for; give text, image, or both")
    assert ("image", sent) in asked
    assert {source for modality, source in asked if modality == "text"} == {"red tent"}


def test_lists_are_answered_while_a_search_is_encoding(model_folder: Path) -> None:
    began, go = threading.Event(), threading.Event()
    found: list[int] = []

    class Slow:
        def __init__(self, _: Any) -> None:
            pass

        def vector(self, modality: str, source: Any) -> Any:
            began.set()
            assert go.wait(60)
            return np.ones(12, dtype=np.float32)

    with served(model_folder, load=Slow) as running:
        search = threading.Thread(target=lambda: found.append(running.post("/search", text="red tent").status_code))
        search.start()
        assert began.wait(60)
        assert running.post("/recommend", history=HISTORY).status_code == 200
        assert running.post("/similar", item="k07").status_code == 200
        assert not found
        go.set()
        search.join()
    assert found == [200]


def test_pictures_are_the_items_own(shop: Served, model: Recommender) -> None:
    answer = shop.client.get("/picture", params={"item": "k01"})
    assert (answer.headers["content-type"], answer.content) == ("image/jpeg", model.items.picture("k01"))
    for item, line in (
        ("k05", "item 'k05' has no picture"),
        ("../manifest.json", "item '../manifest.json': the shop does not have it"),
    ):
        answer = shop.client.get("/picture", params={"item": item})
        assert (answer.status_code, answer.json()["error"]) == (404, line)


def test_the_search_box_finds_ids_and_texts(shop: Served, model: Recommender) -> None:
    def found(words: str, limit: int = 50) -> list[str]:
        return [one["item"] for one in shop.client.get("/titles", params={"q": words, "limit": limit}).json()["items"]]

    texts = {item: model.items.text(item) for item in model.items.ids}
    assert set(found("GARDEN")) == {item for item, text in texts.items() if "garden" in text}
    assert found("k07") == ["k07"]
    assert found("for garden " + texts["k01"].split()[0]) == ["k01"]
    assert found("no such words") == []
    taken = dict(zip(model.items.ids, model.items.popularity, strict=True))
    assert [taken[item] for item in found("", 5)] == sorted(taken.values(), reverse=True)[:5]
    assert shop.client.get("/titles", params={"limit": 51}).status_code == 422


def test_what_the_service_says_of_itself(shop: Served, model_folder: Path) -> None:
    assert shop.client.get("/healthz").json() == {"status": "ok", "model": model_folder.name, "items": 36}
    for path in ("/healthz", "/", "/page.js"):  # monitors ask so
        head, got = shop.client.head(path), shop.client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
    assert shop.client.head("/recommend").status_code == 405
    about = shop.client.get("/about").json()
    assert about["modalities"] == ["text", "image"]
    assert (about["items"], about["most"], about["adding"], about["pictures"]) == (36, 100, False, True)
    text = shop.client.get("/metrics").text
    assert 'mmm4rec_requests_total{path="/healthz",status="200"}' in text
    assert "mmm4rec_items 36.0" in text
    assert "/page/index" not in text  # a stranger's paths make no names
    assert {"/recommend", "/similar", "/search", "/explain", "/items"} <= set(
        shop.client.get("/openapi.json").json()["paths"]
    )


def test_nothing_is_loaded_from_elsewhere(shop: Served) -> None:
    for path in ("/", "/api", "/page.css", "/page.js", "/icon.svg"):
        answer = shop.client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+", re.sub(r"(?m)^//.*$|[;)\s]//.*$", "", answer.text)))
        assert addresses <= {"http://127.0.0.1", "http://www.w3.org"}, path
    page = shop.client.get("/api").text
    for path in ("/recommend", "/similar", "/search", "/explain", "/items", "/healthz", "/metrics"):
        assert f"{path}</code>" in page


_SEEN: list[tuple[str, str]] = []
_LOOKS = threading.Event()


def _look(event: str, given: tuple[Any, ...]) -> None:
    if event in ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen") and _LOOKS.is_set():
        names = (threading.current_thread().name, f"{event} {given[:2]}")
        if names[0] != "MainThread":  # the test's own
            _SEEN.append(names)


def test_no_request_opens_a_file_or_a_connection(shop: Served) -> None:
    asked = [
        ("/recommend", {"history": ["/etc/passwd", "../../x", "k01"], "only": ["/etc/hosts", "k03"]}),
        ("/recommend", {"history": ["http://127.0.0.1:9/x"], "where": {"category": "garden"}}),
        ("/similar", {"item": "k01"}),
        ("/similar", {"item": "/etc/passwd"}),
        ("/search", {"image": "/etc/passwd"}),
        ("/search", {"image": "https://example.com/a.png"}),
        ("/explain", {"history": ["k01"], "item": "/etc/passwd"}),
        ("/items", {"items": [{"item_id": "new", "image": "/etc/passwd"}]}),
    ]
    pages = (
        "/",
        "/page.js",
        "/picture?item=k01",
        "/picture?item=/etc/passwd",
        "/titles?q=/etc/passwd",
        "/metrics",
        "/api",
    )
    for _ in range(2):  # the first time modules may be imported
        for path, one in asked:
            assert shop.post(path, **one).status_code in (200, 403, 404, 422)
        for page in pages:
            assert shop.client.get(page).status_code in (200, 404)
        if not _LOOKS.is_set():
            sys.addaudithook(_look)
            _LOOKS.set()
    _LOOKS.clear()
    assert _SEEN == []


def test_examples_of_the_description_fit_it() -> None:
    (example,) = RecommendAsked.model_config["json_schema_extra"]["examples"]  # type: ignore[index, call-overload]
    assert json.loads(RecommendAsked(**example).model_dump_json())["history"] == ["ID", "ID"]
