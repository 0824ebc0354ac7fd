"""Mamba4Rec against its formulas, against figures of its authors' program, and learning."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction
from reference import mamba4rec as plain
from rival_shop import alone, golden, relative, shop_run, telling
from shop import python
from torch import Tensor

from recbole_mmm4rec.network.ops import selective
from recbole_mmm4rec.network.ops.packing.ragged import Ragged
from recbole_mmm4rec.rivals.ids import IdsAlone
from recbole_mmm4rec.rivals.mamba4rec import Mamba4Rec
from recbole_mmm4rec.training.in_pieces import RanksInPieces

pytestmark = pytest.mark.usefixtures("own_folder")


def scan_inputs(lengths: list[int], E: int = 3, N: int = 2, seed: int = 0) -> tuple[list[Tensor], Ragged]:
    """x, Δ, A, B, C in 64 bits, packed."""
    draw = torch.Generator().manual_seed(seed)
    ragged = Ragged(torch.tensor(lengths), max(lengths))
    widths = (E, E, None, N, N)
    made = [
        torch.randn((E if width is None else len(ragged), width or N), generator=draw, dtype=torch.float64)
        for width in widths
    ]
    made[1], made[2] = made[1].exp(), -made[2].exp()
    return [part.requires_grad_() for part in made], ragged


def by_formula(x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, ragged: Ragged) -> Tensor:
    """The recurrence, a token after the other."""
    outputs, h = [], torch.zeros_like(A)
    for t in range(len(x)):
        h = (0 if ragged.cols[t] == 0 else torch.exp(step[t][:, None] * A) * h) + (step[t] * x[t])[:, None] * B[t]
        outputs.append(h @ C[t])
    return torch.stack(outputs)


def gradients(loss: Tensor, of: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of, materialize_grads=True))


def assert_same(found: Tensor, wanted: Tensor, inputs: list[Tensor], weights: Tensor) -> None:
    """Values and gradients."""
    torch.testing.assert_close(found, wanted)
    pairs = zip(gradients((found * weights).sum(), inputs), gradients((wanted * weights).sum(), inputs), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 40))
@settings(max_examples=10, deadline=None)
def test_the_scan_is_the_recurrence_whatever_stands_in_memory_at_once(lengths: list[int], states: int) -> None:
    inputs, ragged = scan_inputs(lengths)
    weights = torch.randn(len(ragged), 3, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selective, "STATES_AT_ONCE", states)
        x, step, A, B, C = inputs
        wanted = by_formula(*inputs, ragged)
        assert_same(selective.selective_scan(*inputs, ragged), wanted, inputs, weights)
        last = selective.last_of_selective_scan(x, step, A, B, C[ragged.last], ragged)
        assert_same(last, by_formula(*inputs, ragged)[ragged.last], inputs, weights[: len(last)])


def test_what_has_decayed_to_nothing_is_left_out() -> None:
    inputs, ragged = scan_inputs([6, 2, 5])
    with torch.no_grad():
        inputs[1] *= 40
    x, step, A, B, C = inputs
    assert float((step.amin() * A.amin()).detach()) > -60 > float((step.amax() * A.amin()).detach())
    weights = torch.randn(len(ragged), 3, dtype=torch.float64)
    assert_same(selective.selective_scan(*inputs, ragged), by_formula(*inputs, ragged), inputs, weights)
    last = selective.last_of_selective_scan(x, step, A, B, C[ragged.last], ragged)
    assert_same(last, by_formula(*inputs, ragged)[ragged.last], inputs, weights[: len(last)])


class StandIn(torch.autograd.Function):
    """mamba-ssm's ``selective_scan_fn`` as far as it is asked: (B, E, L), with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        assert all(part.is_contiguous() for part in (u, delta, A, B, C))
        assert u.shape == delta.shape == (len(B), len(A), B.shape[2])
        assert B.shape == C.shape
        states = [torch.zeros(len(u), *A.shape, dtype=u.dtype)]  # before each position, and after the last
        for t in range(u.shape[2]):
            inflow = (delta[:, :, t] * u[:, :, t])[..., None] * B[:, None, :, t]
            states.append(torch.exp(delta[:, :, t, None] * A) * states[-1] + inflow)
        ctx.save_for_backward(u, delta, A, B, C, torch.stack(states, 3))
        return torch.stack([(h * C[:, None, :, t]).sum(2) for t, h in enumerate(states[1:])], 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        (dy,), (u, delta, A, B, C, states) = grads, ctx.saved_tensors
        du, ddelta, dA, dB, dC = (torch.zeros_like(part) for part in (u, delta, A, B, C))
        dh = torch.zeros_like(states[..., 0])
        for t in reversed(range(u.shape[2])):
            step, x, before, decay = delta[:, :, t], u[:, :, t], states[..., t], torch.exp(delta[:, :, t, None] * A)
            dC[:, :, t] = (dy[:, :, t, None] * states[..., t + 1]).sum(1)
            dh = dh + dy[:, :, t, None] * C[:, None, :, t]
            dB[:, :, t] = (dh * (step * x)[..., None]).sum(1)
            inflow, kept = (dh * B[:, None, :, t]).sum(2), dh * before * decay
            du[:, :, t], ddelta[:, :, t] = step * inflow, x * inflow + (kept * A).sum(2)
            dA += (kept * step[..., None]).sum(0)
            dh = dh * decay
        return du, ddelta, dA, dB, dC


def test_a_kernel_gets_padded_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled scan is a GPU's; a stand-in shows what it is given and what is made of its answer and gradients."""
    inputs, ragged = scan_inputs([3, 1, 5, 5])
    weights = torch.randn(len(ragged), 3, dtype=torch.float64)
    monkeypatch.setattr(selective, "compiled_scan", lambda device_type: StandIn.apply)
    assert_same(selective.selective_scan(*inputs, ragged), by_formula(*inputs, ragged), inputs, weights)


@pytest.mark.skipif(find_spec("mamba_ssm") is None, reason="mamba-ssm is not installed")
def test_the_compiled_scan_asks_for_no_more_of_mamba_ssm_than_itself(tmp_path: Path) -> None:
    """``import mamba_ssm`` wants transformers; where that is missing, the scan is used all the same."""
    code = (
        "import sys, types; sys.modules.update(selective_scan_cuda=types.ModuleType('there'), transformers=None); "
        "from recbole_mmm4rec.network.ops.selective import compiled_scan; print(compiled_scan('cuda').__name__)"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "selective_scan_fn"


def test_no_kernel_on_a_processor() -> None:
    assert selective.compiled_scan("cpu") is None


OURS = {
    "LayerNorm": "norm",
    "mamba_layers": "layers",
    "ffn.w_1": "fc1",
    "ffn.w_2": "fc2",
    "ffn.norm": "ffn_norm",
    "conv1d.": "conv_",
    ".mamba.D": ".mamba.D_skip",
}


def our_name(name: str) -> str:
    for theirs, ours in OURS.items():
        name = name.replace(theirs, ours)
    return name


@pytest.mark.parametrize("layers", [1, 2])
def test_figures_of_the_authors_program(layers: int) -> None:
    config, tensors = golden("mamba4rec")
    weights = {
        our_name(name.removeprefix("model.")): value.squeeze(1) if "conv1d.weight" in name else value
        for name, value in tensors.items()
        if name.startswith("model.") and (layers == 2 or "mamba_layers.1" not in name)
    }
    model = alone(Mamba4Rec, 23, **{**config, "num_layers": layers}).eval()
    model.load_state_dict(weights)
    names = {"i_list": "item_seq", "n": "length", "i": "label"}
    batch = Interaction({name: tensors[f"input.{theirs}"] for name, theirs in names.items()})
    users = model.user_vectors(batch)
    if layers == 1:
        assert relative(users, tensors["output.user_of_one_layer"]) < 1e-5
        return
    assert relative(users, tensors["output.user"]) < 1e-5
    assert relative(model.full_sort_predict(batch)[:, 1:], tensors["output.scores"]) < 1e-5
    loss = model.calculate_loss(batch)
    torch.testing.assert_close(loss, tensors["output.loss"], rtol=1e-5, atol=0)
    loss.backward()
    wanted = {our_name(name): value for name, value in tensors.items() if name.startswith("grad.")}
    assert len(wanted) == len(weights)
    for name, weight in model.named_parameters():
        gradient = wanted[f"grad.{name}"]
        assert weight.grad is not None
        assert float((weight.grad - gradient.reshape(weight.shape)).norm() / gradient.norm()) < 1e-4, name


@pytest.mark.parametrize("layers", [1, 2])
def test_the_model_is_its_formulas(tmp_path: Path, layers: int) -> None:
    run = shop_run(tmp_path, "Mamba4Rec", num_layers=layers, d_state=4)
    assert isinstance(run.dataset, IdsAlone)
    assert isinstance(run.trainer, RanksInPieces)
    model = run.model
    telling(model)
    batch = next(iter(run.train))[:9]
    histories, lengths = batch[model.ITEM_SEQ].tolist(), batch[model.ITEM_SEQ_LEN].tolist()
    assert len(set(lengths)) > 2
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    wanted = torch.stack(
        [plain.user_vector(weights, row[:length], layers) for row, length in zip(histories, lengths, strict=True)]
    )
    torch.testing.assert_close(model.user_vectors(batch), wanted)
    logits = wanted @ weights["item_embedding.weight"][1:].T
    loss = torch.nn.functional.cross_entropy(logits, batch[model.POS_ITEM_ID] - 1)
    found = model.calculate_loss(batch)
    torch.testing.assert_close(found, loss)
    found.backward()
    for name, gradient in zip(weights, gradients(loss, list(weights.values())), strict=True):
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient)
    scores = model.full_sort_predict(batch)
    torch.testing.assert_close(scores[:, 1:], logits)
    torch.testing.assert_close(model.predict(batch), scores.gather(1, batch[model.ITEM_ID][:, None]).squeeze(1))


@pytest.mark.parametrize("layers", [1, 2])
def test_it_learns_the_shop(tmp_path: Path, layers: int) -> None:
    run = shop_run(tmp_path, "Mamba4Rec", num_layers=layers, epochs=20, dropout_prob=0.0)
    best, _ = run.trainer.fit(run.train, run.valid, verbose=False, saved=False, show_progress=False)
    assert best > 0.9
