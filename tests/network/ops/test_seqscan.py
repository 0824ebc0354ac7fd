"""Compiled loops over sequences against the same mathematics pass by pass over dense blocks, in float64."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, get_ident
from typing import Any

import numpy as np
import pytest
import torch
from network.models import make_batch, make_network, prefix_batch, small_config
from torch import Tensor

from recbole_mmm4rec.network.ops.blocks import blockscan
from recbole_mmm4rec.network.ops.blocks.blockscan import block_scan, pair_weights
from recbole_mmm4rec.network.ops.loops import row_loops, seqscan, sequence_kernels, threads
from recbole_mmm4rec.network.ops.loops.row_loops import sigmoid, store
from recbole_mmm4rec.network.ops.operands import Weights, Wide
from recbole_mmm4rec.network.ops.packing.ragged import BlockLayout, Ragged

NAMES = ("xb", "z", "c", "weight", "skip", "conv_weight", "conv_bias")
H, P, G, N, K = 4, 8, 2, 5, 4


@dataclass
class Case:
    """Operands of :func:`block_scan`, and which wanted rows and pairs stand for something."""

    operands: dict[str, Tensor | None]
    bias: Tensor | None  # that ``xb`` lacks
    layout: BlockLayout
    arriving: Tensor
    real: Tensor  # (S, 1)
    earlier: Tensor  # (Np,)

    def run(self, dtype: torch.dtype, compiled: bool, wide: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The output, and the gradients of all operands, computed in ``dtype`` and, what is narrow, in ``wide``."""
        given: dict[str, Any] = {
            name: None if x is None else x.to(dtype if name in NAMES[:3] else wide).requires_grad_()
            for name, x in copy.deepcopy(self.operands).items()
        }
        xb, z, c, weight, skip, *conv = given.values()
        bias = None if self.bias is None else self.bias.to(wide)
        out = block_scan(Wide(xb, bias), z, c, weight, skip, Weights(*conv), G, self.layout, compiled)
        out.backward(self.arriving.to(dtype))
        found = {name: x.grad for name, x in given.items() if x is not None and x.grad is not None}
        assert set(found) == {name for name, x in given.items() if x is not None}
        found["weight"] = found["weight"] * self.earlier  # weights of later tokens are 0 whatever their gradient
        return {"out": out.detach() * self.real, **found}


def make_case(cross: bool, wanted: int | None, merge: int | None, bare: bool = True, width: int = K) -> Case:
    draw = torch.Generator().manual_seed(5)
    random = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)  # noqa: E731
    ragged = Ragged(torch.tensor([3, 1, 9, 2, 9, 5, 1, 7, 4, 8]), 9, merge)
    layout = ragged.layout(wanted)
    tokens, kept, channels = len(ragged), layout.kept, H * P + G * N * (1 if cross else 2)
    (t, s), later = layout.pairs
    dt, A = torch.rand(tokens, H, generator=draw).double(), -torch.rand(H, generator=draw).double() * 4
    real = torch.ones(kept, 1, dtype=torch.bool)
    for piece in layout.pieces:
        if piece.busy is not None:
            real[piece.kept] = piece.busy[:, piece.length - piece.wanted :].flatten(0, 1)
    operands = {
        "xb": random(tokens, channels),
        "z": random(kept, H * P),
        "c": random(kept, G * N) if cross else None,
        "weight": pair_weights(dt, A, layout, (t, s), later),
        "skip": random(kept, H),
        "conv_weight": random(channels, width),
        "conv_bias": random(channels),
    }
    return Case(operands, random(channels) if bare else None, layout, random(kept, H * P) * real, real, ~later)


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert set(found) == set(wanted)
    for name, truth in wanted.items():
        error = float((found[name].double() - truth.double()).norm() / truth.double().norm())
        assert error <= tolerance, f"{name}: {error:.1e}"


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("width", [4, 2])
@pytest.mark.parametrize("merge", [None, 4])
@pytest.mark.parametrize("wanted", [None, 1, 4])
@pytest.mark.parametrize("cross", [False, True])
def test_values_and_gradients(cross: bool, wanted: int | None, merge: int | None, width: int, bare: bool) -> None:
    case = make_case(cross, wanted, merge, bare, width)
    truth = case.run(torch.float64, False, torch.float64)
    assert_near(case.run(torch.float32, True), truth, 1e-6)
    assert_near(case.run(torch.bfloat16, True), truth, 2e-2)
    assert_near(case.run(torch.float32, False), truth, 1e-6)  # and so do blocks
    assert_near(case.run(torch.bfloat16, False), truth, 2e-2)


def test_rows_of_a_table_of_items() -> None:
    case = make_case(False, 4, None)
    table, z, c, weight, skip, *conv = (None if x is None else x.float() for x in case.operands.values())
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    rest = (z, c, weight, skip, Weights(*conv), G, case.layout)
    shuffled = torch.empty_like(table).index_copy_(0, order, table)
    for compiled in (False, True):
        with torch.no_grad():
            wanted = block_scan(Wide(table), *rest, compiled)
            assert torch.equal(block_scan(Wide(shuffled, rows=order), *rest, compiled), wanted)
        with pytest.raises(RuntimeError, match="no gradients"):
            block_scan(Wide(shuffled.requires_grad_(), rows=order), *rest, compiled)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    case, before = make_case(False, None, None), torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(case.run(torch.float32, True))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(other[name], value) for name, value in found[0].items())


def test_what_is_no_number_stays_none() -> None:
    for name in ("xb", "z", "weight", "skip"):
        case = make_case(False, None, None)
        operand = case.operands[name]
        assert operand is not None
        operand[-1, -1] = float("nan")
        assert case.run(torch.float32, True)["out"].isnan().any(), name


