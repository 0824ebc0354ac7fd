"""Encoding many texts or pictures, a batch at a time; pictures are decoded ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from recbole_mmm4rec.encoders.pictures import BadPictureError, UnreadPictureError
from recbole_mmm4rec.encoders.spec import Encoder, Source

DECODERS = 4  # threads that read and decode pictures while a batch is computed


@dataclass(frozen=True)
class Encoded:
    """A shard's vectors.

    Attributes:
        good: (n,) positions in the shard of the inputs with a vector, ascending.
        vectors: (n, dim) float32.
        failed: reasons by the positions of the others.
        unread: those of them that say nothing of the input, which may give a vector another time.
    """

    good: list[int]
    vectors: np.ndarray
    failed: dict[int, str]
    unread: frozenset[int] = frozenset()


def encode_shard(
    encoder: Encoder, sources: Sequence[Source], batch_size: int, done: Callable[[int], object]
) -> Encoded:
    """Encodes a shard in its order; a picture that cannot be used takes no place in a batch.

    Args:
        encoder: of texts or of pictures.
        sources: texts, or pictures as files or bytes.
        batch_size: inputs at a time.
        done: called with the number of inputs after each batch.
    """
    failed: dict[int, str] = {}
    unread: set[int] = set()
    good: list[int] = []
    blocks: list[np.ndarray] = []
    batch: list[Any] = []
    for position, prepared in enumerate(_prepared(encoder, sources, 2 * batch_size)):
        if isinstance(prepared, BadPictureError):
            failed[position] = str(prepared)
            unread |= {position} if isinstance(prepared, UnreadPictureError) else set()
            done(1)
            continue
        good.append(position)
        batch.append(prepared)
        if len(batch) == batch_size:
            blocks.append(encoder.encode(batch))
            done(len(batch))
            batch = []
    if batch:
        blocks.append(encoder.encode(batch))
        done(len(batch))
    vectors = np.concatenate(blocks) if blocks else np.zeros((0, encoder.dim), dtype=np.float32)
    return Encoded(good, vectors, failed, frozenset(unread))


def _prepared(encoder: Encoder, sources: Sequence[Source], ahead: int) -> Iterator[Any]:
    """Prepared inputs, or the error of each that has one; pictures are decoded ahead in threads."""
    if all(isinstance(source, str) for source in sources):
        yield from (encoder.prepare(source) for source in sources)
        return

    def prepare(source: Source) -> Any:
        try:
            return encoder.prepare(source)
        except BadPictureError as error:
            return error

    rest = iter(sources)
    with ThreadPoolExecutor(DECODERS) as pool:
        waiting: deque[Future[Any]] = deque(pool.submit(prepare, source) for source in islice(rest, ahead))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(prepare, source) for source in islice(rest, 1))
