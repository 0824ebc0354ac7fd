"""The Trainer: optimiser, accumulation, clipping, schedule, mixed precision, checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import prepared
from torch import nn

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.training import optim

pytestmark = pytest.mark.usefixtures("own_folder")


def weights_after_an_epoch(folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    run = prepared(folder, shuffle=False, **changes)
    run.model.double()
    run.trainer._train_epoch(run.train, 0)
    return {name: weight.detach().clone() for name, weight in run.model.named_parameters()}


def test_accumulation_equals_the_large_batch(tmp_path: Path) -> None:
    """Also at the end of an epoch, where the last batch and the last group are smaller."""
    samples = prepared(tmp_path).train.sample_size
    assert samples % 16
    assert samples % 48
    large = weights_after_an_epoch(tmp_path, train_batch_size=48, accumulation_steps=1)
    small = weights_after_an_epoch(tmp_path, train_batch_size=16, accumulation_steps=3)
    for name, weight in large.items():
        torch.testing.assert_close(small[name], weight, rtol=1e-7, atol=1e-9, msg=name)


def test_groups_spare_what_is_no_weight(tmp_path: Path) -> None:
    model = prepared(tmp_path).model
    decayed, spared = optim.parameter_groups(model, 0.1, decay_norms=False)
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    for weight in spared["params"]:
        assert names[id(weight)].endswith(("bias", "norm.weight", "A_log", "D_skip", "dt_bias", "norm_weight")) or (
            names[id(weight)].startswith(("network.input_norm", "network.items.missing"))
        )
    kept = {names[id(weight)] for weight in decayed["params"]}
    assert {
        "network.items.bias.text",
        "network.layers.0.ssd.in_proj.weight",
        "network.layers.0.ssd.conv.weight",
    } <= kept
    assert not any(name.endswith(("A_log", "D_skip", "dt_bias", "norm.weight", "in_proj.bias")) for name in kept)
    (everything,) = optim.parameter_groups(model, 0.1, decay_norms=True)
    assert len(everything["params"]) == len(names)


@pytest.mark.parametrize(
    ("learner", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("nadam", torch.optim.NAdam)]
)
def test_learners_are_pytorchs_own(learner: str, kind: type) -> None:
    weight = nn.Parameter(torch.ones(3, 2))
    twin = nn.Parameter(torch.ones(3, 2))
    ours = optim.build_optimizer([{"params": [weight], "weight_decay": 0.1}], learner, 0.01, decoupled=True)
    extra = {"decoupled_weight_decay": True} if learner == "nadam" else {}
    theirs = kind([twin], lr=0.01, weight_decay=0.1, **extra)
    for step in range(3):
        for parameter, optimizer in ((weight, ours), (twin, theirs)):
            parameter.grad = torch.full_like(parameter, 0.5 - step)
            optimizer.step()
    assert torch.equal(weight, twin)


def test_decoupled_decay_matters_for_nadam() -> None:
    def moved(decoupled: bool) -> float:
        weight = nn.Parameter(torch.full((1, 1), 2.0))
        groups = [{"params": [weight], "weight_decay": 0.5}]
        optimizer = optim.build_optimizer(groups, "nadam", 0.1, decoupled)
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        return float(weight.detach())

    assert moved(True) == pytest.approx(2.0 * (1 - 0.1 * 0.5))  # with no gradient only the decay moves the weight
    assert moved(False) != pytest.approx(moved(True))


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [
        ("constant", 0, 0.25),  # warm-up: (0 + 1) / 4
        ("constant", 3, 1.0),
        ("constant", 50, 1.0),
        ("linear", 4, 1.0),
        ("linear", 12, 0.1 + 0.9 * 0.5),  # half of the 16 steps after the warm-up
        ("linear", 20, 0.1),
        ("linear", 99, 0.1),
        ("cosine", 12, 0.1 + 0.9 * 0.5),
        ("cosine", 8, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))),
        ("cosine", 20, 0.1),
    ],
)
def test_schedule(schedule: str, step: int, factor: float) -> None:
    assert optim.learning_rate_factor(step, schedule, 4, 20, 0.1) == pytest.approx(factor)


def test_schedule_moves_the_learning_rate(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=2, lr_schedule="linear", warmup_steps=2, train_batch_size=32)
    rates = []
    for epoch in range(2):
        run.trainer._train_epoch(run.train, epoch)
        rates.append(run.trainer.optimizer.param_groups[0]["lr"])
    steps = 2 * len(run.train)
    halfway = 1 - (steps // 2 - 2) / (steps - 2)
    assert rates == pytest.approx([0.01 * halfway, 0.0])
    assert run.trainer.optimizer_step == steps


def test_schedule_goes_on_after_a_resumed_checkpoint(tmp_path: Path) -> None:
    changes = {"epochs": 3, "lr_schedule": "cosine", "warmup_steps": 2, "train_batch_size": 32}
    whole = prepared(tmp_path, **changes)
    rates = []
    for epoch in range(3):
        whole.trainer._train_epoch(whole.train, epoch)
        rates.append(whole.trainer.optimizer.param_groups[0]["lr"])
        if epoch == 0:
            whole.trainer._save_checkpoint(0, verbose=False)
    resumed = prepared(tmp_path, **changes)
    resumed.trainer.resume_checkpoint(whole.trainer.saved_model_file)
    resumed.trainer._train_epoch(resumed.train, 1)
    assert resumed.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(rates[1])


def test_clipping_sees_unscaled_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under float16 the gradients carry the scaler's factor, here 256; the norm that is clipped must not."""
    norms = []

    def watched(parameters: Any, max_norm: float) -> torch.Tensor:
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norms.append(float(norm))
        return norm

    monkeypatch.setattr("recbole_mmm4rec.training.trainer.clip_grad_norm_", watched)
    clipping = {"clip_grad_norm": {"max_norm": 1.0}, "train_batch_size": 512}
    plain = prepared(tmp_path, **clipping)
    plain.trainer._train_epoch(plain.train, 0)
    half = prepared(tmp_path, **clipping, enable_amp=True, amp_dtype="float16")
    half.trainer.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    half.trainer._train_epoch(half.train, 0)
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


