"""A service on loopback within the test's own process, and what is asked of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from recbole_mmm4rec.recommend.encoders import Encoders
from recbole_mmm4rec.serve.app import Service
from recbole_mmm4rec.serve.current import Current, Kept
from recbole_mmm4rec.serve.desk import DOES, Desk
from recbole_mmm4rec.serve.encoding import EncodingDesk
from recbole_mmm4rec.serve.limits import Limits
from recbole_mmm4rec.serve.shop import Shop

NAMES = ("127.0.0.1", "localhost")


class Served:
    """A running service.

    Attributes:
        service: its inside.
        url: without a slash at the end.
        client: asks it.
        desks: who answers, the newest last.
    """

    def __init__(self, service: Service, server: uvicorn.Server, url: str, desks: list[Desk]) -> None:
        self.service, self.server, self.url, self.desks = service, server, url, desks
        self.client = httpx.Client(base_url=url, timeout=60)

    def post(self, path: str, /, **asked: Any) -> httpx.Response:
        """A question as JSON."""
        return self.client.post(path, json=asked)

    def said(self, path: str, /, **asked: Any) -> tuple[int, str]:
        """Status and line of a mistake."""
        answer = self.post(path, **asked)
        return answer.status_code, answer.json()["error"]

    def on_loop(self, do: Any) -> None:
        """Do something on the service's event loop."""
        self.service.loop.call_soon_threadsafe(do)  # type: ignore[attr-defined]


@contextmanager
def served(
    folder: Path, limits: Limits | None = None, names: Any = NAMES, allow_adding: bool = False, load: Any = None
) -> Iterator[Served]:
    """A service for a model folder, whose model is in this process, too."""
    from recbole_mmm4rec.recommend.recommender import Recommender

    desks: list[Desk] = []

    def start(folder: Path) -> Desk:
        desks.append(Desk(Shop(Recommender.load(folder))))
        return desks[-1]

    encoding = EncodingDesk(load or Encoders)
    current, encoders = Current(folder, start), Kept(lambda: encoding, "encoders")
    service = Service(current, encoders, limits or Limits(), names, allow_adding)
    config = uvicorn.Config(service.app, port=0, log_config=None, access_log=False, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    running = Served(service, server, f"http://127.0.0.1:{port}", desks)
    service.loop = server.servers[0].get_loop()  # type: ignore[attr-defined]
    try:
        yield running
    finally:
        running.client.close()
        server.should_exit = True
        thread.join()
        service.close()


class Held:
    """Within it the model is busy."""

    def __init__(self, served: Served) -> None:
        self._served, self._go = served, threading.Event()

    def __enter__(self) -> None:
        began = threading.Event()

        def wait(shop: Shop, asked: Any) -> bytes:
            began.set()
            assert self._go.wait(60)
            return b""

        DOES["wait"] = wait  # type: ignore[index]
        self._served.on_loop(lambda: asyncio.ensure_future(self._served.service.model.ask(("wait", None))))
        assert began.wait(60)

    def __exit__(self, *_: Any) -> None:
        self._go.set()
        del DOES["wait"]  # type: ignore[attr-defined]


@contextmanager
def command_running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, which has a process group of its own, as in a terminal."""
    command = [sys.executable, "-m", "recbole_mmm4rec.commands", "serve", str(folder), "--port", "0"]
    how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **how) as process:
        try:
            yield process
        finally:
            process.kill()


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a command has started."""
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(number) for one in lists for number in one.read_text().split()]


def until(there: Any) -> None:
    """Wait for something that comes soon."""
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.005)
