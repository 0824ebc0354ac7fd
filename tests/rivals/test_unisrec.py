"""UniSRec against its formulas, with and without ID, its adaptor in training, and learning."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pattern_shop import COLOURS, ITEMS, NAME, SHAPES, write_pattern_shop
from reference import unisrec as plain
from rival_shop import shop_run, telling
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.features.store import write_store
from recbole_mmm4rec.features.tables import FeatureTables
from recbole_mmm4rec.network.ops.tables import frozen
from recbole_mmm4rec.rivals import unisrec
from recbole_mmm4rec.rivals.unisrec import Adaptor

pytestmark = pytest.mark.usefixtures("own_folder")

SMALL: dict[str, Any] = {"n_layers": 2, "n_heads": 2, "inner_size": 12, "n_exps": 3}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "adaptor_dropout_prob": 0.0}


@pytest.mark.parametrize("with_ids", [True, False])
def test_the_model_is_its_formulas(tmp_path: Path, with_ids: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unisrec, "ROWS", 2)  # several parts of a batch
    model = (run := shop_run(tmp_path, "UniSRec", **SMALL, is_modality_bias=with_ids)).model
    telling(model)
    assert ("item_embedding.weight" in model.state_dict()) == with_ids
    assert "features" not in model.state_dict()
    batch = next(iter(run.train))[:7]
    histories, lengths = batch[model.ITEM_SEQ].tolist(), batch[model.ITEM_SEQ_LEN].tolist()
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    features = torch.from_numpy(model.features.numpy()).double()
    users = torch.stack(
        [
            plain.user_vector(weights, features, row[:length], 2, 2)
            for row, length in zip(histories, lengths, strict=True)
        ]
    )
    items = torch.stack([plain.item_vector(weights, features[item], item) for item in range(1, len(features))])
    logits = users @ (items / items.norm(dim=1, keepdim=True)).T / 0.07
    torch.testing.assert_close(model.full_sort_predict(batch)[:, 1:], logits)
    loss = torch.nn.functional.cross_entropy(logits, batch[model.POS_ITEM_ID] - 1)
    found = model.calculate_loss(batch)
    torch.testing.assert_close(found, loss)
    found.backward()
    expected = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    for (name, weight), gradient in zip(model.named_parameters(), expected, strict=True):
        if not name.endswith("key.bias"):  # the same for all keys: nothing depends on it, and both find rounding
            own = torch.zeros_like(weight) if weight.grad is None else weight.grad
            torch.testing.assert_close(own, gradient, msg=name)


def test_noise_and_dropout_of_the_adaptor() -> None:
    torch.manual_seed(0)
    adaptor, x = Adaptor(6, 4, 3, 0.0), torch.randn(50_000, 6)
    with torch.no_grad():
        for parameter in adaptor.parameters():
            parameter.normal_(0, 0.3)
        adaptor.eval()
        quiet = adaptor(x[:2])
        torch.testing.assert_close(adaptor(x[:2]), quiet)
        adaptor.train()
        many = adaptor(x[:1].expand(50_000, -1))
        assert many.std(0).min() > 0.01
        logits = x[0] @ adaptor.gate
        deviation = torch.nn.functional.softplus(x[0] @ adaptor.noise) + 0.01
        shares = torch.softmax(logits + deviation * torch.randn(50_000, 3), 1).mean(0)
        made = torch.stack([expert(x[0] - b) for expert, b in zip(adaptor.experts, adaptor.whiten, strict=True)])
        torch.testing.assert_close(many.mean(0), shares @ made, rtol=0.02, atol=0.02)
        adaptor.drop = 0.5
        assert not torch.equal(adaptor(x[:1]), adaptor(x[:1]))


def write_half_precision(folder: Path) -> None:
    """The pattern shop with its texts' vectors once more, in half precision, which holds ones and zeros exactly."""
    write_pattern_shop(folder)
    home = folder / NAME / "features" / "text"
    shutil.rmtree(home)
    write_store(
        home,
        modality="text",
        encoder="one-hot",
        encoder_hash=None,
        encoder_version=None,
        settings={},
        dim=SHAPES,
        dtype="float16",
        normalized=True,
        input_hash=None,
        dataset=NAME,
        items=ITEMS,
        present=np.ones(len(ITEMS), dtype=bool),
        chunks=[np.repeat(np.eye(SHAPES, dtype=np.float16), COLOURS, axis=0)],
    )


