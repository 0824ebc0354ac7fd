"""Weights from a checkpoint: what is taken over, and what is said about one that does not fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from breaking import broken_off
from network.models import golden, part
from pattern_shop import NAME, pattern_settings, prepared, write_pattern_shop
from shop import settings, write_shop
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read, write
from recbole_mmm4rec.run import quick_start
from recbole_mmm4rec.run.build import Run
from recbole_mmm4rec.transfer.published import our_name

pytestmark = pytest.mark.usefixtures("own_folder")

UNTOUCHED = {f"network.items.missing.{modality}" for modality in ("text", "image")}
"""What no training of a shop moves whose items have both."""


def source(folder: Path, **changes: Any) -> tuple[Path, Run]:
    """A checkpoint whose weights are telling, without training, and the run that it is of."""
    run = prepared(folder / "source", is_modality_bias=False, **changes)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in run.model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    run.trainer._save_checkpoint(0, verbose=False)
    return Path(run.trainer.saved_model_file), run


def target(folder: Path, users: int = 4, **changes: Any) -> Run:
    """A run on a shop with fewer items."""
    home = folder / "target"
    if not home.exists():
        write_pattern_shop(home, users=users, seed=1)
    return prepared(home, **changes)


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        target(folder, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(path: Path, change: Any) -> str:
    """A copy of a checkpoint with something changed."""
    content = read(path)
    change(content)
    copy = path.with_name("changed.safetensors")
    write(copy, content)
    return str(copy)


def test_everything_but_the_items_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, old = source(tmp_path, item_mm_fusion="dynamic_instance")
    with caplog.at_level(logging.INFO):
        new = target(tmp_path, pretrained=str(path), item_mm_fusion="dynamic_instance")
    assert new.dataset.item_num < old.dataset.item_num
    weights = dict(old.model.named_parameters())
    own = {"network.items.bias.text", "network.items.bias.image", "network.items.fusion"}
    for name, weight in new.model.named_parameters():
        if name in own:
            assert not weight.any()
        else:
            assert torch.equal(weight, weights[name]) is (name not in UNTOUCHED)
    assert new.trainer.transferred == {name for name, _ in new.model.named_parameters()} - own - UNTOUCHED
    missing = "items.missing.image, items.missing.text"
    assert f"new: items.bias.image, items.bias.text, items.fusion, {missing}; left out: items.fusion" in caplog.text


def test_without_training_the_scores_are_the_same(tmp_path: Path) -> None:
    """On the shop that it comes from, with ID tables that are zero at first."""
    path, old = source(tmp_path)
    new = prepared(tmp_path / "source", pretrained=str(path))
    batch = next(iter(old.test))[0]
    scores = []
    for run in (old, new):
        run.model.eval()
        with torch.no_grad():
            scores.append(run.model.full_sort_predict(batch)[:, 1:])
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-6, atol=1e-6)


def test_shared_fusion_weights_are_taken_where_both_have_them(tmp_path: Path) -> None:
    path, old = source(tmp_path, item_mm_fusion="dynamic_shared")
    new = target(tmp_path, pretrained=str(path), item_mm_fusion="dynamic_shared")
    assert torch.equal(new.model.network.items.fusion, old.model.network.items.fusion)
    assert "network.items.fusion" not in target(tmp_path, pretrained=str(path)).trainer.transferred


@pytest.mark.parametrize("there", ["static", "dynamic_shared", "dynamic_instance"])
@pytest.mark.parametrize("here", ["static", "dynamic_shared", "dynamic_instance"])
def test_any_fusion_starts_from_any_other(tmp_path: Path, there: str, here: str) -> None:
    path, _ = source(tmp_path, item_mm_fusion=there)
    taken = target(tmp_path, pretrained=str(path), item_mm_fusion=here).trainer.transferred
    assert ("network.items.fusion" in taken) == (there == here == "dynamic_shared")


def test_zero_shot_reports_the_new_shop(tmp_path: Path) -> None:
    path, _ = source(tmp_path)
    write_pattern_shop(tmp_path / "new")
    changes = pattern_settings(tmp_path / "new", pretrained=str(path), epochs=0, is_modality_bias=False)
    result = quick_start.run_recbole("MMM4Rec", NAME, config_dict=changes)
    (before,) = result["valid_history"]
    assert (before.epoch, before.loss, result["best_epoch"]) == (0, None, 0)
    assert dict(result["best_valid_result"]) == before.result
    assert result["test_result"]["hit@10"] >= 0
    kept = read(result["saved_model_file"])["state_dict"]
    wanted = read(path)["state_dict"]
    assert all(torch.equal(kept[name], weight) for name, weight in wanted.items() if name not in UNTOUCHED)


def test_fine_tuning_begins_with_the_metrics_before_it(tmp_path: Path) -> None:
    path, _ = source(tmp_path)
    run = target(tmp_path, pretrained=str(path), epochs=1)
    run.trainer.fit(run.train, run.valid, saved=False)
    assert [entry.epoch for entry in run.trainer.valid_history] == [0, 1]
    run = target(tmp_path, pretrained=str(path), epochs=1, evaluate_first=False)
    run.trainer.fit(run.train, run.valid, saved=False)
    assert [entry.epoch for entry in run.trainer.valid_history] == [1]


def test_where_no_epoch_is_validated_none_is_the_best_before_it(tmp_path: Path) -> None:
    """The last epoch's model is kept, of which nobody knows whether it is better."""
    path, _ = source(tmp_path)
    write_pattern_shop(tmp_path / "new")
    changes = pattern_settings(tmp_path / "new", pretrained=str(path), epochs=2, eval_step=0)
    result = quick_start.run_recbole("MMM4Rec", NAME, config_dict=changes)
    assert (result["valid_history"], result["best_epoch"]) == ([], 2)
    assert not result["best_valid_result"]


