"""Training steps recorded as CUDA graphs: loss and gradients of a batch with one launch.

A step of a small network is some hundred kernels of a few microseconds each, which a processor launches more slowly
than a GPU runs them. A graph launches them at once, but repeats exactly what it recorded: the same shapes, in the same
memory. So every batch is copied into the same tensors, its tokens are padded to a multiple of :data:`BUCKET`
(:mod:`~.ops.constant_shapes`), one graph is recorded for each such number, and the gradients end in the same
tensors. Dropout draws anew in every replay, because graphs advance PyTorch's generator.

Sources: "CUDA semantics, CUDA Graphs" in PyTorch's documentation; Nguyen et al., "Accelerating PyTorch with CUDA
Graphs" (PyTorch's blog, 2021). Not yet run on a GPU; without one, nothing here is used.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.ops.choice import choose_scan

logger = logging.getLogger(__name__)

BUCKET = 256
"""Tokens of a recorded step are a multiple of this."""
MOST_GRAPHS = 16
"""Graphs that are recorded; a batch that fits none of them well takes a larger one, or runs without."""
WARM_UP = 3
"""Runs before a recording: libraries choose their algorithms, and Triton compiles."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Runs a computation at least once, and gives a function that repeats it."""


def use_graphs(config: Any, network: MMM4RecNetwork, device: torch.device, row_wise: bool) -> bool:
    """Whether training steps are recorded, from ``cuda_graphs``; on a GPU it is said in the log.

    Args:
        config: RecBole's configuration, for ``cuda_graphs``, ``accumulation_steps``, ``loss_type``, ``train_unit`` and
            ``single_spec``.
        network: on its device.
        device: of the training; on any but a GPU the answer is no.
        row_wise: whether ID tables get sparse gradients.

    Raises:
        UserError: True on a GPU where a step cannot be recorded.
    """
    wanted = config["cuda_graphs"]
    if device.type != "cuda" or wanted is False:
        return False
    why = _obstacle(config, network, device, row_wise)
    if why and wanted is True:
        raise UserError(f"cuda_graphs: True cannot work: {why}; change that, or set cuda_graphs: auto")
    logger.info("CUDA graphs: %s", f"off, because {why}" if why else "training steps of full batches are recorded")
    return not why


def _obstacle(config: Any, network: MMM4RecNetwork, device: torch.device, row_wise: bool) -> str:
    """What keeps a step from being recorded, or nothing."""
    settings = network.config
    scan = choose_scan(settings.ssd_backend, device.type).name
    if config["single_spec"] is False:
        return "several processes train together (nproc)"
    if config["accumulation_steps"] not in (None, 1):
        return f"accumulation_steps is {config['accumulation_steps']}, not 1"
    if config["loss_type"] != "CE" or row_wise:
        return (
            f"the shapes of a step depend on the batch under loss_type: {config['loss_type']}, row_wise_ids: {row_wise}"
        )
    if config["nan_policy"] == "skip":
        return "nan_policy: skip looks at each loss before its step"
    if config["train_unit"] == "user":
        return "train_unit: user makes batches of different sizes"
    if scan != "mamba_ssm":
        return f"the scan runs by {scan}, whose shapes depend on the batch, and not by mamba_ssm (ssd_backend)"
    if any(table.values.device.type != device.type for table in network.items.features.values()):
        return "the item features do not fit into the GPU's memory"
    return ""


