"""Running, loading and tuning through the plug-in's own functions."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.trainer import Trainer
from shop import python, settings, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read, write
from recbole_mmm4rec.distributed import launch
from recbole_mmm4rec.run import quick_start
from recbole_mmm4rec.run.build import build, make_config

CE = {"train_neg_sample_args": None, "loss_type": "CE"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small shop, in which the run also writes its log."""
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("model", "changes"), [("SASRec", CE), ("GRU4Rec", CE), ("BPR", {}), ("Pop", {}), ("FM", {})])
def test_stock_models_run_and_are_loaded_again(folder: Path, model: str, changes: dict[str, Any]) -> None:
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    if model == "FM":  # needs labels
        file = folder / "shop" / "shop.inter"
        lines = file.read_text().splitlines()
        labels = ["label:float", *(str(number % 2) for number in range(1, len(lines)))]
        file.write_text("".join(f"{line}\t{label}\n" for line, label in zip(lines, labels, strict=True)))
        columns = {"inter": ["user_id", "item_id", "label"]}
    result = quick_start.run_recbole(model, "shop", config_dict=settings(folder, load_col=columns, **changes))
    assert {"best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"} < result.keys()
    assert Path(result["saved_model_file"]).is_file()
    assert list(Path(result["tensorboard_dir"]).glob("events.*"))

    config, loaded, dataset, _, _, test = quick_start.load_data_and_model(result["saved_model_file"])
    assert dataset.user_num == 31
    trainer = Trainer(config, loaded)
    trainer.eval_collector.data_collect(test)
    assert trainer.evaluate(test, load_best_model=False) == result["test_result"]


def test_a_run_equals_recboles(folder: Path) -> None:
    from recbole.quick_start import run_recbole

    changes = settings(folder, **CE, epochs=2)
    ours = quick_start.run_recbole("SASRec", "shop", config_dict=changes)
    stock = run_recbole("SASRec", "shop", config_dict=dict(changes))
    assert stock.items() <= ours.items()


def test_the_log_is_recboles_and_every_run_has_its_own(tmp_path: Path) -> None:
    write_shop(tmp_path)
    program = f"""
from recbole_mmm4rec.run.quick_start import run_recbole
for model in ("Pop", "ItemKNN"):
    print(run_recbole(model, "shop", config_dict={settings(tmp_path, state="INFO")!r})["log_file"])
"""
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    logs = [Path(line) for line in done.stdout.splitlines() if line.startswith("log")]
    assert [log.parts[1] for log in logs] == ["Pop", "ItemKNN"]
    for log in logs:
        text = (tmp_path / log).read_text()
        assert text.count("test result: ") == text.count("FLOPs: ") == text.count("best valid : ") == 1
        assert "The number of users: 31" in text


def test_saved_false_writes_no_model(folder: Path) -> None:
    result = quick_start.run_recbole("BPR", "shop", config_dict=settings(folder), saved=False)
    assert result["saved_model_file"] is None
    assert list((folder / "saved").iterdir()) == []


def test_the_callers_dictionary_stays_as_it_is(folder: Path) -> None:
    given = settings(folder, seed="7")
    before = dict(given)
    assert make_config("BPR", "shop", config_dict=given)["seed"] == 7
    assert given == before


def test_the_model_does_not_depend_on_the_flops(folder: Path) -> None:
    config = make_config("SASRec", "shop", config_dict=settings(folder, **CE))
    one, other = (build(config, count_flops=count).model.state_dict() for count in (True, False))
    assert all(torch.equal(one[name], other[name]) for name in one)


