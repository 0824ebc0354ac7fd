"""Neighbours beside any sequential model, and alone: what is added, where, and where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from counting import plain_addition
from pattern_shop import NAME as PATTERN
from pattern_shop import pattern_settings, write_pattern_shop
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender.sasrec import SASRec
from recbole.utils.case_study import full_sort_scores, full_sort_topk
from shop import settings, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run.build import Run, build, make_config
from recbole_mmm4rec.run.cli import main
from recbole_mmm4rec.run.quick_start import load_data_and_model, run_recbole
from recbole_mmm4rec.scoring.beside import DEFAULTS, alone, named
from recbole_mmm4rec.scoring.neighbours import Counts
from recbole_mmm4rec.settings.defaults import properties_dir

pytestmark = pytest.mark.usefixtures("own_folder")

WEIGHT, WINDOW, DECAY = 3.0, 4, 0.8
THEIRS = {"neighbour_weight": WEIGHT, "neighbour_window": WINDOW, "neighbour_decay": DECAY}
# every way in which RecBole's models score: logits, probabilities, distances, by user, from graphs, with item features
MODELS = [
    *("SASRec", "GRU4Rec", "BERT4Rec", "Caser", "NARM", "STAMP", "SRGNN", "NextItNet", "FPMC", "TransRec", "HGN"),
    *("RepeatNet", "CORE", "LightSANs", "SINE", "SHAN", "NPE"),
]
SPLIT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}
METRICS = {"metrics": ["Hit", "NDCG", "MRR"], "topk": [1, 5], "valid_metric": "NDCG@5", "metric_decimal_place": 9}


def shop_run(folder: Path, model: str, **changes: Any) -> Run:
    """Loaders and an untrained model of a small shop."""
    if not (folder / "shop").exists():
        write_shop(folder)
    return build(make_config(model, "shop", config_dict=settings(folder, **METRICS, **changes)), count_flops=False)


def as_if_trained(run: Run) -> Any:
    run.model.has_trained = True
    run.model.eval()
    return run.model


def scores_of(model: Any, batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """(B, I+1) what the model gives, and what its network alone gives."""
    with torch.no_grad():
        both = model.full_sort_predict(batch)
        with alone(model):
            network = model.full_sort_predict(batch)
    return tuple(scores.view(len(batch), -1).numpy() for scores in (both, network))  # type: ignore[return-value]


def assert_is_a_plain_count(run: Run, batch: Any) -> None:
    model = as_if_trained(run)
    both, network = scores_of(model, batch)
    wanted = plain_addition(run.train._dataset, batch, WINDOW, DECAY, WEIGHT)
    assert (wanted > 0).any()
    assert (wanted == 0).any()
    np.testing.assert_allclose(both[:, 1:], (network + wanted)[:, 1:], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("model", MODELS)
def test_scores_of_a_model_and_a_plain_count(tmp_path: Path, model: str) -> None:
    run = shop_run(tmp_path, model, **THEIRS)
    assert_is_a_plain_count(run, next(iter(run.valid))[0])


@pytest.mark.parametrize("model", ["SASRecF", "FDSA", "GRU4RecF"])
def test_models_of_item_features(tmp_path: Path, model: str) -> None:
    write_pattern_shop(tmp_path)
    changes = {"selected_features": ["text", "image"], "n_heads": 1, "num_layers": 1, **THEIRS}
    given = {**settings(tmp_path, **changes), **METRICS, "embedding_size": 16, "hidden_size": 16}
    run = build(make_config(model, PATTERN, config_dict=given), count_flops=False)
    assert_is_a_plain_count(run, next(iter(run.valid))[0])


@pytest.mark.parametrize("model", ["SASRec", "FPMC", "RepeatNet", "BERT4Rec"])
def test_the_score_of_one_item_is_its_column(tmp_path: Path, model: str) -> None:
    run = shop_run(tmp_path, model, **THEIRS)
    net, batch = as_if_trained(run), next(iter(run.valid))[0]
    both, network = scores_of(net, batch)
    repeated = batch.repeat_interleave(run.dataset.item_num - 1)  # as a sampled evaluation asks
    repeated.update(Interaction({"item_id": torch.arange(1, run.dataset.item_num).repeat(len(batch))}))
    with torch.no_grad():
        found = net.predict(repeated).view(len(batch), -1).numpy()
    np.testing.assert_allclose(found, both[:, 1:], rtol=1e-4, atol=2e-4)
    assert not np.allclose(found, network[:, 1:], rtol=1e-2)


def test_case_studies_rank_by_the_sum(tmp_path: Path) -> None:
    run = shop_run(tmp_path, "SASRec", **THEIRS)
    model, users = as_if_trained(run), [1, 5, 9]
    scores = full_sort_scores(users, model, run.test)
    with alone(model):
        network = full_sort_scores(users, model, run.test)
    assert not torch.equal(scores, network)
    assert torch.equal(full_sort_topk(users, model, run.test, 3)[1], scores.topk(3)[1])


def targets_first(scores: np.ndarray, targets: np.ndarray) -> float:
    """Share of the rows whose target has the highest score."""
    return float((scores[:, 1:].argmax(1) + 1 == targets).mean())


@pytest.mark.parametrize(("model", "mode"), [("SASRec", "full"), ("SASRec", "uni8"), ("Neighbours", "full")])
def test_validation_and_test_rank_by_the_sum(tmp_path: Path, model: str, mode: str) -> None:
    """Hit@1 of an evaluation, from the scores of its own batches and a plain count."""
    own = THEIRS if model == "SASRec" else {}
    run = shop_run(tmp_path, model, **own, eval_args={**SPLIT, "mode": mode})
    run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    for loader in (run.valid, run.test):
        held = loader._dataset.inter_feat[slice(0, len(loader._dataset))]
        both, _ = scores_of(run.model.eval(), held)
        ranked = run.trainer.evaluate(loader, load_best_model=False)["hit@1"]
        first = targets_first(both, held["item_id"].numpy())
        if mode == "full":
            assert ranked == pytest.approx(first)
        else:  # of nine candidates the target is first at least as often
            assert first <= ranked < 1


def test_sampled_evaluation_asks_for_each_history_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop_run(tmp_path, "SASRec", **THEIRS, eval_args={**SPLIT, "mode": "uni8"})
    asked, original = [], Counts.addition
    as_if_trained(run)

    def noted(self: Counts, users: torch.Tensor, *rest: torch.Tensor) -> Any:
        asked.extend(users.tolist())
        return original(self, users, *rest)

    monkeypatch.setattr(Counts, "addition", noted)
    run.trainer.eval_collector.data_collect(run.train)
    run.trainer.evaluate(run.valid, load_best_model=False)
    assert sorted(asked) == sorted(run.valid._dataset.inter_feat["user_id"].tolist())


def test_ready_made_splits_count_their_training_part(tmp_path: Path) -> None:
    columns = "user_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float"
    draw, home = np.random.default_rng(0), tmp_path / "made"
    home.mkdir()
    for part in ("train", "valid", "test"):
        items = [[f"i{item}" for item in draw.permutation(9)[: draw.integers(2, 6)]] for _ in range(25)]
        rows = [f"u{number % 8}\t{' '.join(taken[:-1])}\t{taken[-1]}\t{number}" for number, taken in enumerate(items)]
        (home / f"made.{part}.inter").write_text("\n".join([columns, *rows]) + "\n")
    changes = {
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id", "timestamp"]},
        **THEIRS,
    }
    given = {**settings(tmp_path, **changes), **METRICS, "topk": [1, 3], "valid_metric": "Hit@3"}
    run = build(make_config("GRU4Rec", "made", config_dict=given), count_flops=False)
    assert len(run.train._dataset) == 25
    assert_is_a_plain_count(run, next(iter(run.valid))[0])


def test_a_model_learns_of_neighbours_with_its_first_batch(tmp_path: Path) -> None:
    run = shop_run(tmp_path, "SASRec", **THEIRS)
    batch = next(iter(run.valid))[0]
    assert run.model.addition(batch) is None
    run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    both, network = scores_of(run.model.eval(), batch)
    assert not np.array_equal(both, network)
    *_, model, _, _, valid, _ = load_data_and_model(run.trainer.saved_model_file)
    found, _ = scores_of(model.eval(), next(iter(valid))[0])
    np.testing.assert_array_equal(found, both)


@pytest.mark.parametrize("dynamic", [False, True])
def test_training_is_the_same_with_and_without(tmp_path: Path, dynamic: bool) -> None:
    """Also where a model chooses its own negative items, by ``predict``."""
    negatives = {"distribution": "uniform", "sample_num": 1, "dynamic": dynamic, "candidate_num": 5 if dynamic else 0}
    changes = {"loss_type": "BPR", "train_neg_sample_args": negatives, "epochs": 2, "train_batch_size": 64}
    weights = []
    for own in ({}, THEIRS):
        run = shop_run(tmp_path, "SASRec", **changes, **own)
        run.trainer.fit(run.train, None, verbose=False, show_progress=False)
        weights.append(run.model.state_dict())
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


class Nested(SASRec):
    """A user's model that adds to what RecBole's gives, and ranks single items by the whole."""

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        return super().full_sort_predict(interaction) + 1

    def predict(self, interaction: Any) -> torch.Tensor:
        return self.full_sort_predict(interaction).gather(1, interaction["item_id"].unsqueeze(1)).squeeze(1)


class Cached(SASRec):
    """A user's model that keeps what it has returned."""

    kept: torch.Tensor | None = None

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        if self.kept is None:
            self.kept = super().full_sort_predict(interaction)
        return self.kept