class GraphedLoss:
    """Losses and gradients of batches of one size, recorded once for each number of tokens and then repeated."""

    def __init__(
        self,
        loss: Callable[[dict[str, Tensor], int], Tensor],
        parameters: Iterable[nn.Parameter],
        scale: Callable[[Tensor], Tensor] = lambda loss: loss,
        record: Record | None = None,
    ) -> None:
        """Record nothing yet.

        Args:
            loss: tensors of a batch and the tokens to compute with → its mean loss, under the precision that is wanted
                (with autocast's cache off: what it keeps does not outlive a recording).
            parameters: get gradients where the loss depends on them.
            scale: a gradient scaler's ``scale``.
            record: how a computation is recorded; by default as a CUDA graph.
        """
        self.loss = loss
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.scale = scale
        self.record = CudaRecorder() if record is None else record
        self.enabled = True
        self.size: int | None = None  # B, that of the first batch
        self.inputs: dict[str, Tensor] = {}
        self.mean: Tensor | None = None
        self.gradients: list[tuple[nn.Parameter, Tensor]] = []
        self.replays: dict[int, Callable[[], None]] = {}

    def __call__(self, batch: Mapping[str, Tensor], tokens: int) -> Tensor | None:
        """Loss of a batch; the parameters' gradients are set, not added to what was there.

        Args:
            batch: its tensors, (B, …) each, on the device.
            tokens: the sum of its histories' lengths.

        Returns:
            the mean loss; None for a batch that must run without: of another B than the first, longer than every
            graph where there are enough of them, or all after a recording failed, which the log says once.
        """
        rows = len(next(iter(batch.values())))
        bucket = self._bucket(rows, tokens)
        if bucket is None:
            return None
        if not self.inputs:
            self.size = rows
            self.inputs = {name: torch.empty_like(values) for name, values in batch.items()}
        for name, values in self.inputs.items():
            values.copy_(batch[name], non_blocking=True)
        if bucket not in self.replays:
            try:
                self.replays[bucket] = self.record(lambda: self._compute(bucket))
            except RuntimeError as error:
                logger.warning("CUDA graphs: off from here on, because a recording failed: %s", _first_line(error))
                self.enabled = False
                self.replays.clear()
                return None
        self.replays[bucket]()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        assert self.mean is not None
        return self.mean.clone()

    def _bucket(self, rows: int, tokens: int) -> int | None:
        """The tokens to compute with, None where the batch must run without a graph."""
        if not self.enabled or self.size not in (None, rows):
            return None
        wanted = -(-tokens // BUCKET) * BUCKET
        if wanted in self.replays or len(self.replays) < MOST_GRAPHS:
            return wanted
        return min((bucket for bucket in self.replays if bucket >= tokens), default=None)

    def _compute(self, bucket: int) -> None:
        """Loss and gradients of what stands in ``inputs``, into ``mean`` and ``gradients``."""
        loss = self.loss(self.inputs, bucket)
        # not backward(): its accumulation would tie the recording to memory and streams of earlier steps
        found = torch.autograd.grad(self.scale(loss), self.parameters, allow_unused=True)
        if self.mean is None:  # in the first warm-up, hence outside of the graphs' own memory
            self.mean = torch.empty_like(loss.detach())
            pairs = zip(self.parameters, found, strict=True)
            self.gradients = [(weight, torch.empty_like(weight)) for weight, part in pairs if part is not None]
        self.mean.copy_(loss.detach())
        for (_, kept), part in zip(self.gradients, (part for part in found if part is not None), strict=True):
            kept.copy_(part)


class CudaRecorder:
    """Records computations as CUDA graphs that share their memory.

    Sharing is safe because graphs run one after the other and leave their results in memory outside.
    """

    def __init__(self) -> None:
        self.pool: Any = None
        self.stream: torch.cuda.Stream | None = None

    def __call__(self, compute: Callable[[], None]) -> Callable[[], None]:
        """Warm up and record.

        Args:
            compute: reads and writes tensors that stay where they are.

        Returns:
            a function that repeats the computation on the current stream.

        Raises:
            RuntimeError: the computation waits for the device or does something else that cannot be recorded.
        """
        current = torch.cuda.current_stream()
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        self.stream = self.stream or torch.cuda.Stream()
        self.stream.wait_stream(current)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UP):
                    compute()
                # a failed recording leaves more behind than a failed warm-up: look for waits before
                with _waits_are_errors():
                    compute()
            current.wait_stream(self.stream)
            # thread_local: the thread that sends the next batch may go on meanwhile
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                compute()
        except RuntimeError:
            _clean_up(current, self.pool)
            raise
        return graph.replay


@contextlib.contextmanager
def _waits_are_errors() -> Iterator[None]:
    """Waiting for the device raises RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _clean_up(stream: torch.cuda.Stream, pool: Any) -> None:
    """Undo what PyTorch leaves behind when a recording is broken off: the stream, the allocator, the generator."""
    torch.cuda.set_stream(stream)
    device = torch.cuda.current_device()
    with contextlib.suppress(RuntimeError):  # where PyTorch has ended it itself
        torch._C._cuda_endAllocateToPool(device, pool)
    # the generator would wait for the recording's end and refuse to draw; a copy of its state does not
    generator = torch.cuda.default_generators[device]
    with contextlib.suppress(RuntimeError):
        generator.graphsafe_set_state(generator.clone_state())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
