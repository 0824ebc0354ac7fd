"""TiM4Rec against its formulas, against figures of its authors' program, and learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction
from reference import tim4rec as plain
from rival_shop import alone, golden, relative, shop_run, telling

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.rivals.tim4rec import TiM4Rec

pytestmark = pytest.mark.usefixtures("own_folder")

OURS = {
    "in_layer_norm": "norm",
    "layer_norm_time": "time_input.norm",
    "ssd_layers": "layers",
    "time_layer_norm": "time_gate.norm",
    "layer_norm": "norm",
    "conv1d4time_": "time_scale.conv",
    "mlp4time_scale.1": "time_scale.fc1",
    "mlp4time_scale.3": "time_scale.fc2",
    "time_gate_residual.1": "time_gate.gate",
    "ssd.norm.weight": "ssd.norm_weight",
    "ssd.conv1d": "ssd.conv",
    "ssd.D": "ssd.D_skip",
}
FIXED = {"is_ffn": True, "is_time": True, "time_dropout_prob": 0.0, "TIME_FIELD": "t"}


def our_name(name: str) -> str:
    for theirs, ours in OURS.items():
        name = name.replace(theirs, ours)
    for conv in ("conv1", "conv2"):
        name = name.replace(f"time_scale.{conv}.", f"time_scale.{conv}.conv.")
    return name


@pytest.mark.parametrize("backend", ["torch", "numba", "recurrence"])
@pytest.mark.parametrize("layers", [1, 2])
def test_figures_of_the_authors_program(layers: int, backend: str) -> None:
    config, tensors = golden("tim4rec")
    length = config.pop("max_len")
    given = {**config, **FIXED, "num_layers": layers, "time_padding": "zero_stamp", "ssd_backend": backend}
    model = alone(TiM4Rec, 23, MAX_ITEM_LIST_LENGTH=length, **given).eval()
    theirs = {our_name(name): value for name, value in tensors.items() if layers == 2 or "ssd_layers.1" not in name}
    own = dict(model.named_parameters())
    assert {name.removeprefix("model.") for name in theirs if name.startswith("model.")} == set(own)
    model.load_state_dict({name: theirs[f"model.{name}"].reshape(weight.shape) for name, weight in own.items()})
    names = {"i_list": "item_seq", "n": "length", "i": "label", "t_list": "timestamp"}
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
    for name, weight in own.items():
        gradient = theirs[f"grad.{name}"].reshape(weight.shape)
        found = torch.zeros_like(weight) if weight.grad is None else weight.grad
        assert float((found - gradient).norm()) <= 1e-4 * float(gradient.norm()), name


@pytest.mark.parametrize(
    ("layers", "padding", "changes"),
    [
        (1, "masked", {}),
        (2, "masked", {}),
        (1, "zero_stamp", {}),
        (2, "zero_stamp", {}),
        (2, "masked", {"p2p_residual": False}),  # its authors' file for MovieLens-1M at D 64
        (2, "zero_stamp", {"p2p_residual": False}),
        (2, "masked", {"is_time": False}),  # and for it at D 256
        (1, "masked", {"is_ffn": False}),
        (2, "masked", {"is_ffn": False}),
        (2, "masked", {"is_time": False, "is_ffn": False}),
    ],
)
def test_the_model_is_its_formulas(tmp_path: Path, layers: int, padding: str, changes: dict[str, Any]) -> None:
    sizes: dict[str, Any] = {"num_layers": layers, "head_dim": 8, "d_state": 4, "norm_eps": 1e-5}
    settings = {**sizes, "is_time": True, "is_ffn": True, **changes}
    run = shop_run(tmp_path, "TiM4Rec", **settings, inner_size=24, time_padding=padding, ssd_backend="torch")
    model = run.model
    telling(model)
    gate = dict(model.named_parameters()).get("layers.0.ssd.time_gate.gate.weight")
    assert (gate is not None) == settings["is_time"]
    assert gate is None or len(gate) == (6 if changes.get("p2p_residual", True) else 1)
    assert any("ffn" in name for name, _ in model.named_parameters()) == settings["is_ffn"]
    batch = next(iter(run.train))[:5]
    histories, lengths = batch[model.ITEM_SEQ].tolist(), batch[model.ITEM_SEQ_LEN].tolist()
    stamps = batch[model.time_list].tolist()
    for row, length in enumerate(lengths):  # a gap of 0 comes from equal stamps
        instead = stamps[row][length - 1] if padding == "masked" else 0
        stamps[row][length:] = [instead] * (len(stamps[row]) - length)
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    rows = zip(histories, stamps, strict=True)
    wanted = torch.stack([plain.user_vector(weights, *row, settings) for row in rows])
    torch.testing.assert_close(model.user_vectors(batch), wanted)
    logits = wanted @ weights["item_embedding.weight"][1:].T
    found = model.calculate_loss(batch)
    loss = torch.nn.functional.cross_entropy(logits, batch[model.POS_ITEM_ID] - 1)
    torch.testing.assert_close(found, loss)
    found.backward()
    expected = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    for (name, weight), gradient in zip(model.named_parameters(), expected, strict=True):
        torch.testing.assert_close(torch.zeros_like(weight) if weight.grad is None else weight.grad, gradient, msg=name)


@pytest.mark.parametrize("changes", [{"num_layers": 1}, {"is_time": False, "is_ffn": False}])
def test_it_learns_the_shop(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = shop_run(tmp_path, "TiM4Rec", epochs=20, dropout_prob=0.0, head_dim=8, d_state=8, inner_size=32, **changes)
    best, _ = run.trainer.fit(run.train, run.valid, verbose=False, saved=False, show_progress=False)
    assert best > 0.9


def test_the_feed_forward_layer_is_four_times_as_wide_as_the_rest(tmp_path: Path) -> None:
    """As in its authors' program, whatever the width."""
    for changes, width in (({}, 64), ({"hidden_size": 32}, 128), ({"inner_size": 24}, 24)):
        assert shop_run(tmp_path, "TiM4Rec", head_dim=8, **changes).model.layers[0].ffn.fc1.out_features == width


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="head_dim: 10 does not divide"):
        shop_run(tmp_path, "TiM4Rec", head_dim=10)
