"""One cell of ``catalogue.py``: a training step with one loss and one size of the catalogue, in this process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.feature_store import peak_memory, status

USERS, WIDTH, FEATURES = 1024, 256, 384
GIB = 2**30
RIVALS = ("cut-cross-entropy", "Liger", "torch linear_cross_entropy")
LOSSES = ("CE, all at once", "CE, chunked", "sampled", "in-batch", *RIVALS)
NO_FIT = 3
"""Exit code of a cell that ran out of memory."""


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    loss: str
    ids: bool
    items: int
    device: str
    precision: str
    threads: int
    seconds: float
    """Time after which no further step is begun; the first is taken in any case."""

    @property
    def name(self) -> str:
        """What its result is kept under."""
        return f"{self.loss} | {'with' if self.ids else 'without'} ID tables | {self.items}"

    def needs(self) -> int:
        """Bytes that the step needs at the least: tables, their gradients and states, logits."""
        table = self.items * WIDTH * 4
        logits = USERS * self.items * 4
        full = self.loss == LOSSES[0] or self.loss in RIVALS
        # ID table, gradient and NAdam's two means; rows alone have no gradient as large as the table
        own = table * (4 if full or self.loss == "CE, chunked" else 3) * self.ids
        projected = 4 * table if full else 0  # the table, its normalised form, and both gradients
        return own + projected + (3 * logits if self.loss == LOSSES[0] else 0)


def available(device: str) -> int:
    """Bytes that a process could get."""
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]) * 2**20
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024


def run_cell(cell: Cell, folder: Path, result: Path) -> int:
    """Measure in this process and write the result."""
    import torch

    if cell.threads:
        torch.set_num_threads(cell.threads)
    if cell.device == "cpu":  # an error here, rather than the kernel's choice of a process to kill
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        free = available("cpu")
        resource.setrlimit(resource.RLIMIT_DATA, (free if most == resource.RLIM_INFINITY else min(free, most), most))
    try:
        step, held = prepare(cell, folder)
        found = repeat(cell, step, held)
    except (MemoryError, torch.OutOfMemoryError):
        return NO_FIT
    except RuntimeError as error:
        if "alloc" not in str(error):
            raise
        return NO_FIT
    except ImportError as error:
        found = {"failed": f"not installed: {error.name}"}
    result.write_text(json.dumps(found), encoding="utf-8")
    return 0


def prepare(cell: Cell, folder: Path) -> tuple[Callable[[], Any], Callable[[], int]]:
    """A training step, and what tells how many bytes the parameters' gradients and states hold after it."""
    import torch

    from benchmarks import shop_batches
    from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
    from recbole_mmm4rec.training import optim

    torch.manual_seed(0)
    row_wise = cell.loss in ("sampled", "in-batch")
    network = MMM4RecNetwork(NetworkConfig(is_modality_bias=cell.ids), {"text": features(cell.items, folder)})
    for table in network.items.bias.values():
        torch.nn.init.constant_(table, 0.01)  # memory that nobody wrote to is none yet
    network = network.to(cell.device)
    network.items.row_wise = row_wise
    optimizer: Any = optim.build_optimizer(
        optim.parameter_groups(network, 0.01, decay_norms=False), "nadam", 3e-4, decoupled=True, row_wise=row_wise
    )
    objective = make_loss(cell).to(cell.device)
    batch = shop_batches.make_batch(USERS, shop_batches.TRAINING, seed=1)
    seq = torch.randint(1, cell.items + 1, batch.item_seq.shape)
    labels = torch.randint(1, cell.items + 1, (USERS,)).to(cell.device)
    batch = replace(batch, item_seq=torch.where(batch.item_seq > 0, seq, 0))
    inputs = [part.to(cell.device) for part in (batch.item_seq, batch.item_seq_len, batch.timestamps)]
    autocast = torch.autocast(cell.device, torch.bfloat16, enabled=cell.precision == "bfloat16")

    def step() -> None:
        optimizer.zero_grad()
        with autocast:
            loss = objective(network.items, lambda tables: network.user_vectors(*inputs, tables), labels)
        loss.backward()
        optimizer.step()

    def held() -> int:
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        states = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        dense = [value for value in [*gradients, *states] if not value.is_sparse]
        return sum(value.numel() * value.itemsize for value in dense)

    return step, held


