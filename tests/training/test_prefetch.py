"""Batches on their way to the device: the loader's own on a CPU, the same ones in the same order on a GPU."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_mmm4rec.training import prefetch
from recbole_mmm4rec.training.prefetch import prefetched


def test_nothing_happens_on_a_cpu() -> None:
    batches = [Interaction({"item_id": torch.arange(size)}) for size in (4, 4, 1)]
    given = iter(batches)
    coming = prefetched(given, torch.device("cpu"))
    assert next(coming) is batches[0]
    assert next(given) is batches[1]  # none was fetched ahead
    assert list(coming) == batches[2:]


class Sent(SimpleNamespace):
    """A batch on a device that is not there."""


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_next_batch_is_under_way_while_one_computes(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the GPU: each batch is waited for, kept for the computing stream, and comes once."""
    events: list[Any] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "copying")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    computing = SimpleNamespace(wait_stream=lambda stream: events.append(f"wait for {stream}"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)

    def copied(batch: int, device: torch.device, stream: Any) -> Sent:
        column = SimpleNamespace(record_stream=lambda stream: events.append((batch, stream is computing)))
        return Sent(number=batch, interaction={"item_id": column})

    monkeypatch.setattr(prefetch, "_copied", copied)
    asked: list[int] = []

    def loader() -> Any:
        for number in range(count):
            asked.append(number)
            yield number

    seen = []
    for batch in prefetched(loader(), torch.device("cuda")):
        seen.append(batch.number)
    assert seen == asked == list(range(count))
    assert events == [event for number in range(count) for event in ("wait for copying", (number, True))]


def test_a_loader_s_error_reaches_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "copying")

    def loader() -> Any:
        raise RuntimeError("broken loader")
        yield

    with pytest.raises(RuntimeError, match="broken loader"):
        list(prefetched(loader(), torch.device("cuda")))


def test_a_batch_is_copied_on_the_copying_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """From pinned memory and without waiting: elsewhere it would queue behind the computation."""
    events: list[Any] = []

    @contextlib.contextmanager
    def stream(chosen: Any) -> Any:
        events.append(("on", chosen))
        yield
        events.append(("off", chosen))

    class Column(torch.Tensor):
        def pin_memory(self) -> Any:  # type: ignore[override]
            events.append("pinned")
            return self

        def to(self, device: Any, non_blocking: bool = False) -> Any:  # type: ignore[override]
            events.append((device, non_blocking))
            return self

    monkeypatch.setattr(torch.cuda, "stream", stream)
    batch = SimpleNamespace(interaction={"item_id": torch.arange(3).as_subclass(Column)})
    copied = prefetch._copied(batch, "the GPU", "copying")  # type: ignore[arg-type]
    assert events == [("on", "copying"), "pinned", ("the GPU", True), ("off", "copying")]
    assert copied["item_id"].tolist() == [0, 1, 2]
