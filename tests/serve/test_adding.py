"""Items added while the service runs: recommendable at once, in memory alone, and only where that is allowed."""

from __future__ import annotations

from pathlib import Path

from served import served

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


def test_nothing_is_added_unless_allowed(model_folder: Path) -> None:
    with served(model_folder) as shop:
        line = "items are added only where the service was started with --allow-adding"
        assert shop.said("/items", items=[{"item_id": "new1", "text": "x"}]) == (403, line)