def test_blocks_serve_what_the_loops_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Tensor:
        raise AssertionError("the loops were asked")

    monkeypatch.setattr(blockscan, "sequence_scan", refuse)
    make_case(False, None, None).run(torch.float64, True, torch.float64)
    with pytest.raises(AssertionError, match="the loops were asked"):
        make_case(False, None, None).run(torch.float32, True)
    ragged = Ragged(torch.tensor([40, 40]), 40)
    cases = ((torch.float32, None, True), (torch.bfloat16, None, False), (torch.bfloat16, 1, True))
    for dtype, wanted, served in cases:
        x, weight = torch.zeros(1, dtype=dtype), torch.zeros(1)
        assert seqscan.serves(x, x, None, weight, ragged.layout(wanted)) == served
        assert not seqscan.serves(x, x.double(), None, weight, ragged.layout(wanted))


@pytest.mark.parametrize("team", [True, False])
def test_work_is_shared_and_errors_are_raised(team: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads._team() is not None  # PyTorch's wheels for Linux bring the library
    if not team:
        monkeypatch.setattr(threads, "_team", lambda: None)
    together, numbers, seen = Barrier(3, timeout=600), iter(range(300)), list[tuple[int, int]]()

    def work() -> None:
        together.wait()  # all three are there at once
        seen.extend((number, get_ident()) for number in numbers)

    threads.run_on_threads(work, 3)
    assert sorted(number for number, _ in seen) == list(range(300))

    def fail() -> None:
        if together.wait() == 1:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        threads.run_on_threads(fail, 3)


def test_loops_are_compiled_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    real = row_loops.njit

    def njit(function: Any, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, **options)

    monkeypatch.setattr(row_loops, "njit", njit)
    assert row_loops.compiled(lambda x: x + 1)(1) == 2


def test_kept_loops_are_compiled_again_when_either_of_their_files_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))

    def from_disk() -> int:
        made = row_loops.compiled(_twice)
        assert made(2.0) == 4.0
        return sum(made.stats.cache_hits.values())

    assert [from_disk(), from_disk()] == [0, 1]
    monkeypatch.setattr(row_loops, "_sources", lambda: "others")
    assert [from_disk(), from_disk()] == [0, 1]
    assert len(sequence_kernels.scan._cache._cache_file._source_stamp[1]) == 64


def _twice(x: float) -> float:
    return x + x


@pytest.mark.long
def test_kept_loops_that_were_cut_off_are_made_again(tmp_path: Path) -> None:
    names = (
        "from recbole_mmm4rec.network.ops.loops.seqscan import _make_ready; import torch; _make_ready(torch.float32)"
    )
    command = [sys.executable, "-c", names]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def run() -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert "cannot be read" not in run()
    (kept,) = tmp_path.rglob("*.scan-*.nbc")
    kept.write_bytes(kept.read_bytes()[:5000])
    assert "compiling them again" in run()
    assert run() == ""


def test_sigmoid_over_its_whole_range() -> None:
    x = np.concatenate([np.linspace(-200, 200, 100_001), [0, np.inf, -np.inf]]).astype(np.float32)
    out = np.empty_like(x)
    sigmoid(x, out, out.view(np.int32))
    inside = np.abs(x) <= 87
    wanted = 1 / (1 + np.exp(-x[inside].astype(np.float64)))
    np.testing.assert_allclose(out[inside], wanted, rtol=2e-6)
    assert (out[x > 87] == 1).all()
    assert (out[x < -87] < 2e-38).all()


def test_bfloat16_is_rounded_as_by_pytorch() -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.cat([torch.randn(10_000, generator=draw), torch.tensor([0.0, -0.0, 1e-40, 3.4e38, float("inf")])])
    ties = (torch.arange(0x3F80, 0x3FFF, dtype=torch.int32) << 16) + 0x8000
    x = torch.cat([x, ties.view(torch.float32)])
    row = np.empty(len(x), np.uint16)
    store(x.numpy(), x.numpy().view(np.int32), True, row)
    assert torch.equal(torch.from_numpy(row).view(torch.bfloat16), x.bfloat16())


@pytest.mark.parametrize("modalities", [("text", "image"), ("text",)])
@pytest.mark.parametrize("unit", ["prefix", "user"])
def test_network(unit: str, modalities: tuple[str, ...]) -> None:
    *args, origin = prefix_batch([5, 1, 9, 2, 5], 9, True)
    found: dict[str, dict[str, Tensor]] = {}
    for backend, dtype in (("recurrence", torch.float64), ("numba", torch.float32)):
        network = make_network(small_config(ssd_backend=backend), modalities).to(dtype)
        users = network.user_vectors(*args, origin=origin if unit == "user" else None)
        weight = torch.cos(torch.arange(users.numel(), dtype=torch.float64)).view_as(users)
        (users * weight).sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        found[backend] = {"users": users.detach(), **gradients}
    assert len(found["numba"]) > 20
    assert_near(found["numba"], found["recurrence"], 1e-4)


def test_bfloat16_trains_through_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, loops = [], seqscan.sequence_scan
    monkeypatch.setattr(blockscan, "sequence_scan", lambda xb, *rest: asked.append(xb.dtype) or loops(xb, *rest))
    network = make_network(small_config(ssd_backend="numba")).float()
    with torch.autocast("cpu", torch.bfloat16):
        users = network.user_vectors(*make_batch(9).args())
    users.square().sum().backward()
    assert asked == [torch.bfloat16] * 3  # text, image, and both
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