LABELED = {"eval_args": {"mode": "labeled"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["Foo"]}, "no metric named 'Foo'"),
        ({"topk": [0]}, "topk=.*a list of whole numbers, at least 1"),
        ({"topk": "ten"}, "topk"),
        ({"valid_metric": "MRR@7"}, r"valid_metric='MRR@7' is not among the metrics"),
        ({"valid_metric": "MRR"}, r"valid_metric='MRR' is not among the metrics .*; did you mean 'mrr@10'"),
        ({"metrics": ["GAUC"], "valid_metric": "GAUC@10"}, r"valid_metric='GAUC@10' is not among the metrics"),
        ({"eval_args": {"split": {"XX": 1}}}, "XX|splitting_method"),
        ({"eval_args": "full"}, "eval_args='?full'?: it must be"),
        ({"learner": "adm"}, "learner='adm'"),
        ({"data_path": "elsewhere"}, r"dataset='shop': there is no file 'elsewhere/shop/shop\.inter'.* prep"),
        ({"load_col": {"inter": ["user_id"]}}, r"load_col.* 'item_id' \(ITEM_ID_FIELD\)"),
        ({"USER_ID_FIELD": "who"}, r"shop\.inter'.* 'who' \(USER_ID_FIELD\).*user_id, item_id, timestamp"),
        ({"load_col": None, "TIME_FIELD": "when", "eval_args": {"order": "TO"}}, r"'when' \(TIME_FIELD\)"),
        ({"load_col": None, "unload_col": {"inter": ["item_id"]}}, r"unload_col=.* 'item_id' \(ITEM_ID_FIELD\)"),
        ({"field_separator": ","}, r"line 1: .* by '\\t' and not by ',': leave field_separator out"),
        ({"benchmark_filename": ["train", "test"]}, "a list of 3 names such as .*'train', 'valid', 'test'"),
        ({"benchmark_filename": "train"}, "benchmark_filename='train': it must be a list of 3"),
        ({"device": "cpu"}, "device='cpu': it cannot be set; write use_gpu=False"),
        ({"val_interval": {"rating": "[3,inf)"}}, "val_interval: column 'rating' is not loaded .*; add it to load_col"),
        ({"threshold": {"rating": 3}}, "threshold: column 'rating' is not loaded"),
        ({"alias_of_item_id": ["iid"]}, "alias_of_item_id: column 'iid' is not loaded"),
        ({"metrics": ["AUC"], "valid_metric": "AUC", **LABELED}, r"needs the column 'label' \(LABEL_FIELD\)"),
        (LABELED, r"mode labeled compares scores with labels, which metrics=.* do not; set mode to full"),
    ],
)
def test_what_recbole_refuses_is_told_in_one_line(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        quick_start.run_recbole("BPR", "shop", config_dict=settings(folder, **changes))
    assert "\n" not in str(caught.value)


def test_a_context_model_needs_labels_or_negatives(folder: Path) -> None:
    with pytest.raises(UserError, match=r"needs the column 'label' \(LABEL_FIELD\), and loaded are user_id, item_id"):
        quick_start.run_recbole("FM", "shop", config_dict=settings(folder))
    ranking: dict[str, Any] = {"metrics": ["MRR"], "valid_metric": "MRR@10", "eval_args": {"mode": "full"}}
    with pytest.raises(UserError, match="FM needs the column 'label'"):
        quick_start.run_recbole("FM", "shop", config_dict=settings(folder, **ranking))
    ranking["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
    result = quick_start.run_recbole("FM", "shop", config_dict=settings(folder, **ranking))
    assert 0 <= result["test_result"]["mrr@10"] <= 1


def test_vectors_of_an_additional_file_have_the_ids_of_the_items(folder: Path) -> None:
    rows = "".join(f"i{number}\t{number} 1\n" for number in range(20))
    (folder / "shop" / "shop.emb").write_text(f"iid:token\tvec:float_seq\n{rows}")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "emb": ["iid", "vec"]}
    keys = {"additional_feat_suffix": ["emb"], "load_col": columns, "preload_weight": {"iid": "vec"}}

    def refusal(**changes: Any) -> str:
        with pytest.raises(UserError) as caught:
            build(make_config("BPR", "shop", config_dict=settings(folder, **{**keys, **changes})))
        return str(caught.value)

    assert "'iid' of shop.emb has ids of its own" in refusal()
    alias = {"alias_of_item_id": ["iid"]}
    misnamed = {"load_col": {**columns, "emb": ["iid", "vector"]}}
    assert "shop.emb: no column vector among iid, vec; load_col=" in refusal(**alias, **misnamed)
    assert "preload_weight: column 'vectors' is not loaded" in refusal(**alias, preload_weight={"iid": "vectors"})
    swapped = refusal(**alias, preload_weight={"vec": "iid"})
    assert "'vec' is of type float_seq, 'iid' is of type token; it maps a column of ids (token) to" in swapped
    dataset = build(make_config("BPR", "shop", config_dict=settings(folder, **keys, **alias))).dataset
    firsts = dataset.get_preload_weight("iid")[:, 0].tolist()
    assert firsts[1:] == [float(token[1:]) for token in dataset.field2id_token["item_id"][1:]]


def test_a_missing_data_set_is_not_downloaded_unasked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("recbole.data.dataset.Dataset._download", lambda self: asked.append(self.dataset_name))
    with pytest.raises(UserError, match="RecBole can download 'ml-1m': --allow_download=True"):
        quick_start.run_recbole("BPR", "ml-1m", config_dict=settings(folder))
    assert asked == []
    with pytest.raises(UserError, match="not exist"):  # the stand-in downloads nothing
        quick_start.run_recbole("BPR", "ml-1m", config_dict=settings(folder, allow_download=True))
    assert asked == ["ml-1m"]
    assert not (folder / "log" / "nothing").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None, "other"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    file = tmp_path / "model.pth"
    if content == "other":
        torch.save({"weights": 1}, file)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.pth"):
        quick_start.load_data_and_model(file)


@pytest.mark.usefixtures("own_folder")
def test_weights_that_are_not_the_models_are_told(kiosk: Path, tmp_path: Path) -> None:
    state, file = read(kiosk / "checkpoint"), tmp_path / "other.safetensors"
    for weights in ({"network.items.fusion": torch.ones(7)}, {"a": 1}, 3):
        write(file, {**state, "state_dict": weights})
        with pytest.raises(UserError, match=r"holds other weights than MMM4Rec has here"):
            quick_start.load_data_and_model(file)


def test_loading_looks_at_the_present_data_files(folder: Path) -> None:
    """A data set cached before its file changed is not used for an old checkpoint either."""
    result = quick_start.run_recbole("Pop", "shop", config_dict=settings(folder, save_dataset=True))
    with (folder / "shop" / "shop.inter").open("a") as file:
        file.write("u0\ti1\t1500000999\n")
    dataset = quick_start.load_data_and_model(result["saved_model_file"])[2]
    assert len(dataset.inter_feat) == 301


def test_several_processes_are_started_with_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, Any] = {}

    def start(function: Any, arguments: tuple[Any, ...], place: dict[str, Any]) -> None:
        started.update(function=function, arguments=arguments, place=place)

    monkeypatch.setattr(launch, "start", start)
    where = {"nproc": 2, "port": "77", "world_size": 4, "group_offset": 1}
    assert quick_start.run("BPR", "shop", config_dict={"seed": 3}, **where) is None  # type: ignore[arg-type]
    place = {"world_size": 4, "ip": "localhost", "port": "77", "nproc": 2, "offset": 1}
    assert started["place"] == place
    assert started["arguments"] == ("BPR", "shop", None, {"seed": 3, **place}, True)
    assert started["function"].__module__ == "recbole_mmm4rec.run.quick_start"


