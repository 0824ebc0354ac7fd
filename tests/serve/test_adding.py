"""Items added while the service runs: recommendable at once, in memory alone, and only where that is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from served import served

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.limits import CHANGED
from recbole_mmm4rec.serve.schemas import AddAsked, NewItem

HISTORY = ["k01", "k02"]


def test_added_items_are_recommended_and_nothing_is_written(model_folder: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in model_folder.iterdir()}
    with served(model_folder, allow_adding=True) as shop:
        width = shop.desks[-1].shop.recommender.network.items.features["text"].shape[1]
        vector = [1.0, *[0.0] * (width - 1)]
        new = {"item_id": "new1", "text": "ring for the attic", "text_vector": vector}
        assert shop.post("/items", items=[new]).json()["added"] == ["new1"]
        assert shop.client.get("/healthz").json()["items"] == 37
        found = shop.post("/recommend", history=HISTORY, only=["new1"]).json()
        assert [one["item"] for one in found["items"]] == ["new1"]
        assert [one["item"] for one in shop.client.get("/titles", params={"q": "attic"}).json()["items"]] == ["new1"]
        status, line = shop.said("/items", items=[new])
        assert (status, "new1" in line) == (422, True)
        status, line = shop.said("/items", items=[{"item_id": "new2", "image": "/etc/passwd"}])
        assert (status, line) == (422, "items[0]: image: the picture's bytes as base64 are wanted")
        assert shop.client.get("/healthz").json()["items"] == 37
    assert {file.name: file.stat().st_mtime_ns for file in model_folder.iterdir()} == before


def test_the_encoders_begin_with_the_first_item_that_needs_them(model_folder: Path) -> None:
    class Broken:
        def __init__(self, _: Any) -> None:
            raise UserError("there are no encoders")

    with served(model_folder, allow_adding=True, load=Broken) as shop:
        width = shop.desks[-1].shop.recommender.network.items.features["text"].shape[1]
        ready = {"item_id": "new1", "text": "ring", "text_vector": [1.0] * width}
        assert shop.post("/items", items=[ready]).json()["added"] == ["new1"]
        assert not shop.service.encoders.alive
        assert shop.said("/items", items=[{"item_id": "new2", "text": "ring"}]) == (422, "there are no encoders")
        assert shop.service.encoders.alive


def test_vectors_of_which_the_model_makes_no_numbers_are_refused(model_folder: Path) -> None:
    with served(model_folder, allow_adding=True) as shop:
        items = shop.desks[-1].shop.recommender.network.items
        for weight in items.parameters():
            weight.mul_(100)  # of a small model they are small
        vector = [3e38, -3e38] * (items.features["text"].shape[1] // 2)
        status, line = shop.said("/items", items=[{"item_id": "new1", "text_vector": vector}])
        assert (status, line.startswith("item 'new1': its vectors are too large")) == (422, True)
        assert shop.post("/recommend", history=HISTORY).status_code == 200
        assert shop.client.get("/healthz").json()["items"] == 36


def test_nothing_is_added_unless_allowed(model_folder: Path) -> None:
    with served(model_folder) as shop:
        line = "items are added only where the service was started with --allow-adding"
        assert shop.said("/items", items=[{"item_id": "new1", "text": "x"}]) == (403, line)


def test_vectors_of_another_models_encoders_are_not_added(model_folder: Path) -> None:
    """The model is changed while a new item's text is encoded."""
    made = {"text": {"encoder": "drawn"}, "image": None}
    with served(model_folder, allow_adding=True) as shop:
        desk = shop.desks[-1]
        asked = AddAsked(items=[NewItem(item_id="new1", text="ring", text_vector=[1.0] * 12)])
        assert desk.ask([("add", (asked, made))]) == [(503, CHANGED.encode())]
        assert desk.ask([("add", (asked, desk.shop.made))])[0][0] == 200
        assert shop.service.current.ask([("titles", ("ring", 1))])[0][0] == 200
        assert shop.client.get("/healthz").json()["items"] == 36  # nobody has asked the service for it
        more = AddAsked(items=[NewItem(item_id="new2", text="ring", text_vector=[1.0] * 12)])
        assert shop.service.current.ask([("add", (more, desk.shop.made))])[0][0] == 200
        assert shop.client.get("/healthz").json()["items"] == 38


def test_an_added_item_shows_however_many_wait(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service says of itself is not one more request, which might be refused."""
    with served(model_folder, allow_adding=True) as shop:
        ask, asked = shop.service.model.ask, []

        async def noted(job: Any) -> Any:
            asked.append(job[0])
            return await ask(job)

        monkeypatch.setattr(shop.service.model, "ask", noted)
        new = {"item_id": "new1", "text": "ring", "text_vector": [1.0] * 12}
        assert shop.post("/items", items=[new]).json()["added"] == ["new1"]
        assert asked == ["add"]
        assert shop.client.get("/healthz").json()["items"] == 37


def test_a_number_without_end_is_a_mistake_of_what_is_asked(model_folder: Path) -> None:
    with served(model_folder, allow_adding=True) as shop:
        new = {"item_id": "new1", "text_vector": [1.0] * 12, "columns": {"price": 10**400}}
        line = "items[0]: price: a number of more than 300 digits; leave it out"
        assert shop.said("/items", items=[new]) == (422, line)
