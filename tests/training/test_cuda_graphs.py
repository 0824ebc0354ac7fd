"""Recorded training steps without a GPU: everything but the recording itself, for which the computation stands in."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pattern_shop import prepared
from torch import Tensor, nn

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.ops.scans import SCANS
from recbole_mmm4rec.run.build import Run
from recbole_mmm4rec.training import cuda_graphs
from recbole_mmm4rec.training.cuda_graphs import BUCKET, MOST_GRAPHS, WARM_UP, CudaRecorder, GraphedLoss, use_graphs
from recbole_mmm4rec.training.loss_sum import LossSum


class Recorder:
    """Warms up once, then "replays" by computing again; counts the recordings."""

    def __init__(self) -> None:
        self.recordings = 0

    def __call__(self, compute: Callable[[], None]) -> Callable[[], None]:
        self.recordings += 1
        compute()
        return compute


def small(record: Any = None) -> tuple[GraphedLoss, nn.Parameter, list[int]]:
    """A loss Σ w·x of one weight beside an unused one, and the tokens that it was computed with."""
    weight, unused, padded = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.ones(3)), []

    def loss(batch: dict[str, Tensor], tokens: int) -> Tensor:
        padded.append(tokens)
        return (batch["x"] @ weight).mean()

    return GraphedLoss(loss, [weight, unused], record=record or Recorder()), weight, padded


def batch_of(*rows: list[float]) -> dict[str, Tensor]:
    return {"x": torch.tensor(rows, dtype=torch.float32)}


def test_one_recording_for_each_number_of_tokens() -> None:
    graphed, _, padded = small(recorder := Recorder())
    for tokens in (1, BUCKET, BUCKET + 1, 200, 2 * BUCKET):
        assert graphed(batch_of([1, 2], [3, 4]), tokens) is not None
    assert recorder.recordings == len(graphed.replays) == 2
    assert sorted(set(padded)) == [BUCKET, 2 * BUCKET]


def test_losses_and_gradients_are_those_of_the_batch() -> None:
    graphed, weight, _ = small()
    losses, buffers = [], set()
    for rows in ([[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [2.0, 0.0]]):
        loss = graphed(batch_of(*rows), 5)
        assert loss is not None
        losses.append(loss)
        expected = torch.tensor(rows).mean(0)
        assert torch.equal(weight.grad, expected)  # set, not added to the last one's
        buffers.add(weight.grad.data_ptr())
        assert graphed.parameters[1].grad is None  # the optimiser leaves out what the loss does not depend on
    assert [loss.item() for loss in losses] == [8.0, 2.0]  # the first one has not been overwritten
    assert len(buffers) == 1


def test_inputs_stay_where_they_are() -> None:
    graphed, _, _ = small()
    graphed(batch_of([1, 2]), 5)
    place = graphed.inputs["x"].data_ptr()
    graphed(given := batch_of([5, 6]), 5)
    assert graphed.inputs["x"].data_ptr() == place != given["x"].data_ptr()
    assert graphed.inputs["x"].tolist() == [[5.0, 6.0]]


def test_a_batch_of_another_size_runs_without() -> None:
    graphed, weight, _ = small()
    assert graphed(batch_of([1, 2], [3, 4]), 5) is not None
    weight.grad = None
    assert graphed(batch_of([1, 2]), 5) is None
    assert weight.grad is None
    assert graphed(batch_of([1, 2], [3, 4]), 5) is not None


def test_there_is_an_end_of_recordings() -> None:
    graphed, _, _ = small(recorder := Recorder())
    for index in range(MOST_GRAPHS):
        graphed(batch_of([1, 2]), (index + 2) * BUCKET)
    assert graphed._bucket(1, BUCKET) == 2 * BUCKET  # the smallest that holds it
    assert graphed(batch_of([1, 2]), BUCKET) is not None
    assert graphed(batch_of([1, 2]), (MOST_GRAPHS + 2) * BUCKET) is None
    assert recorder.recordings == MOST_GRAPHS


def test_a_failed_recording_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    attempts = []

    def fail(compute: Callable[[], None]) -> Callable[[], None]:
        attempts.append(1)
        raise RuntimeError("called a synchronizing CUDA operation\nmore")

    graphed, weight, _ = small(fail)
    for _ in range(3):
        assert graphed(batch_of([1, 2]), 5) is None
    assert weight.grad is None
    assert len(attempts) == 1
    (record,) = (record for record in caplog.records if record.name == cuda_graphs.__name__)
    assert record.levelno == logging.WARNING
    assert record.message.endswith("a recording failed: called a synchronizing CUDA operation")


GOOD = {
    **{
        "cuda_graphs": "auto",
        "accumulation_steps": 1,
        "loss_type": "CE",
        "single_spec": True,
        "train_unit": "prefix",
        "nan_policy": "stop",
    },
}


def asked(
    device: str = "cuda", backend: str = "mamba_ssm", row_wise: bool = False, features: str = "cuda", **changes: Any
) -> bool:
    table = SimpleNamespace(values=SimpleNamespace(device=torch.device(features)))
    network = SimpleNamespace(
        config=SimpleNamespace(ssd_backend=backend, max_len=20), items=SimpleNamespace(features={"text": table})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_graphs, "choose_scan", lambda requested, *_: SCANS[requested])
        return use_graphs({**GOOD, **changes}, network, torch.device(device), row_wise)  # type: ignore[arg-type]


def test_auto_where_it_can(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=cuda_graphs.__name__)
    assert asked() is asked(cuda_graphs=True) is asked(cuda_graphs=None) is True
    assert "training steps of full batches are recorded" in caplog.text
    assert asked(cuda_graphs=False) is False


@pytest.mark.parametrize("wanted", ["auto", True, False])
def test_ignored_on_a_processor(wanted: object, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=cuda_graphs.__name__)
    assert asked(device="cpu", cuda_graphs=wanted) is False
    assert asked(device="cpu", cuda_graphs=wanted, accumulation_steps=8) is False
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"accumulation_steps": 8}, "accumulation_steps is 8"),
        ({"loss_type": "sampled"}, "loss_type"),
        ({"row_wise": True}, "row_wise_ids"),
        ({"single_spec": False}, "nproc"),
        ({"train_unit": "user"}, "train_unit: user"),
        ({"nan_policy": "skip"}, "nan_policy: skip"),
        ({"backend": "torch"}, "ssd_backend"),
        ({"features": "cpu"}, "features do not fit"),
    ],
)
def test_what_is_in_the_way(changes: dict[str, Any], word: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=cuda_graphs.__name__)
    assert asked(**changes) is False
    (message,) = caplog.messages
    assert message.startswith("CUDA graphs: off, because")
    assert word in message
    with pytest.raises(UserError, match="cuda_graphs: True cannot work") as caught:
        asked(cuda_graphs=True, **changes)
    assert word in str(caught.value)


def test_losses_are_read_together() -> None:
    losses = LossSum(3)
    losses.add([torch.tensor(1.0), torch.tensor(2.0)])
    assert (losses.total, losses.seen, str(losses)) == (0.0, 0, "")
    losses.add([torch.tensor(4.5)])
    assert (losses.total, losses.seen, str(losses)) == (7.5, 3, "loss 2.5000")
    losses.add([torch.tensor(0.5)])
    losses.read()
    losses.read()
    assert (losses.total, losses.seen) == (8.0, 4)
    losses.add([torch.tensor(float("nan"))])
    with pytest.raises(UserError, match=r"loss of one of the last 1 batches is not a number"):
        losses.read()


def in_double(folder: Path, **changes: Any) -> Run:
    run = prepared(folder, shuffle=False, ssd_backend="recurrence", **changes)
    run.model.double()
    return run


@pytest.mark.usefixtures("own_folder")
@pytest.mark.parametrize(
    "changes", [{}, {"clip_grad_norm": {"max_norm": 0.01}, "loss_chunk": 7}], ids=["plain", "clipped, in chunks"]
)
def test_an_epoch_of_recorded_steps_equals_an_ordinary_one(changes: dict[str, Any], tmp_path: Path) -> None:
    """Batches of 48 and a last one that is smaller, which runs without."""
    plain, recorded = (in_double(tmp_path, train_batch_size=48, **changes) for _ in range(2))
    assert plain.train.sample_size % 48
    trainer, recorder, sizes = recorded.trainer, Recorder(), []
    trainer.graphed = GraphedLoss(trainer._recorded_loss, recorded.model.parameters(), trainer.scaler.scale, recorder)
    gradients = trainer._gradients
    trainer._gradients = lambda group, loss: sizes.append(len(group[0])) or gradients(group, loss)
    for epoch in range(2):
        wanted, found = (run.trainer._train_epoch(run.train, epoch) for run in (plain, recorded))
        assert found == pytest.approx(wanted, rel=1e-9)
    assert sizes == [plain.train.sample_size % 48] * 2
    assert recorder.recordings == 1
    for (name, weight), twin in zip(plain.model.named_parameters(), recorded.model.parameters(), strict=True):
        torch.testing.assert_close(twin, weight, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.usefixtures("own_folder")
def test_a_run_on_a_processor_has_none(tmp_path: Path) -> None:
    run = in_double(tmp_path, cuda_graphs=True)
    run.trainer._train_epoch(run.train, 0)
    assert run.trainer.graphed is None


class StandIn:
    """Notes what is asked of CUDA, in order; ``graph`` takes the arguments of PyTorch's own."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.modes = ["default"]
        main, side = (self.stream(name) for name in ("main", "side"))
        signature = inspect.signature(torch.cuda.graph.__init__)

        @contextlib.contextmanager
        def noted(name: str) -> Any:
            self.events.append(f"{name} begins")
            yield
            self.events.append(f"{name} ends")

        def graph(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(None, *args, **kwargs).arguments
            assert (given["pool"], given["stream"], given["capture_error_mode"]) == ("pool", side, "thread_local")
            return noted("recording")

        cuda, generator = torch.cuda, SimpleNamespace(clone_state=lambda: "copy")
        generator.graphsafe_set_state = lambda state: self.events.append(f"generator takes {state}")
        patch.setattr(cuda, "current_stream", lambda: main)
        patch.setattr(cuda, "Stream", lambda: side)
        patch.setattr(cuda, "stream", lambda stream: noted(stream.name))
        patch.setattr(cuda, "set_stream", lambda stream: self.events.append(f"back to {stream.name}"))
        patch.setattr(cuda, "graph_pool_handle", lambda: "pool")
        patch.setattr(cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: self.events.append("replay")))
        patch.setattr(cuda, "graph", graph)
        patch.setattr(cuda, "get_sync_debug_mode", lambda: self.modes[-1])
        patch.setattr(cuda, "set_sync_debug_mode", self.modes.append)
        patch.setattr(cuda, "current_device", lambda: 0)
        patch.setattr(cuda, "default_generators", (generator,))
        patch.setattr(torch._C, "_cuda_endAllocateToPool", lambda device, pool: self.events.append(f"{pool} ends"))

    def stream(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, wait_stream=lambda other: self.events.append(f"{name} waits for {other.name}")
        )


def test_warm_up_then_a_run_without_waits_then_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = StandIn(monkeypatch)
    replay = CudaRecorder()(lambda: cuda.events.append(f"compute, waits: {cuda.modes[-1]}"))
    usual = "compute, waits: default"
    assert cuda.events == [
        "side waits for main",
        "side begins",
        *[usual] * WARM_UP,
        "compute, waits: error",
        "side ends",
        "main waits for side",
        "recording begins",
        usual,
        "recording ends",
    ]
    replay()
    assert cuda.events[-1] == "replay"


@pytest.mark.parametrize("at", [0, WARM_UP, WARM_UP + 1], ids=["warm-up", "waits", "recording"])
def test_a_broken_recording_leaves_nothing_behind(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, runs = StandIn(monkeypatch), []

    def compute() -> None:
        runs.append(1)
        if len(runs) == at + 1:
            raise RuntimeError("waits")

    with pytest.raises(RuntimeError, match="waits"):
        CudaRecorder()(compute)
    assert cuda.events[-3:] == ["back to main", "pool ends", "generator takes copy"]
    assert cuda.modes[-1] == "default"
