"""The network and the plain reference against results of the published program."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from reference import plain
from torch import Tensor

from network.models import golden, part, relative
from recbole_mmm4rec.losses.cross_entropies import full_cross_entropy, in_batch_cross_entropy
from recbole_mmm4rec.transfer.published import network_from_published, our_name

SCORES = {"zero_stamp": "output.scores", "masked": "output.scores_masked_padding"}
GRADIENTS = {"zero_stamp": "grad", "masked": "grad_masked_padding"}
PADDINGS = tuple(SCORES)
FAST = [(backend, padding) for backend in ("torch", "numba", "recurrence") for padding in PADDINGS]


def assert_gradients(found: Mapping[str, Tensor | None], wanted: Mapping[str, Tensor], tolerance: float) -> None:
    """Every wanted gradient is there, each within ``tolerance`` of its own norm."""
    assert len(wanted) > 80
    for name, gradient in wanted.items():
        ours = found[name]
        assert ours is not None, name
        error = float((ours.reshape(gradient.shape) - gradient).norm() / gradient.norm())
        assert error <= tolerance, f"{name}: {error:.2e}"


def check_network(backend: str, padding: str, score_tolerance: float, gradient_tolerance: float) -> None:
    config, tensors = golden()
    network = network_from_published(part(tensors, "model"), config | {"time_padding": padding, "ssd_backend": backend})
    tables = network.items.tables()
    users = network.user_vectors(tensors["input.item_seq"], tensors["input.length"], tensors["input.timestamp"], tables)
    # the published program takes padding for a class; ours does not, hence not network.scores
    logits = users @ network.fused_items(tables).T
    assert relative(logits, tensors[SCORES[padding]]) <= score_tolerance
    if padding == "zero_stamp":
        assert relative(users, tensors["output.user"]) <= score_tolerance
    torch.nn.functional.cross_entropy(logits, tensors["input.label"]).backward()
    wanted = part(tensors, GRADIENTS[padding])
    parameters = dict(network.named_parameters())
    assert_gradients({name: parameters[str(our_name(name))].grad for name in wanted}, wanted, gradient_tolerance)


@pytest.mark.parametrize(("backend", "padding"), FAST)
def test_network_equals_published_program(backend: str, padding: str) -> None:
    check_network(backend, padding, score_tolerance=1e-5, gradient_tolerance=1e-4)


@pytest.mark.usefixtures("interpreter")
def test_kernels_equal_published_program() -> None:
    # the padding is told by the time signals, before any kernel; one backward pass takes the interpreter a minute
    check_network("mamba_ssm", "masked", score_tolerance=1e-4, gradient_tolerance=1e-3)


@pytest.mark.parametrize("padding", PADDINGS)
def test_reference_equals_published_program(padding: str) -> None:
    config, tensors = golden()
    wanted = part(tensors, GRADIENTS[padding])
    params = {name: value.clone().requires_grad_(name in wanted) for name, value in part(tensors, "model").items()}
    settings = config | {"time_padding": padding, "d_skip": "scaled", "ablation": "none"}
    users = plain.user_vectors(
        params, settings, tensors["input.item_seq"], tensors["input.length"], tensors["input.timestamp"]
    )
    scores = plain.scores(users, params, settings)
    assert relative(scores, tensors[SCORES[padding]]) <= 1e-5
    loss = plain.full_loss(scores, tensors["input.label"])
    if padding == "zero_stamp":
        assert relative(users, tensors["output.user"]) <= 1e-5
        assert float(loss.detach()) == pytest.approx(float(tensors["output.loss"]), rel=1e-5)
        in_batch = plain.in_batch_loss(scores, tensors["input.label"])
        assert float(in_batch.detach()) == pytest.approx(float(tensors["output.loss_in_batch"]), rel=1e-5)
    loss.backward()
    assert_gradients({name: params[name].grad for name in wanted}, wanted, 1e-4)


def test_losses_equal_published_program() -> None:
    config, tensors = golden()
    network = network_from_published(part(tensors, "model"), config | {"time_padding": "zero_stamp"})
    users, labels = tensors["output.user"], tensors["input.label"]
    fused = network.fused_items()
    in_batch = in_batch_cross_entropy(users, fused[labels], labels)
    assert float(in_batch.detach()) == pytest.approx(float(tensors["output.loss_in_batch"]), rel=1e-5)
    # without the padding class: the published scores less their first column
    wanted = plain.full_loss(tensors["output.scores"][:, 1:], labels - 1)
    full = full_cross_entropy(users, fused, labels)
    assert float(full.detach()) == pytest.approx(float(wanted), rel=1e-5)
    assert float(full.detach()) < float(tensors["output.loss"])