@pytest.mark.parametrize("kind", [Nested, Cached])
def test_each_score_gets_them_once(tmp_path: Path, kind: type) -> None:
    run = shop_run(tmp_path, "SASRec", **THEIRS)
    model, batch = kind(run.config, run.train._dataset).eval(), next(iter(run.valid))[0]
    model.has_trained = True
    wanted = plain_addition(run.train._dataset, batch, WINDOW, DECAY, WEIGHT)
    for _ in range(2):
        both, network = scores_of(model, batch)
        np.testing.assert_allclose(both, network + wanted, rtol=1e-4, atol=2e-4)
    with torch.no_grad():
        np.testing.assert_allclose(
            model.predict(batch).numpy(), both[np.arange(len(batch)), batch["item_id"]], rtol=1e-4, atol=2e-4
        )


def test_alone_it_is_the_plain_count(tmp_path: Path) -> None:
    run = shop_run(tmp_path, "Neighbours", neighbour_window=WINDOW, neighbour_decay=DECAY, epochs=7)
    batch = next(iter(run.valid))[0]
    both, network = scores_of(run.model, batch)
    np.testing.assert_allclose(both, plain_addition(run.train._dataset, batch, WINDOW, DECAY, 1.0), atol=1e-4)
    assert not network.any()
    run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    assert run.trainer.train_loss_dict == {}
    assert run.trainer.best_valid_result["hit@5"] > 0
    assert not list(run.model.parameters())