def test_tuning_needs_no_ray_and_returns_what_recbole_returns(folder: Path) -> None:
    result = quick_start.objective_function({**settings(folder), "model": "BPR", "dataset": "shop"}, saved=False)
    assert result is not None
    assert result["model"] == "BPR"
    assert result["best_valid_score"] == result["best_valid_result"]["mrr@10"]


def test_inside_a_ray_trial_the_result_is_reported_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[dict[str, float]] = []
    session, ray, tune = (types.ModuleType(name) for name in ("ray.tune.trainable.session", "ray", "ray.tune"))
    vars(session)["_session"] = object()
    vars(tune)["report"] = lambda **metrics: reports.append(metrics)
    vars(ray)["tune"] = tune
    for module in (session, ray, tune):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    given = {**settings(folder), "model": "Pop", "dataset": "shop"}
    assert quick_start.objective_function(given, saved=False) is None
    assert len(reports) == 1
    assert {"hit@10", "test_hit@10"} <= reports[0].keys()


def test_nothing_of_ray_or_recboles_quick_start_is_imported(tmp_path: Path) -> None:
    names = "'ray', 'recbole.quick_start'"
    program = f"import sys, recbole_mmm4rec.run.quick_start; print([name for name in ({names}) if name in sys.modules])"
    done = python("-c", program, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