def test_fine_tuning_that_goes_on_is_not_validated_first_again(tmp_path: Path) -> None:
    path, _ = source(tmp_path)
    changes = {"pretrained": str(path), "epochs": 3, "resume": True}
    run = target(tmp_path, **changes)
    broken_off(run, 2)
    files = sorted((tmp_path / "target" / "saved").glob("*"))
    run = target(tmp_path, **changes)
    run.trainer.fit(run.train, run.valid)
    assert [entry.epoch for entry in run.trainer.valid_history] == [0, 1, 2, 3]
    assert sorted((tmp_path / "target" / "saved").glob("*")) == files  # the best model and the note


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_layers": 2}, "num_layers=1 in the checkpoint, 2 here (set num_layers: 1)"),
        ({"MAX_ITEM_LIST_LENGTH": 8}, "MAX_ITEM_LIST_LENGTH=6 in the checkpoint, 8 here (set MAX_ITEM_LIST_LENGTH: 6)"),
        ({"hidden_size": 32}, "hidden_size=16 in the checkpoint, 32 here"),
        ({"inner_size": 8}, "inner_size=16 in the checkpoint, 8 here"),
        ({"d_state": 8, "n_groups": 1}, "d_state=4 in the checkpoint, 8 here (set d_state: 4); n_groups=2 in the"),
        ({"head_dim": 16}, "head_dim=8 in the checkpoint, 16 here"),
        ({"expand": 1}, "expand=2 in the checkpoint, 1 here"),
        ({"d_conv": 3}, "d_conv=4 in the checkpoint, 3 here"),
        ({"is_ffn": False}, "is_ffn=True in the checkpoint, False here"),
        ({"is_time": False}, "is_time=True in the checkpoint, False here"),
        ({"p2p_residual": True}, "p2p_residual=False in the checkpoint, True here"),
        ({"d_skip": "mamba"}, "d_skip=scaled in the checkpoint, mamba here"),
        ({"ablation": "sharing"}, "ablation=none in the checkpoint, sharing here"),
        (
            {"hidden_size": 32, "d_conv": 3, "num_layers": 2},
            "d_conv=4 in the checkpoint, 3 here (set d_conv: 4); hidden",
        ),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path, _ = source(tmp_path)
    message = refusal(tmp_path, pretrained=str(path), **changes)
    assert message.startswith(f"pretrained={str(path)!r} does not fit: ")
    assert words in message