def test_only_float16_is_scaled(tmp_path: Path) -> None:
    assert prepared(tmp_path, enable_amp=True, amp_dtype="float16").trainer.scaler.is_enabled()
    assert not prepared(tmp_path, enable_amp=True, amp_dtype="bfloat16").trainer.scaler.is_enabled()
    assert not prepared(tmp_path, amp_dtype="float16").trainer.scaler.is_enabled()


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    run = prepared(tmp_path, clip_grad_norm={"max_norm": 1e-3}, train_batch_size=512)
    run.trainer._train_epoch(run.train, 0)
    gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
    assert float(nn.utils.get_total_norm(gradients)) <= 1e-3 * 1.01


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_trains_and_evaluates(tmp_path: Path, dtype: str) -> None:
    run = prepared(tmp_path, enable_amp=True, amp_dtype=dtype, epochs=25)
    seen: list[torch.dtype] = []
    hook = run.model.network.layers[0].ffn.fc1.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    run.trainer.fit(run.train, run.valid, saved=False)
    seen.clear()
    result = run.trainer.evaluate(run.test, load_best_model=False)
    hook.remove()
    assert set(seen) == {getattr(torch, dtype)}  # evaluation runs in the same precision
    assert result["hit@1"] >= 0.9


def test_scores_of_mixed_precision_are_float32(tmp_path: Path) -> None:
    run = prepared(tmp_path, enable_amp=True)
    run.model.eval()
    batch = next(iter(run.test))[0]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert run.model.full_sort_predict(batch).dtype == torch.float32


def test_early_stopping_ends_a_training_that_stands_still(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=50, stopping_step=2, learning_rate=1e-12, eval_step=1, valid_metric="MRR@10")
    epochs: list[int] = []
    run.trainer.fit(run.train, run.valid, saved=False, callback_fn=lambda epoch, _: epochs.append(epoch))
    # a tie counts as an improvement in RecBole, so only a metric that falls stops it; nothing moves here
    assert epochs[-1] == 49
    run = prepared(tmp_path, epochs=50, stopping_step=2, learning_rate=0.01)
    falling = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    run.trainer._valid_epoch = lambda *_, **__: (next(falling), {"hit@10": 0.0})
    epochs.clear()
    run.trainer.fit(run.train, run.valid, saved=False, callback_fn=lambda epoch, _: epochs.append(epoch))
    assert epochs[-1] == 3  # the third miss is more than stopping_step: 2


def test_progress_bar_shows_loss_and_speed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = prepared(tmp_path)
    run.trainer._train_epoch(run.train, 0, show_progress=True)
    shown = capfd.readouterr().err
    assert "loss" in shown
    assert "samples/s" in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learner": "nadm"}, ["learner", "nadm", "nadam"]),
        ({"learning_rate": 0.0}, ["learning_rate", "0.0"]),
        ({"accumulation_steps": 0}, ["accumulation_steps", "0"]),
        ({"accumulation_steps": 1.5}, ["accumulation_steps", "1.5"]),
        ({"lr_schedule": "cosin"}, ["lr_schedule", "cosin", "cosine"]),
        ({"warmup_steps": -1}, ["warmup_steps", "-1"]),
        ({"lr_floor": 2.0}, ["lr_floor", "2.0"]),
        ({"amp_dtype": "float8"}, ["amp_dtype", "float8", "bfloat16"]),
    ],
)
def test_training_keys_are_checked(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, **changes)
    assert all(word in str(caught.value) for word in words)
