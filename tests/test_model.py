"""MMM4Rec as a RecBole model: it learns, its scores agree with each other, and RecBole's own doors lead to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pattern_shop import ITEMS, NAME, pattern_settings, prepared, write_pattern_shop
from recbole.evaluator.collector import Collector, DataStruct

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run.quick_start import load_data_and_model, run_recbole

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.parametrize(
    ("modalities", "hit"),
    [(["text", "image"], 0.9), (["text"], 0.9), (["image"], 0.9)],
)
def test_learns_a_known_pattern(tmp_path: Path, modalities: list[str], hit: float) -> None:
    write_pattern_shop(tmp_path)
    result = run_recbole("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path, modalities=modalities, epochs=25))
    assert result["test_result"]["hit@1"] >= hit  # by the features and the ID tables; chance is 1 / 30


def test_features_alone_tell_what_they_hold(tmp_path: Path) -> None:
    """Without ID tables the text alone knows the shape, one of six items; both modalities know the item."""
    write_pattern_shop(tmp_path)
    hits = {}
    for name, modalities in (("text", ["text"]), ("both", ["text", "image"])):
        changes = pattern_settings(tmp_path, modalities=modalities, is_modality_bias=False, epochs=25)
        hits[name] = run_recbole("MMM4Rec", NAME, config_dict=changes)["test_result"]["hit@1"]
    assert hits["both"] >= 0.9
    assert hits["text"] <= 0.5


def test_missing_images_still_rank_sensibly(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path, users=80, missing_images=0.3)
    result = run_recbole("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path, epochs=25))
    assert result["test_result"]["hit@1"] >= 0.8
    assert result["test_result"]["hit@10"] >= 0.95


@pytest.mark.parametrize("missing_images", [0.0, 0.3])
@pytest.mark.parametrize("is_time", [True, False])
def test_pairwise_scores_are_columns_of_the_full_scores(tmp_path: Path, missing_images: float, is_time: bool) -> None:
    run = prepared(tmp_path, missing_images, is_time=is_time)
    run.model.eval()
    batch = next(iter(run.test))[0]
    with torch.no_grad():
        full = run.model.full_sort_predict(batch)
        pair = run.model.predict(batch)
    assert full.shape == (len(batch), len(ITEMS) + 1)
    assert torch.isinf(full[:, 0]).all()
    column = full.gather(1, batch["item_id"].unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(pair, column, rtol=1e-5, atol=1e-5)


def test_the_cached_item_side_follows_the_weights(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    run.model.eval()
    batch = next(iter(run.test))[0]
    with torch.no_grad():
        before = run.model.full_sort_predict(batch)
        torch.testing.assert_close(run.model.full_sort_predict(batch), before, rtol=0, atol=0)
        run.model.network.items.bias["text"].add_(torch.randn_like(run.model.network.items.bias["text"]))
        after = run.model.full_sort_predict(batch)
    assert (after[:, 1:] - before[:, 1:]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss_type": "BPR"}, ["loss_type", "BPR", "CE"]),
        ({"label_smoothing": 1.5}, ["label_smoothing", "1.5"]),
        ({"n_groups": 3}, ["n_groups", "3"]),
        ({"MAX_ITEM_LIST_LENGTH": 2}, ["MAX_ITEM_LIST_LENGTH", "2", "d_conv"]),
        ({"ssd_backend": "mamba"}, ["ssd_backend", "mamba", "mamba_ssm"]),
        ({"temperature": 0}, ["temperature"]),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)


def test_a_saved_model_gives_the_same_scores(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    result = run_recbole("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path, epochs=2))
    config, model, dataset, _, _, test = load_data_and_model(result["saved_model_file"])
    assert (config["model"], dataset.item_num) == ("MMM4Rec", len(ITEMS) + 1)
    model.eval()
    hits = 0
    with torch.no_grad():
        for batch, _, _, labels in test:
            hits += int((model.full_sort_predict(batch).argmax(1) == labels).sum())
    assert round(hits / 40, 4) == result["test_result"]["hit@1"]


def test_sampled_evaluation_runs(tmp_path: Path) -> None:
    """RecBole's evaluation against sampled items goes through ``predict``."""
    write_pattern_shop(tmp_path)
    changes = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni10", "group_by": "user"}
    result = run_recbole("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path, epochs=25, eval_args=changes))
    assert result["test_result"]["hit@1"] >= 0.9


def test_hyper_tuning_finds_the_model_by_name(tmp_path: Path) -> None:
    """RecBole's own tuner, through RecBole's own names."""
    from recbole.quick_start import objective_function
    from recbole.trainer import HyperTuning

    write_pattern_shop(tmp_path)
    settings = tmp_path / "fixed.yaml"
    fixed = pattern_settings(tmp_path, epochs=1, model="MMM4Rec", dataset=NAME, state="ERROR")
    settings.write_text(yaml.safe_dump(fixed))
    space = tmp_path / "space.hyper"
    space.write_text("learning_rate choice [0.01,1e-9]\n")
    tuning = HyperTuning(
        objective_function, algo="exhaustive", params_file=str(space), fixed_config_file_list=[str(settings)]
    )
    tuning.run()
    assert len(tuning.params2result) == 2
    assert tuning.best_params == {"learning_rate": 0.01}


def test_the_model_is_known_in_a_spawned_process(tmp_path: Path) -> None:
    """The child is a new interpreter that imports only what it unpickles."""
    write_pattern_shop(tmp_path)
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    arguments = {
        "model": "MMM4Rec",
        "dataset": NAME,
        "config_dict": pattern_settings(tmp_path, epochs=1, state="ERROR"),
        "saved": False,
        "queue": queue,
    }
    child = context.Process(target=run_recbole, kwargs=arguments)
    child.start()
    child.join(timeout=600)
    assert child.exitcode == 0
    assert set(queue.get()["test_result"]) == {"hit@1", "hit@10", "ndcg@1", "ndcg@10", "mrr@1", "mrr@10"}


def test_metrics_of_coverage_and_popularity(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    metrics = ["Hit", "ItemCoverage", "GiniIndex", "ShannonEntropy", "AveragePopularity", "TailPercentage"]
    result = run_recbole("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path, epochs=1, metrics=metrics))
    assert 0 < result["test_result"]["itemcoverage@10"] <= 1


def test_a_long_evaluation_is_not_copied_with_every_batch() -> None:
    collector = Collector.__new__(Collector)
    collector.data_struct = DataStruct()
    parts = [torch.full((2, 3), at) for at in range(4)]
    for part in parts:
        collector.data_struct.update_tensor("rec.topk", part)
    assert [torch.equal(*pair) for pair in zip(collector.data_struct["rec.topk"], parts, strict=True)] == [True] * 4
    assert torch.equal(collector.get_data_struct().get("rec.topk"), torch.cat(parts))
    assert "rec.topk" not in collector.data_struct


def test_more_places_than_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"topk=\[1000\]: .* only 30 candidate items"):
        prepared(tmp_path, topk=[1000], valid_metric="Hit@1000")


def test_runs_of_the_same_second_keep_their_own_checkpoints(tmp_path: Path) -> None:
    files = {prepared(tmp_path).trainer.saved_model_file for _ in range(3)}
    assert len(files) == 3


def test_a_saved_data_set_is_split_anew_when_the_split_changes(tmp_path: Path) -> None:
    sizes = []
    for split in ({"LS": "valid_and_test"}, {"RS": [0.5, 0.2, 0.3]}):
        arguments = {"split": split, "order": "TO", "group_by": "user", "mode": "full"}
        sizes.append(len(prepared(tmp_path, save_dataset=True, eval_args=arguments).test._dataset))
    assert sizes[0] != sizes[1]