def test_alone_from_settings_to_results(tmp_path: Path) -> None:
    """By RecBole's ways: by name, with a result like any other's, and loaded again."""
    write_shop(tmp_path)
    result = run_recbole("Neighbours", "shop", config_dict=settings(tmp_path, **METRICS))
    assert result["best_epoch"] == 0
    assert result["best_valid_result"] == pytest.approx(result["valid_history"][0].result)
    *_, model, _, _, _, test = load_data_and_model(result["saved_model_file"])
    held = test._dataset.inter_feat[slice(0, len(test._dataset))]
    scores, _ = scores_of(model.eval(), held)
    assert targets_first(scores, held["item_id"].numpy()) == pytest.approx(result["test_result"]["hit@1"])


@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec", "GRU4Rec"])
def test_without_a_word_a_model_scores_alone(tmp_path: Path, model: str) -> None:
    write_pattern_shop(tmp_path)
    given = pattern_settings(tmp_path, embedding_size=16, n_heads=1)
    for key in ("neighbour_weight", *(("hidden_size", "inner_size") if model != "MMM4Rec" else ())):
        given.pop(key)
    run = build(make_config(model, PATTERN, config_dict=given), count_flops=False)
    assert {key: run.config[key] for key in DEFAULTS} == DEFAULTS
    net, batch = as_if_trained(run), next(iter(run.valid))[0]
    assert net.beside is None
    assert net.addition(batch) is None
    assert "has_trained" not in net.other_parameter()
    both, network = scores_of(net, batch)
    np.testing.assert_array_equal(both, network)