def test_the_length_of_histories_does_not_matter_without_time(tmp_path: Path) -> None:
    path, _ = source(tmp_path, is_time=False)
    assert target(tmp_path, pretrained=str(path), is_time=False, MAX_ITEM_LIST_LENGTH=8).trainer.transferred


def test_what_means_something_else_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, _ = source(tmp_path)
    fusion = {"item_mm_fusion": "dynamic_shared"}
    target(tmp_path, pretrained=str(path), time_padding="zero_stamp", temperature=0.5, norm_eps=1e-5, **fusion)
    for said in ("time_padding=masked", "temperature=0.8", "norm_eps=1e-12", "item_mm_fusion=static"):
        assert f"{said} in {path}, " in caplog.text
    assert "does not say what made" not in caplog.text
    caplog.clear()
    silent = changed(path, lambda content: content["config"].pop("feature_encoders"))
    target(tmp_path, pretrained=silent)
    for modality in ("text", "image"):
        assert f"{silent} does not say what made its {modality} features, which are of one-hot here" in caplog.text
    caplog.clear()
    odd = changed(path, lambda content: content["config"].update(temperature=torch.ones(2)))
    target(tmp_path, pretrained=odd)
    assert "temperature=tensor([1., 1.]) in " in caplog.text


def test_the_first_layers(tmp_path: Path) -> None:
    path, old = source(tmp_path, num_layers=2)
    message = refusal(tmp_path, pretrained=str(path))
    assert "num_layers=2 in the checkpoint, 1 here (set num_layers: 2, or pretrained_layers: 1 for the first" in message
    new = target(tmp_path, pretrained=str(path), pretrained_layers=1)
    weights = dict(old.model.named_parameters())
    assert all(torch.equal(dict(new.model.named_parameters())[name], weights[name]) for name in new.trainer.transferred)
    assert "network.cross_layers.0.cross.out_proj.weight" in new.trainer.transferred
    assert "num_layers=1 in the checkpoint, 2" in refusal(
        tmp_path, pretrained=str(path), pretrained_layers=1, num_layers=2
    )
    assert "has 2; set it to at most 2" in refusal(tmp_path, pretrained=str(path), pretrained_layers=3)


@pytest.mark.parametrize("modality", ["text", "image"])
def test_one_modality_of_two(tmp_path: Path, modality: str, caplog: pytest.LogCaptureFixture) -> None:
    path, old = source(tmp_path)
    new = target(tmp_path, pretrained=str(path), modalities=[modality])
    assert "the cross layers are left out" in caplog.text
    weights = dict(old.model.named_parameters())
    taken = {name for name, _ in new.model.named_parameters()} - {f"network.items.bias.{modality}"} - UNTOUCHED
    assert new.trainer.transferred == taken
    assert all(torch.equal(dict(new.model.named_parameters())[name], weights[name]) for name in taken)


def test_two_modalities_of_one_and_one_of_the_other(tmp_path: Path) -> None:
    path, _ = source(tmp_path, modalities=["text"])
    message = refusal(tmp_path, pretrained=str(path), hidden_size=32)
    assert "modalities=['text'] in the checkpoint, ['text', 'image'] here: the image side" in message
    assert "set modalities: ['text'], or pre-train with both" in message
    assert "hidden_size=16 in the checkpoint, 32 here" in message
    message = refusal(tmp_path, pretrained=str(path), modalities=["image"])
    assert "modalities=['text'] in the checkpoint, ['image'] here (set modalities: ['text'])" in message


def test_features_that_do_not_fit(tmp_path: Path) -> None:
    path, _ = source(tmp_path)
    adapter = "network.items.adapter.text.weight"
    wide = changed(path, lambda content: content["state_dict"].update({adapter: torch.zeros(16, 7)}))
    message = refusal(tmp_path, pretrained=wide)
    assert "text features of one-hot are 7 wide in the checkpoint, 5 here (embed this data set with" in message

    def other(content: dict[str, Any]) -> None:
        content["config"]["feature_encoders"]["image"]["encoder"] = "pixels"

    message = refusal(tmp_path, pretrained=changed(path, other))
    assert "image features are of pixels in the checkpoint, of one-hot here" in message


