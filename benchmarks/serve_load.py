"""Load on a service on loopback: latencies at 1, 8 and 64 clients, beside a plain loop of single predictions.

    python benchmarks/serve_load.py                       5,000 and 100,000 made items, default network, random weights
    python benchmarks/serve_load.py --items 5000 --clients 1,64 --seconds 5
    python benchmarks/serve_load.py --folder saved/MMM4Rec-shop

Bounded in count and time: each line is at most ``--requests`` requests or ``--seconds`` seconds, whichever comes first.
A client sends the next request when it has the answer to the one before, on one connection; all clients live in one
process beside the service's. Histories have 2 to 20 items, 8 on average, with time stamps; k is 10. Service, clients
and loop share the cores that this process may use (``taskset -c 0,1`` for two). Other options go to the service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine

ROOT = Path(__file__).resolve().parents[1]
HOME = machine.STATE / "serve"
START = 1_600_000_000
WARM = 0.1
"""Share of a line's requests that are not counted."""


@dataclass(frozen=True)
class Line:
    """What one number of clients found; milliseconds.

    Attributes:
        clients: at a time.
        requests: counted.
        rate: answers a second.
        p50, p99, most: latency.
        batch: requests that were answered together, on average.
        server: processor time of the service for a request.
    """

    clients: int
    requests: int
    rate: float
    p50: float
    p99: float
    most: float
    batch: float
    server: float


def make_shop(folder: Path, items: int) -> None:
    """A model folder of the default network with random weights: its speed is that of a trained one."""
    import pyarrow as pa
    import torch

    from recbole_mmm4rec.model_folder.contents import Contents
    from recbole_mmm4rec.model_folder.write import write_folder
    from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
    from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable

    torch.manual_seed(0)
    features = torch.randn(items + 1, 384)
    present = torch.ones(items + 1, dtype=torch.bool)
    network = MMM4RecNetwork(NetworkConfig(), {"text": FrozenTable(features, finite=True)}, {"text": present}).eval()
    with torch.no_grad():
        side = network.items.side()
    table = pa.table(
        {
            "item_id": [f"B{number:08d}" for number in range(items)],
            "text": [f"Thing {number}, made for measuring. Its text is as long as a title." for number in range(items)],
            "popularity": pa.array(np.random.default_rng(0).zipf(1.5, items), pa.int64()),
            "has_text": pa.array([True] * items),
            "has_image": pa.array([False] * items),
        }
    )
    write_folder(folder, Contents("MMM4Rec", f"made-{items}", network, side, table))


def questions(folder: Path, count: int) -> list[dict[str, Any]]:
    """Histories that somebody might ask for."""
    import pyarrow.parquet as pq

    ids = pq.read_table(folder / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    random = np.random.default_rng(1)
    made = []
    for _ in range(count):
        size = min(20, 2 + int(random.exponential(6)))
        history = [ids[number] for number in random.integers(len(ids), size=size)]
        stamps = (START + np.cumsum(random.integers(60, 86_400, size))).tolist()
        made.append({"history": history, "timestamps": stamps, "k": 10})
    return made


class Client(asyncio.Protocol):
    """One connection: the next request when the answer to the one before is there.

    Args:
        bodies: requests, shared with the other clients.
        taken: latencies in seconds, shared, too.
        done: set when no request is left.
    """

    def __init__(self, bodies: list[bytes], taken: list[float], done: asyncio.Future[None]) -> None:
        self._bodies, self._taken, self._done, self._held = bodies, taken, done, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._bodies:
            self._begin = time.perf_counter()
            self._transport.write(self._bodies.pop())
        else:
            self._transport.close()
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, gap, body = self._held.partition(b"\r\n\r\n")
        if not gap or len(body) < int(re.search(rb"content-length: (\d+)", head)[1]):  # type: ignore[index]
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"error: {body.decode()}")
        self._taken.append(time.perf_counter() - self._begin)
        self._held = b""
        self._next()


async def load(port: int, bodies: list[bytes], clients: int, seconds: float) -> tuple[list[float], float]:
    """Latencies in seconds, in the order of the answers, and how long it took."""
    loop, taken, ends = asyncio.get_running_loop(), [], []  # type: ignore[var-annotated]
    begin = time.perf_counter()
    for _ in range(clients):
        done = loop.create_future()
        ends.append(done)
        await loop.create_connection(lambda done=done: Client(bodies, taken, done), "127.0.0.1", port)  # type: ignore[misc]
    loop.call_later(seconds, bodies.clear)
    await asyncio.gather(*ends)
    return taken, time.perf_counter() - begin


def as_http(asked: dict[str, Any]) -> bytes:
    """A request as it goes over the wire."""
    body = json.dumps(asked).encode()
    kind = f"content-type: application/json\r\ncontent-length: {len(body)}"
    head = f"POST /recommend HTTP/1.1\r\nhost: 127.0.0.1\r\n{kind}"
    return head.encode() + b"\r\n\r\n" + body


