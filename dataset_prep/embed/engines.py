"""Encoding shards: in this process, or on the actors of a Ray cluster; in order, and with the same bytes."""

from __future__ import annotations

import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.installed import way_to_ray
from recbole_mmm4rec.encoders.batches import Encoded, encode_shard
from recbole_mmm4rec.encoders.spec import Encoder, EncoderSpec, Load, Source

KNOCK_SECONDS = 5.0


def encode_locally(
    encoder: Encoder, shards: Iterable[Sequence[Source]], batch_size: int, done: Callable[[int], object]
) -> Iterator[Encoded]:
    """Encodes shards one after the other in this process."""
    return (encode_shard(encoder, shard, batch_size, done) for shard in shards)


class Worker:
    """What runs in a Ray actor: an encoder of its own."""

    def __init__(self, spec: EncoderSpec, load: Load):
        self._encoder = load(spec)

    def hash(self) -> str:
        """sha256 over the weights that this worker found."""
        return self._encoder.hash

    def encode(self, sources: Sequence[Source], batch_size: int) -> Encoded:
        """A shard, as in :func:`encode_shard`."""
        return encode_shard(self._encoder, sources, batch_size, lambda _: None)


@dataclass(frozen=True)
class RayCluster:
    """Where and how widely to encode.

    Attributes:
        address: of a running cluster, "auto" for the one on this machine.
        workers: actors; None for one a GPU, or one a CPU where there is no GPU.
    """

    address: str = "auto"
    workers: int | None = None


def encode_on_ray(
    cluster: RayCluster,
    spec: EncoderSpec,
    load: Load,
    encoder: Encoder,
    shards: Iterable[Sequence[Source]],
    batch_size: int,
    done: Callable[[int], object],
) -> Iterator[Encoded]:
    """Encodes shards on actors; results come in the order of the shards, two for each actor under way.

    Args:
        cluster: where.
        spec, load: make the encoder on each actor.
        encoder: this process's own; the actors' weights must be the same.
        shards: texts, or pictures as files of this machine, whose bytes are sent.
        batch_size: inputs at a time.
        done: called with the number of inputs after each shard.

    Raises:
        UserError: no ray, no cluster, or an actor that cannot load the encoder or has other weights.
    """
    ray = _connect(cluster.address)
    try:
        workers = _start(ray, cluster.workers, spec, load, encoder.hash)
        rest = iter(shards)
        under_way: deque[tuple[int, Any]] = deque()
        number = 0
        while True:
            for shard in islice(rest, 2 * len(workers) - len(under_way)):
                sent = [source.read_bytes() if isinstance(source, Path) else source for source in shard]
                under_way.append((len(shard), workers[number % len(workers)].encode.remote(sent, batch_size)))
                number += 1
            if not under_way:
                return
            size, result = under_way.popleft()
            yield ray.get(result)
            done(size)
    except ray.exceptions.RayError as error:
        raise UserError(f"--engine ray: a worker failed ({_last_line(error)})") from None
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:  # absent, or without the pkg_resources it needs
        raise UserError(f"--engine ray: ray cannot be imported ({error}): {way_to_ray(error)}") from None
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminated)  # Ray's own handler would end this process with another status
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"--ray-address {address}: no Ray cluster there ({_last_line(error)}); start one with 'ray start --head'"
        ) from None
    return ray


def _knock(address: str) -> None:
    """Fails within seconds where nobody listens; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _start(ray: Any, count: int | None, spec: EncoderSpec, load: Load, expected: str) -> list[Any]:
    resources = ray.cluster_resources()
    gpus = 0 if spec.device == "cpu" else int(resources.get("GPU", 0))
    count = count or gpus or int(resources.get("CPU", 1))
    actor = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(Worker)
    workers = [actor.remote(spec, load) for _ in range(count)]
    for found in ray.get([worker.hash.remote() for worker in workers]):
        if found != expected:
            raise UserError(f"--engine ray: a worker has other weights of {spec.name}; install the same everywhere")
    return workers


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
