"""UniSRec's pre-training and what starts from it, by the same commands as MMM4Rec's."""

from __future__ import annotations

import json
import logging
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pair import Pair, place
from pattern_shop import NAME, write_pattern_shop
from recbole.data.interaction import Interaction
from reference import unisrec as plain
from rival_shop import TINY, shop_run, telling
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read, write
from recbole_mmm4rec.distributed import group, joint
from recbole_mmm4rec.rivals import unisrec
from recbole_mmm4rec.run.cli import main
from recbole_mmm4rec.run.quick_start import run_recbole
from recbole_mmm4rec.settings.parts import PARTS

pytestmark = pytest.mark.usefixtures("own_folder")

SMALL: dict[str, Any] = {"n_layers": 1, "n_heads": 2, "inner_size": 12, "n_exps": 2}


def test_what_is_left_of_a_history() -> None:
    torch.manual_seed(0)
    histories, lengths = torch.tensor([[7, 8, 9, 4, 5], [3, 2, 0, 0, 0], [6, 0, 0, 0, 0]]), torch.tensor([5, 2, 1])
    seen = set()
    for _ in range(200):
        parts, kept = unisrec.drop_items(histories, lengths, 0.5)
        for row, part, count in zip(histories.tolist(), parts.tolist(), kept.tolist(), strict=True):
            assert part[0] == row[0]
            assert [item for item in row if item in part[:count]] == part[:count]
            assert part[count:] == [0] * (5 - count)
            seen.add((row[0], count))
    assert {(7, count) for count in range(1, 6)} | {(3, 1), (3, 2), (6, 1)} == seen
    torch.testing.assert_close(unisrec.drop_items(histories, lengths, 0.0)[0], histories)


def contrast(users: list[Tensor], others: list[Tensor], labels: list[int]) -> Tensor:
    """Equations 6 and 7 of the paper, others with the same next item left out, as its program does."""
    losses = []
    for j, user in enumerate(users):
        powers = [torch.exp(user @ other / 0.07) for k, other in enumerate(others) if k == j or labels[k] != labels[j]]
        losses.append(torch.log(sum(powers)) - user @ others[j] / 0.07)
    return torch.stack(losses).mean()


def test_both_contrasts_are_their_formulas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop_run(tmp_path, "UniSRec", **SMALL, stage="pretrain", **{"lambda": 0.4})
    model, batch = run.model, next(iter(run.train))[:12]
    telling(model)
    histories, lengths = batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN]
    labels = batch[model.POS_ITEM_ID].tolist()
    assert len(set(labels)) < len(labels)
    monkeypatch.setattr(unisrec, "drop_items", lambda rows, counts, share: (rows * (rows > 3), (rows > 3).sum(1)))
    whole = [row[:n] for row, n in zip(histories.tolist(), lengths.tolist(), strict=True)]
    keep = [row for row, items in enumerate(whole) if all(item > 3 for item in items)]  # right-padded they must be
    batch, whole, labels = batch[torch.tensor(keep)], [whole[k] for k in keep], [labels[k] for k in keep]
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    features = torch.from_numpy(model.features.numpy()).double()
    users = [plain.user_vector(weights, features, items, 1, 2) for items in whole]
    items = [plain.item_vector(weights, features[label], label) for label in labels]
    wanted = contrast(users, [item / item.norm() for item in items], labels) + 0.4 * contrast(users, users, labels)
    found = model.calculate_loss(batch)
    torch.testing.assert_close(found, wanted)
    found.backward()
    gradient = torch.autograd.grad(wanted, weights["adaptor.experts.0.weight"])[0]
    torch.testing.assert_close(model.adaptor.experts[0].weight.grad, gradient)
    assert math.isfinite(found.item())


def test_its_best_model_alone_is_not_gone_on_from(tmp_path: Path) -> None:
    """RecBole's trainer writes it, without random numbers and the rest that goes on."""
    write_pattern_shop(tmp_path)
    given = {**TINY, **SMALL, "data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved"), "epochs": 1}
    given |= {"stage": "pretrain", "pretrain_checkpoint_every": 0}
    best = Path(run_recbole("UniSRec", NAME, config_dict=given)["saved_model_file"])
    last = best.with_name(f"{best.stem}-last.safetensors")
    kept = last.read_bytes()
    last.unlink()
    with pytest.raises(UserError, match=r"-last\.safetensors is not there, and nothing goes on from .* alone"):
        run_recbole("UniSRec", NAME, config_dict=given)
    assert best.is_file()
    last.write_bytes(kept)
    assert run_recbole("UniSRec", NAME, config_dict=given)["saved_model_file"] == str(best)