def start(folder: Path, options: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """A service in a process of its own, and its port."""
    command = [sys.executable, "-m", "recbole_mmm4rec.commands", "serve", str(folder), "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert running.stdout is not None
    found = re.search(rb"127\.0\.0\.1:(\d+)", running.stdout.readline())
    if not found:
        raise SystemExit("error: the service did not start")
    return running, int(found[1])


def used(process: int) -> float:
    """Processor seconds of a process and of those that it has started."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(used(int(child)) for child in children)


def batches(port: int) -> tuple[float, float]:
    """Batches so far, and requests in them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    count, total = (re.search(rf"^mmm4rec_batch_{name} (\S+)", text, re.MULTILINE) for name in ("count", "sum"))
    assert count
    assert total
    return float(count[1]), float(total[1])


def measure(folder: Path, clients: list[int], requests: int, seconds: float, options: list[str]) -> list[Line]:
    """One line a number of clients."""
    running, port = start(folder, options)
    found = []
    try:
        bodies = [as_http(asked) for asked in questions(folder, requests)]
        asyncio.run(load(port, bodies[:200], 8, seconds))
        for count in clients:
            before, cost = batches(port), used(running.pid)
            taken, wall = asyncio.run(load(port, [*bodies], count, seconds))
            after, cost = batches(port), used(running.pid) - cost
            kept = sorted(1000 * one for one in taken[int(WARM * len(taken)) :])
            found.append(
                Line(
                    count,
                    len(kept),
                    len(taken) / wall,
                    statistics.median(kept),
                    kept[int(0.99 * len(kept))],
                    kept[-1],
                    (after[1] - before[1]) / (after[0] - before[0]),
                    1000 * cost / len(taken),
                )
            )
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)
    return found


def plain_loop(folder: Path, requests: int, seconds: float) -> tuple[float, float, float]:
    """Median and 99th percentile of single predictions one after the other, in ms, and how many a second."""
    import torch

    from recbole_mmm4rec.recommend.recommender import Recommender

    torch.set_num_threads(1)
    model = Recommender.load(folder)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    for asked in questions(folder, requests):
        begin = time.perf_counter()
        model.recommend(asked["history"], asked["k"], timestamps=asked["timestamps"])
        taken.append(1000 * (time.perf_counter() - begin))
        if time.perf_counter() > end:
            break
    taken = sorted(taken[int(WARM * len(taken)) :])
    return statistics.median(taken), taken[int(0.99 * len(taken))], 1000 * len(taken) / sum(taken)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", default="5000,100000", help="sizes of made shops (default: 5000,100000)")
    parser.add_argument("--folder", type=Path, help="a model folder instead")
    parser.add_argument("--clients", default="1,8,64", help="(default: 1,8,64)")
    parser.add_argument("--requests", type=int, default=4_000, help="most requests of a line (default: 4000)")
    parser.add_argument("--seconds", type=float, default=15.0, help="most seconds of a line (default: 15)")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    given, options = parser.parse_known_args()
    if given.loop:  # in a process of its own: what the plain loop holds is not there beside the service
        print(json.dumps(plain_loop(given.folder, given.requests, given.seconds)))
        return 0
    folders = [given.folder] if given.folder else []
    for size in [] if given.folder else map(int, given.items.split(",")):
        folders.append(HOME / f"made-{size}")
        if not folders[-1].exists():
            make_shop(folders[-1], size)
    stamp, clients = machine.stamp("cpu"), [int(one) for one in given.clients.split(",")]
    print(f"{stamp['hardware']}; {stamp['software']}; {stamp['date']}, load {os.getloadavg()[0]:.1f}\n")
    print("| shop | clients | p50, ms | p99, ms | most, ms | answers a second | batch | processor ms a request |")
    print("|---|---|---|---|---|---|---|---|")
    for folder in folders:
        command = [sys.executable, __file__, "--loop", "--folder", str(folder)]
        command += ["--requests", str(min(given.requests, 1_000)), "--seconds", str(given.seconds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        p50, p99, rate = json.loads(done.stdout)
        print(f"| {folder.name} | plain loop | {p50:.1f} | {p99:.1f} | | {rate:.0f} | 1 | |", flush=True)
        for line in measure(folder, clients, given.requests, given.seconds, options):
            latency = f"{line.p50:.1f} | {line.p99:.1f} | {line.most:.1f}"
            rest = f"{line.rate:.0f} | {line.batch:.1f} | {line.server:.2f}"
            print(f"| {folder.name} | {line.clients} | {latency} | {rest} |", flush=True)
    return 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    sys.exit(main())