def test_files_say_the_same_as_the_program() -> None:
    folder = properties_dir() / "model"
    said = {name: yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("MMM4Rec", "Neighbours")}
    assert {key: said["MMM4Rec"][key] for key in DEFAULTS} == DEFAULTS
    assert {key: said["Neighbours"][key] for key in DEFAULTS} == {**DEFAULTS, "neighbour_weight": 1}
    for key in ("MAX_ITEM_LIST_LENGTH", "metrics", "topk", "valid_metric", "eval_batch_size"):
        assert said["Neighbours"][key] == said["MMM4Rec"][key]
    preset = yaml.safe_load((folder / "MMM4Rec-neighbours.yaml").read_text())
    assert preset == {**DEFAULTS, "neighbour_weight": 3}


LABELS = {"metrics": ["AUC", "LogLoss"], "valid_metric": "AUC"}


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("Pop", {"neighbour_weight": 3}, "neighbour_weight=3: Pop is no sequential model"),
        ("Neighbours", {"neighbour_weight": 3}, "neighbour_weight=3: Neighbours is the counts alone"),
        ("Neighbours", {"neighbour_weight": 0}, "neighbour_weight=0: Neighbours is the counts alone"),
        ("SASRec", {"neighbour_weight": -1}, "neighbour_weight=-1: it must be a number, at least 0"),
        ("DIN", {"neighbour_weight": 3, **LABELS}, "neighbour_weight=3: it moves ranks, metrics="),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    write_shop(tmp_path)
    with pytest.raises(UserError) as error:
        make_config(model, "shop", config_dict=settings(tmp_path, **changes))
    assert str(error.value).startswith(message)
    arguments = {"data_path": tmp_path, **changes}
    assert main([f"--model={model}", "--dataset=shop", *(f"--{key}={value}" for key, value in arguments.items())]) == 2
    assert capsys.readouterr().err.replace("error: --", "error: ").startswith(f"error: {message}")


def test_zero_is_no_wish_for_neighbours(tmp_path: Path) -> None:
    write_shop(tmp_path)
    assert make_config("Pop", "shop", config_dict=settings(tmp_path, neighbour_weight=0))["neighbour_weight"] == 0


@pytest.mark.parametrize(
    ("model", "weight", "name"),
    [("SASRec", 3, "SASRec + neighbours"), ("SASRec", 0, "SASRec"), ("Neighbours", 1, "Neighbours")],
)
def test_a_row_is_named_for_what_it_is(model: str, weight: float, name: str) -> None:
    assert named(model, {"neighbour_weight": weight}) == name
    assert named(model, {}) == model


def test_the_command_names_the_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shop(tmp_path)
    given = {key: value for key, value in settings(tmp_path, **THEIRS).items() if key != "load_col"}
    assert main(["--model=SASRec", "--dataset=shop", *(f"--{key}={value}" for key, value in given.items())]) == 0
    assert "\nSASRec + neighbours on shop\n" in capsys.readouterr().out
