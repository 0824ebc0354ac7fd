"""What the field knows to help, off by default: schedules, averaged weights, a contrastive start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import NAME, prepared, train_and_be_killed, write_pattern_shop
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run import cli
from recbole_mmm4rec.training.contrastive import contrastive_start, pair_loss
from recbole_mmm4rec.training.epochs import epoch_share

pytestmark = pytest.mark.usefixtures("own_folder")


def weights_of(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize(
    ("epoch", "start", "epochs", "share"),
    [(0, 0.2, 4, 0.2), (1, 0.2, 4, 0.4), (4, 0.2, 4, 1.0), (9, 0.2, 4, 1.0), (0, 0.2, 0, 1.0), (1, 2.0, 2, 1.5)],
)
def test_the_share_of_an_epoch(epoch: int, start: float, epochs: int, share: float) -> None:
    assert epoch_share(epoch, start, epochs) == pytest.approx(share)


def test_dropouts_and_temperature_arrive_at_their_values(tmp_path: Path) -> None:
    drops = dict.fromkeys(("embedding_drop_prob", "dropout_prob", "time_dropout_prob"), 0.4)
    run = prepared(
        tmp_path, epochs=4, dropout_start=0.0, temperature=0.8, temperature_start=0.4, schedule_epochs=2, **drops
    )
    network, seen = run.model.network, []
    train = run.trainer._step

    def noted(*args: Any) -> Any:
        found = {part.drop for part in network.modules() if isinstance(getattr(part, "drop", None), float)}
        seen.append((run.trainer.epoch_schedule.epochs, found, round(network.items.heat, 6)))
        return train(*args)

    run.trainer._step = noted
    run.trainer.fit(run.train, run.valid, saved=False)
    kept = [entry[1:] for place, entry in enumerate(seen) if not place or entry != seen[place - 1]]
    assert kept == [({0.0}, 0.5), ({0.2}, 0.75), ({0.4}, 1.0)]


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    decay, epochs = 0.7, 3
    run = prepared(tmp_path, epochs=epochs, weight_average=decay, stopping_step=100)
    network, trainer = run.model.network, run.trainer
    average: dict[str, Tensor] = {}
    after, validated = [], []
    step, validate = trainer._step, trainer._valid_epoch

    def noted_step(*args: Any) -> Any:
        found = step(*args)
        weights = weights_of(network)
        for name, weight in weights.items():
            average[name] = decay * average[name] + (1 - decay) * weight if name in average else weight
        after.append(weights)
        return found

    def noted_validation(*args: Any, **kwargs: Any) -> Any:
        validated.append(weights_of(network))
        for name, weight in average.items():
            torch.testing.assert_close(validated[-1][name], weight, rtol=1e-5, atol=1e-6, msg=name)
        return validate(*args, **kwargs)

    trainer._step, trainer._valid_epoch = noted_step, noted_validation
    trainer.fit(run.train, run.valid)
    assert len(validated) == epochs
    name = "layers.0.ssd.in_proj.weight"
    assert not torch.allclose(validated[-1][name], after[-1][name], atol=1e-5)
    best = max(trainer.valid_history, key=lambda entry: (entry.result["hit@10"], entry.epoch)).epoch
    kept = torch.load(trainer.saved_model_file, weights_only=False)["state_dict"]
    assert torch.equal(kept[f"network.{name}"], validated[best - 1][name])
    trainer.evaluate(run.test)  # of the best one, which is put into the model
    assert torch.equal(weights_of(network)[name], validated[best - 1][name])


@pytest.mark.parametrize("way", [{"stage": "pretrain"}, {"resume": True}], ids=["pretrain", "resume"])
def test_averaged_schedules_go_on_as_if_nothing_had_happened(tmp_path: Path, way: dict[str, Any]) -> None:
    changes = {"epochs": 4, "weight_average": 0.8, "temperature_start": 0.4, "schedule_epochs": 3, "seed": 3}
    changes = {**changes, "contrastive_epochs": 2, "stopping_step": 100, **way}
    write_pattern_shop(tmp_path / "killed")
    train_and_be_killed(tmp_path / "killed", 2, **changes)
    found = []
    for folder in ("killed", "whole"):
        run = prepared(tmp_path / folder, **changes)
        run.trainer.fit(run.train, run.valid)
        found.append(run)
    again, whole = found
    assert 0 < again.trainer.start_epoch < 3
    results = [[entry.result for entry in run.trainer.valid_history] for run in found]
    if "resume" in way:  # which also keeps the order of the samples
        assert results[0] == results[1]
        for name, weight in weights_of(whole.model).items():
            torch.testing.assert_close(weights_of(again.model)[name], weight, msg=name)
    else:
        assert len(results[0]) == len(results[1])
        assert results[0][:2] == results[1][:2]
    for part in ("averaging", "epoch_schedule"):
        assert getattr(again.trainer, part) is not None


def accuracy(run: Any) -> float:
    """Share of the items whose picture is the nearest one to their text."""
    vectors = run.model.network.items.vectors(slice(1, None))
    text, image = (torch.nn.functional.normalize(part.detach(), dim=1) for part in vectors.values())
    return float(((text @ image.T).argmax(1) == torch.arange(len(text))).float().mean())


def test_a_contrastive_start_lets_text_and_picture_find_each_other(tmp_path: Path) -> None:
    """On features of which each says the same in its own way."""
    run = prepared(tmp_path)
    items = run.model.network.items
    draw = torch.Generator().manual_seed(0)
    meaning = torch.randn(items.rows, 6, generator=draw)
    for table in items.features.values():
        table.values = meaning @ torch.randn(6, table.values.shape[1], generator=draw)
        table.index = None
    before, order = accuracy(run), torch.get_rng_state()
    others = {name: weight for name, weight in weights_of(run.model).items() if "adapter" not in name}
    contrastive_start(items, 200, seed=1, show_progress=False)
    assert before < 0.3
    assert accuracy(run) > 0.8
    assert torch.equal(torch.get_rng_state(), order)
    for name, weight in others.items():
        assert torch.equal(dict(run.model.named_parameters())[name], weight), name
    assert all(weight.grad is None for weight in items.parameters())


def test_the_loss_of_pairs() -> None:
    text, image = torch.eye(3), torch.eye(3)[[0, 2, 1]]
    wanted = -torch.log_softmax(torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]) / 0.07, 1).diagonal().mean()
    torch.testing.assert_close(pair_loss(5 * text, image), wanted)


def test_it_happens_before_the_first_epoch_and_items_without_a_picture_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = prepared(tmp_path, 0.3, epochs=2, contrastive_epochs=3)
    with caplog.at_level("INFO"):
        run.trainer.fit(run.train, run.valid, saved=False)
    told = [record.message for record in caplog.records if "contrastive start" in record.message]
    assert len(told) == 1
    assert told[0].endswith("after 3 epochs, 21 items")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contrastive_epochs": 1, "modalities": ["text"]}, "contrastive_epochs=1: it needs items with text and pict"),
        ({"contrastive_epochs": 1, "frozen": ["adapters"]}, "contrastive_epochs=1: the adapters are frozen"),
        ({"dropout_start": 0.5}, "dropout_start=0.5: it needs schedule_epochs"),
        ({"temperature_start": 0.5}, "temperature_start=0.5: it needs schedule_epochs"),
        ({"dropout_start": 3, "schedule_epochs": 2, "dropout_prob": 0.4}, "lower it to below 2.5"),
        ({"weight_average": 1}, "weight_average=1: it must be a number from 0 to below 1"),
        ({"schedule_epochs": -1}, "schedule_epochs=-1: it must be a whole number, at least 0"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, **changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_command_with_all_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pattern_shop(tmp_path)
    options = {
        "whitening": "zca",
        "adapter_experts": 2,
        "cosine_scores": True,
        "temperature": 0.1,
        "temperature_start": 0.2,
        "dropout_start": 0.5,
        "schedule_epochs": 2,
        "weight_average": 0.5,
        "contrastive_epochs": 1,
    }
    sizes = {"hidden_size": 16, "d_state": 4, "n_groups": 2, "head_dim": 8, "MAX_ITEM_LIST_LENGTH": 6, "epochs": 3}
    words = [f"--{key}={value}" for key, value in {**options, **sizes, "data_path": tmp_path}.items()]
    assert cli.main(["--model=MMM4Rec", f"--dataset={NAME}", f"--checkpoint_dir={tmp_path / 'saved'}", *words]) == 0
    assert "MMM4Rec on pattern" in capsys.readouterr().out