def test_weights_that_cannot_be_used(tmp_path: Path) -> None:
    path, _ = source(tmp_path)

    def spoil(content: dict[str, Any]) -> None:
        weights = content["state_dict"]
        weights["network.layers.0.norm.weight"][0] = float("nan")
        weights["network.layers.0.extra"] = weights.pop("network.layers.0.ssd.dt_bias")
        weights["network.layers.0.norm.bias"] = torch.zeros(3)

    message = refusal(tmp_path, pretrained=changed(path, spoil))
    assert (
        "missing: layers.0.ssd.dt_bias; left over: layers.0.extra; of another shape: layers.0.norm.bias is (3,), not"
        in (message)
    )
    assert "with NaN or infinite values: layers.0.norm.weight" in message


def published(folder: Path, **extra: Any) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """A published checkpoint with features as wide as the shop's, its weights, and its settings by our keys."""
    config, tensors = golden()
    weights = part(tensors, "model")
    for name, width in (("text_adapter.0.weight", 5), ("vision_adapter.0.weight", 6)):
        weights[name] = weights[name][:, :width].clone()
    path = folder / "published.ckpt"
    torch.save({"model": weights, "epoch": 3, **extra}, path)
    known = ("hidden_size", "inner_size", "num_layers", "d_state", "n_groups", "head_dim", "expand", "d_conv")
    ours = {key: config[key] for key in known if key in config}
    return str(path), weights, {**ours, "MAX_ITEM_LIST_LENGTH": config["max_len"]}


def test_a_published_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, weights, own = published(tmp_path)
    new = target(tmp_path, pretrained=path, **own)
    parameters = dict(new.model.named_parameters())
    left_out = {"items.fusion", "items.bias.text", "items.bias.image", None}
    names = {our_name(name): name for name in weights if our_name(name) not in left_out}
    assert new.trainer.transferred == {f"network.{name}" for name in names}
    for ours, theirs in names.items():
        weight = parameters[f"network.{ours}"]
        assert torch.equal(weight, weights[theirs].view_as(weight))
    assert not parameters["network.items.bias.text"].any()
    assert "time_padding=zero_stamp in " in caplog.text
    message = refusal(tmp_path, pretrained=path, **{**own, "d_state": 2 * own["d_state"], "MAX_ITEM_LIST_LENGTH": 12})
    assert "MAX_ITEM_LIST_LENGTH=10 in the checkpoint, 12 here" in message
    assert "(set n_groups and d_state as in the checkpoint)" in message


def test_a_published_checkpoint_with_more_than_weights(tmp_path: Path) -> None:
    path, weights, own = published(tmp_path)
    weights["bert.pooler"] = torch.zeros(2)
    weights["decoder_ssd_layers.0.ssd.A_log"] = weights["decoder_ssd_layers.0.ssd.A_log"] + 1
    torch.save(weights, path)
    message = refusal(tmp_path, pretrained=path, **own)
    assert "parameters that are not MMM4Rec's: bert.pooler" in message
    assert "copies of shared weights that differ: encoder_ssd_layers.0.ssd.A_log" in message  # the second that is met


def test_checkpoints_of_other_models(tmp_path: Path) -> None:
    write_shop(tmp_path)
    result = quick_start.run_recbole("BPR", "shop", config_dict=settings(tmp_path))
    assert "is a checkpoint of BPR; give one of MMM4Rec" in refusal(tmp_path, pretrained=result["saved_model_file"])
    other = tmp_path / "other.pth"
    torch.save({"model": {"layer.weight": torch.ones(2)}}, other)
    assert "holds other weights; give one of MMM4Rec" in refusal(tmp_path, pretrained=str(other))
    torch.save({"state_dict": {"network.weight": torch.ones(2)}}, other)
    assert "holds other weights; give one of MMM4Rec" in refusal(tmp_path, pretrained=str(other))
    assert "there is no such file" in refusal(tmp_path, pretrained="nothing.pth")
    changes = settings(tmp_path, pretrained=result["saved_model_file"])
    with pytest.raises(UserError, match="BPR has no such thing, only MMM4Rec"):
        quick_start.run_recbole("BPR", "shop", config_dict=changes)