def with_gradients(model: Any, value: Tensor) -> list[Tensor]:
    """A number and its gradients of all weights of the adaptor."""
    return [value.detach(), *torch.autograd.grad(value, list(model.adaptor.parameters()), materialize_grads=True)]


@pytest.mark.parametrize("place", ["memory", "mapped"])
def test_features_stay_as_they_are_stored(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision stays half, what is mapped stays on disk, and in pieces the adaptor gives the same."""
    plainly = shop_run(tmp_path / "float32", "UniSRec", **SMALL)
    assert plainly.model.features.values.data_ptr() == plainly.dataset.features["text"].data_ptr()  # no copy
    batch = next(iter(plainly.train))
    wanted = with_gradients(plainly.model, plainly.model.eval().calculate_loss(batch))
    write_half_precision(tmp_path / "float16")
    monkeypatch.setattr(FeatureTables, "array", None)  # a float copy of the whole table
    monkeypatch.setattr(frozen, "PIECE_BYTES", 7 * 4 * SHAPES)  # seven of the 31 rows
    run = shop_run(tmp_path / "float16", "UniSRec", **SMALL, features_in=place)
    model, stored = run.model, run.dataset.features["text"]
    assert model.features.dtype == torch.float16
    assert model.features.values.data_ptr() == (stored.values if place == "mapped" else stored).data_ptr()
    found = with_gradients(model, model.eval().calculate_loss(batch))
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        torch.testing.assert_close(model.full_sort_predict(batch), plainly.model.full_sort_predict(batch))


def test_the_backward_pass_draws_the_same_dropout_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_half_precision(tmp_path)
    monkeypatch.setattr(frozen, "PIECE_BYTES", 7 * 4 * SHAPES)
    model, made = shop_run(tmp_path, "UniSRec", **SMALL, adaptor_dropout_prob=0.5).model.train(), []
    weights = torch.randn(31, 16)
    for function in (unisrec.checkpoint, lambda function, rows, **_: function(rows)):
        monkeypatch.setattr(unisrec, "checkpoint", function)
        torch.manual_seed(7)
        made.append(with_gradients(model, (model._adapted() * weights).sum()))
    assert all(map(torch.equal, *made))


def test_the_noise_is_the_same_wherever_the_features_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "PIECE_BYTES", 7 * 4 * SHAPES)
    made = []
    for place in ("memory", "mapped"):
        run = shop_run(tmp_path / place, "UniSRec", **SMALL, adaptor_dropout_prob=0.5, features_in=place)
        torch.manual_seed(7)
        made.append(with_gradients(run.model, run.model.train().calculate_loss(next(iter(run.train)))))
    assert all(map(torch.equal, *made))


@pytest.mark.parametrize("with_ids", [True, False])
def test_it_learns_what_the_text_tells(tmp_path: Path, with_ids: bool) -> None:
    """The text tells the shape alone: the six items of a shape look alike without ID."""
    run = shop_run(tmp_path, "UniSRec", **SMALL, **NO_DROPOUT, epochs=25, is_modality_bias=with_ids)
    best, result = run.trainer.fit(run.train, run.valid, verbose=False, saved=False, show_progress=False)
    assert result["hit@10"] > 0.9
    assert (best > 0.6) == with_ids


def test_one_table_of_features(tmp_path: Path) -> None:
    assert shop_run(tmp_path, "UniSRec", **SMALL, modalities=["image"]).model.features.shape[1] == 6
    with pytest.raises(UserError, match=r"modalities=\['text', 'image'\]: UniSRec has one table of features"):
        shop_run(tmp_path, "UniSRec", **SMALL, modalities="auto")
    with pytest.raises(UserError, match="n_heads=3: it does not divide hidden_size=16"):
        shop_run(tmp_path, "UniSRec", n_heads=3)