def features(items: int, folder: Path) -> Any:
    """Random features (I+1, F) float16, mapped from a file that is written once for each size."""
    from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable

    path = folder / f"features_{items}.npy"
    if not path.exists():
        for other in folder.glob("features_*.npy"):
            other.unlink()  # sizes come in order
        say(f"  writing {items * FEATURES * 2 / GIB:.1f} GiB of features")
        # few different rows are enough: no cost depends on what they hold
        block = np.random.default_rng(0).standard_normal((16_384, FEATURES), dtype=np.float32).astype(np.float16)
        table = np.lib.format.open_memmap(path.with_suffix(".part"), "w+", np.float16, (items + 1, FEATURES))
        for start in range(0, items + 1, len(block)):
            table[start : start + len(block)] = block[: items + 1 - start]
        table.flush()
        del table
        path.with_suffix(".part").rename(path)
    return FrozenTable.of_array(np.load(path, mmap_mode="r"), finite=True)


def make_loss(cell: Cell) -> Any:
    """The module that is called with the item side, the encoder and the labels."""
    import torch

    from recbole_mmm4rec.losses.chunked import CHUNK_LOGITS
    from recbole_mmm4rec.losses.objectives import FullCatalogue, InBatch, Sampled

    if cell.loss in RIVALS:
        return Rival.of(cell.loss)
    if cell.loss == "sampled":
        return Sampled(1024, 0.0, torch.full((cell.items + 1,), 1 / cell.items))
    if cell.loss == "in-batch":
        return InBatch(mask_false_negatives=False)
    return FullCatalogue(0.0, 0 if cell.loss == LOSSES[0] else CHUNK_LOGITS[cell.device] // USERS)


class Rival:
    """A fused cross-entropy of another package on the whole projected table; not yet run by us on a GPU."""

    def __init__(self, loss: Callable[[Any, Any, Any], Any]) -> None:
        self.loss = loss

    @classmethod
    def of(cls, name: str) -> Rival:
        """The one of that name.

        Raises:
            ImportError: it is not installed.
        """
        if name == "cut-cross-entropy":
            from cut_cross_entropy import linear_cross_entropy

            return cls(linear_cross_entropy)
        if name == "Liger":
            from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

            fused_loss = LigerFusedLinearCrossEntropyLoss()
            return cls(lambda users, table, targets: fused_loss(table, users, targets))
        import torch.nn.functional as F

        if not hasattr(F, "linear_cross_entropy"):
            raise ImportError("PyTorch has none", name="torch 2.13")
        return cls(F.linear_cross_entropy)

    def to(self, device: str) -> Rival:
        """Nothing to move."""
        return self

    def __call__(self, items: Any, encode: Callable[[Any], Any], labels: Any) -> Any:
        """The mean loss."""
        tables = items.tables()
        users, fused = encode(tables), items.fused(tables)[1:]
        return self.loss(users, fused.to(users.dtype), labels - 1)


def repeat(cell: Cell, step: Callable[[], Any], held: Callable[[], int]) -> dict[str, Any]:
    """Run steps for some time.

    Returns:
        ``seconds`` of each step but the first, unless that one took all the time; ``peak`` bytes above what was held
        before, ``kept`` bytes of gradients and optimiser states among them.
    """
    import torch

    cuda = cell.device == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else status()["RssAnon"] * 2**20
    seconds: list[float] = []
    with peak_memory() as peak:
        while len(seconds) < 2 or (sum(seconds) < cell.seconds and len(seconds) < 12):
            begin = time.perf_counter()
            step()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
            if sum(seconds) > cell.seconds:
                break
    top = torch.cuda.max_memory_allocated() if cuda else peak["anon"] * 2**20
    return {"seconds": seconds[1:] or seconds, "peak": max(0, top - before), "kept": held()}


def say(text: str) -> None:
    """Progress, on the error stream."""
    print(text, file=sys.stderr, flush=True)