def test_pretrained_and_fine_tuned(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    given = {**TINY, **SMALL, "data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved"), "epochs": 2}
    first = run_recbole("UniSRec", NAME, config_dict={**given, "stage": "pretrain", "pretrain_checkpoint_every": 1})
    assert len(first["epoch_checkpoints"]) == 2
    assert "--model=UniSRec" in first["next_command"]
    assert f"--pretrained={first['saved_model_file']}" in first["next_command"]
    before = read(first["saved_model_file"])["state_dict"]
    assert "item_embedding.weight" not in before
    second = run_recbole("UniSRec", NAME, config_dict={**given, "pretrained": first["saved_model_file"]})
    after = read(second["saved_model_file"])["state_dict"]
    moved = {name.partition(".")[0] for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert moved == {"adaptor", "norm"}
    assert "item_embedding.weight" in after
    for changes, message in (
        ({"n_exps": 3}, "does not fit, set sizes and features as there: n_exps=2 there, 3 here"),
        (
            {"hidden_size": 32, "n_exps": 3, "MAX_ITEM_LIST_LENGTH": 7},
            "as there: hidden_size=16 there, 32 here; n_exps=2 there, 3 here; MAX_ITEM_LIST_LENGTH=",
        ),
        ({"n_heads": 1}, "does not fit, set sizes and features as there: n_heads=2 there, 1 here"),
        (
            {"is_modality_bias": False, "frozen": ["adaptor", "encoder", "position_embedding", "norm"]},
            "leaves nothing to train; leave something out, or set epochs: 0",
        ),
        ({"frozen": ["encodr"]}, "frozen: 'encodr' is no part of UniSRec; did you mean 'encoder'"),
        ({"frozen": ["encoder.layers"]}, "frozen: 'encoder.layers' is no part of UniSRec"),
        ({"modalities": ["image"]}, "set sizes and features as there: modalities=['text'] there, ['image'] here"),
        ({"pretrained_layers": 1}, "pretrained_layers=1: UniSRec has no such thing, only MMM4Rec; leave it out"),
        ({"frozen": ["norm"], "unfreeze_after": 1}, "unfreeze_after=1: UniSRec has no such thing, only MMM4Rec"),
        ({"learning_rates": {"norm": 0.1}}, "learning_rates={'norm': 0.1}: UniSRec has no such thing, only MMM4Rec"),
    ):
        with pytest.raises(UserError) as error:
            shop_run(tmp_path, "UniSRec", **{**SMALL, **changes}, pretrained=first["saved_model_file"])
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    on = shop_run(tmp_path, "UniSRec", **SMALL, pretrained=first["saved_model_file"], stage="pretrain").model
    assert all(weight.requires_grad for weight in on.parameters())  # a pre-training that goes on trains everything
    model = shop_run(tmp_path, "UniSRec", **SMALL, pretrained=first["saved_model_file"], frozen=[]).model
    assert all(weight.requires_grad for weight in model.parameters())
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == set(PARTS["UniSRec"])


def untrained(folder: Path, **changes: Any) -> str:
    """The checkpoint of a pre-training before its first step."""
    run = shop_run(folder, "UniSRec", **SMALL, stage="pretrain", **changes)
    run.trainer._save_checkpoint(0, verbose=False)
    return str(run.trainer.saved_model_file)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.update(settings={"pooling": "cls"}),
        lambda made: made.update(hash="of other weights"),
        lambda made: made.update(encoder="sentences"),
    ],
)
def test_features_that_were_made_otherwise(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = untrained(tmp_path)
    for manifest in tmp_path.glob("*/features/text/manifest.json"):
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "encoder_hash": "of these"}))
    content = read(path)
    change(content["config"]["feature_encoders"]["text"])
    write(path, content)
    with pytest.raises(UserError, match="here, or made with other settings or weights of it") as error:
        shop_run(tmp_path, "UniSRec", **SMALL, pretrained=path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ({"text": 5}, "does not fit: what it says of its features (feature_encoders) cannot be read"),
        ({"text": {"encoder": "one-hot", "settings": {}}}, "(feature_encoders) cannot be read"),
        (
            {"text": {"encoder": "one-hot", "hash": None, "settings": {}, "normalized": False}},
            "text features are not normalised in the checkpoint, normalised here",
        ),
    ],
    ids=str,
)
def test_what_a_checkpoint_says_of_its_features(tmp_path: Path, note: dict[str, Any], message: str) -> None:
    path = untrained(tmp_path)
    content = read(path)
    content["config"]["feature_encoders"] = note
    write(path, content)
    with pytest.raises(UserError) as error:
        shop_run(tmp_path, "UniSRec", **SMALL, pretrained=path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_that_is_told_is_accepted(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    places = [f"--dataset={NAME}", f"--data_path={tmp_path}", f"--checkpoint_dir={tmp_path / 'saved'}", "--epochs=1"]
    given = {**TINY, **SMALL, "data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved"), "epochs": 1}
    changes = {"stage": "pretrain", "layer_norm_eps": 1e-5, "hidden_act": "relu"}
    told = run_recbole("UniSRec", NAME, config_dict={**given, **changes})["next_command"]
    words = [word for word in shlex.split(told) if word.startswith("--") and not word.startswith("--dataset")]
    assert main([*words, *places, "--use_gpu=False"]) == 0


def test_another_temperature_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = untrained(tmp_path)
    shop_run(tmp_path, "UniSRec", **SMALL, pretrained=path)
    assert "temperature=" not in caplog.text
    with caplog.at_level(logging.WARNING):
        shop_run(tmp_path, "UniSRec", **SMALL, pretrained=path, temperature=0.5)
    assert f"pretrained: temperature=0.07 in {path}, 0.5 here" in caplog.text


def test_a_pretraining_has_no_ids_that_would_not_be_trained(tmp_path: Path) -> None:
    run = shop_run(tmp_path, "UniSRec", **SMALL, stage="pretrain", is_modality_bias=True)
    run.model.calculate_loss(next(iter(run.train))).backward()
    assert all(weight.grad is not None for weight in run.model.parameters())
    tuned = shop_run(tmp_path, "UniSRec", **SMALL, pretrained=untrained(tmp_path, is_modality_bias=True))
    assert tuned.model.item_embedding is not None


def test_ids_that_are_not_there_may_be_frozen(tmp_path: Path) -> None:
    """As of MMM4Rec: the same settings serve a run with IDs and one without."""
    for with_ids in (True, False):
        model = shop_run(tmp_path, "UniSRec", **SMALL, frozen=["item_embedding"], is_modality_bias=with_ids).model
        fixed = {name for name, weight in model.named_parameters() if not weight.requires_grad}
        assert fixed == ({"item_embedding.weight"} if with_ids else set())


def contrasts(folder: str, fields: dict[str, list[Any]], size: int) -> tuple[float, list[float]]:
    """Loss and gradient of a pre-training on a batch, of which each process has its part, without anything drawn."""
    model = shop_run(Path(folder), "UniSRec", **SMALL, stage="pretrain", item_drop_ratio=0.0, **place()).model
    telling(model)
    parts = torch.arange(size).tensor_split(group.world())
    part = parts[group.rank()]
    batch = Interaction({name: torch.tensor(values) for name, values in fields.items()})[part]
    with joint.batch_of([len(rows) for rows in parts]):
        loss = model.calculate_loss(batch) * (len(part) / size)
    loss.backward()
    if group.active():
        joint.sum_gradients(model.parameters())
    gradients = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return group.total(loss.item()), torch.cat(gradients).tolist()


def test_processes_contrast_the_joint_batch(tmp_path: Path) -> None:
    batch = next(iter(shop_run(tmp_path, "UniSRec", **SMALL, stage="pretrain").train))[:11]
    given = (str(tmp_path), {name: values.tolist() for name, values in batch.interaction.items()}, 11)
    loss, gradient = contrasts(*given)
    processes = Pair(tmp_path)
    try:
        for found, summed in processes(contrasts, *given):
            assert found == pytest.approx(loss, rel=1e-9)
            assert summed == pytest.approx(gradient, rel=1e-6, abs=1e-9)
    finally:
        processes.close()


def test_another_models_checkpoint(kiosk: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a checkpoint of MMM4Rec; give one of UniSRec"):
        shop_run(tmp_path, "UniSRec", **SMALL, pretrained=str((kiosk / "checkpoint").resolve()))
