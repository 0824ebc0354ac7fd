"""Another model while requests go on, and an end that answers what has come."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from more_items import like
from served import Held, Served, served, until

from recbole_mmm4rec import Recommender
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.serve.current import Kept
from recbole_mmm4rec.serve.desk import Desk
from recbole_mmm4rec.serve.limits import FAILED, Limits

HISTORY = ["k01", "k02"]


@pytest.fixture
def link(model_folder: Path, tmp_path: Path) -> Path:
    """A link to one of two models, ``old`` and ``new``."""
    for name in ("old", "new"):
        shutil.copytree(model_folder, tmp_path / name)
    place = tmp_path / "current"
    place.symlink_to("old")
    return place


def set_to(link: Path, name: str) -> None:
    """Set the link to another folder."""
    link.unlink()
    link.symlink_to(name)


class Asking:
    """Within it four clients ask without a pause."""

    def __init__(self, shop: Served) -> None:
        self.statuses: list[int] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(shop,)) for _ in range(4)]

    def _ask(self, shop: Served) -> None:
        while not self._stop.is_set():
            self.statuses.append(shop.post("/recommend", history=HISTORY).status_code)

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def model_of(shop: Served) -> str:
    """The folder that is served."""
    return str(shop.client.get("/healthz").json()["model"])


def test_no_request_is_lost_in_a_change(link: Path) -> None:
    with served(link) as shop:
        assert model_of(shop) == "old"
        with Asking(shop) as asking:
            set_to(link, "new")
            shop.on_loop(shop.service.change)
            until(lambda: model_of(shop) == "new")
            after = len(asking.statuses)
            until(lambda: len(asking.statuses) > after + 8)
        assert set(asking.statuses) == {200}
        assert 'mmm4rec_changes_total{result="done"} 1.0' in shop.client.get("/metrics").text


def test_a_folder_that_cannot_be_read_changes_nothing(link: Path, caplog: pytest.LogCaptureFixture) -> None:
    (weights,) = (link.parent / "new").glob("weights*")
    weights.write_bytes(weights.read_bytes()[:-1])
    caplog.set_level(logging.INFO)
    with served(link) as shop:
        set_to(link, "new")
        shop.on_loop(shop.service.change)
        until(lambda: 'result="failed"} 1.0' in shop.client.get("/metrics").text)
        assert model_of(shop) == "old"
        assert shop.post("/recommend", history=HISTORY).status_code == 200
        (line,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert line.startswith("the model stays old: ")
        assert "weights" in line
        set_to(link, "old")
        shop.on_loop(shop.service.change)
        until(lambda: 'result="done"} 1.0' in shop.client.get("/metrics").text)


def test_a_machine_without_room_for_a_second_process_keeps_the_first(
    model_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(model_folder) as shop:

        def start() -> Desk:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(shop.service.current, "_start", start)
        shop.on_loop(shop.service.change)
        until(lambda: 'result="failed"} 1.0' in shop.client.get("/metrics").text)
        assert shop.post("/recommend", history=HISTORY).status_code == 200
        assert caplog.records[-1].message == f"the model stays {model_of(shop)}: [Errno 24] Too many open files"
        lose(shop.desks[-1])
        assert shop.said("/recommend", history=HISTORY) == (503, "there is no model at present; the log says why")


def test_a_lost_process_is_started_again_and_asked_once_more(
    model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(model_folder) as shop:
        before = shop.post("/recommend", history=HISTORY).json()
        lose(shop.desks[-1])
        answer = shop.client.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (503, "the model is started again")
        until(lambda: shop.client.get("/healthz").status_code == 200)
        lose(shop.desks[-1])
        assert shop.post("/recommend", history=HISTORY).json() == before
        assert len(shop.desks) == 3
        lines = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert lines == ["the process of the model is gone; it is started again"] * 2


def lose(desk: Desk) -> None:
    """As if the process had been killed."""

    def ask(jobs: Any) -> Any:
        raise EOFError

    desk.alive, desk.ask = False, ask  # type: ignore[method-assign]


def test_what_ends_each_process_is_answered_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    started: list[Desk] = []

    def start() -> Desk:
        if len(started) == 3:
            raise UserError("the folder is gone")
        started.append(Desk(None))  # type: ignore[arg-type]
        lose(started[-1])
        return started[-1]

    kept = Kept(start, "model")
    assert not kept.alive
    assert kept.ask([("about", None)] * 2) == [(500, FAILED.encode())] * 2
    assert kept.ask([("about", None)]) == [(503, b"there is no model at present; the log says why")]
    assert caplog.records[-1].message == "there is no model: the folder is gone"
    kept.close()


def test_what_has_come_is_answered_before_the_end(model_folder: Path) -> None:
    answers: list[int] = []
    with served(model_folder, Limits()) as shop:

        def ask() -> None:
            answers.append(shop.post("/recommend", history=HISTORY).status_code)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        with Held(shop):
            for thread in threads:
                thread.start()
            until(lambda: shop.service.model.waiting == 7)
            shop.server.should_exit = True
            until(lambda: not any(one.is_serving() for one in shop.server.servers))
            assert not answers
        for thread in threads:
            thread.join()
    assert answers == [200] * 6


def test_what_is_added_to_the_folder_meanwhile_changes_no_answer(link: Path) -> None:
    """Another folder takes its place, and goes; all that is asked for was read before."""
    asked: dict[str, dict[str, Any]] = {
        "/recommend": {"history": HISTORY, "k": 5},
        "/similar": {"item": "k01", "k": 5},
        "/explain": {"history": HISTORY, "item": "k03"},
    }
    with served(link) as shop:
        before = {path: shop.post(path, **body).json() for path, body in asked.items()}
        picture = shop.client.get("/picture", params={"item": "k01"}).content
        Recommender.load(link).add_items([like(3)])
        assert {path: shop.post(path, **body).json() for path, body in asked.items()} == before
        assert shop.client.get("/picture", params={"item": "k01"}).content == picture
        assert shop.post("/recommend", history=["n3"]).json()["unknown"] == ["n3"]
        shop.on_loop(shop.service.change)
        until(lambda: shop.post("/recommend", history=["n3"]).json()["unknown"] == [])
