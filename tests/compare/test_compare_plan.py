"""Which runs there are, in which order, and what makes them stale."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pattern_shop import NAME, write_pattern_shop
from tiny_comparison import OURS, SASREC, finished, tiny_plan, write_config

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.compare.job import Job
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.records import Records
from recbole_mmm4rec.compare.results import collect
from recbole_mmm4rec.features.store import FeatureStore, write_store
from recbole_mmm4rec.run import identity as fingerprint

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pattern shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_pattern_shop(folder)
    return folder


def ids(plan: Plan, records: Records) -> set[str]:
    """Identities of the runs that are not done and wait for nothing."""
    return {job.id for job in plan.waiting(records)}


def test_every_model_with_every_seed(shop: Path, tmp_path: Path) -> None:
    plan, records = tiny_plan(shop), Records(tmp_path / "runs.jsonl")
    waiting = plan.waiting(records)
    assert [(job.model, job.seed) for job in waiting] == [("Pop", 1), ("Pop", 2), ("SASRec", 1), ("SASRec", 2)]
    assert plan.progress(records) == (0, 4)
    records.add(finished(waiting[0]))
    assert [job.id for job in plan.waiting(records)] == [job.id for job in waiting[1:]]
    assert plan.progress(records) == (1, 4)
    assert plan.shops[NAME].statistics == {"users": 40, "items": 30, "interactions": 256}


def test_one_data_set_with_two_settings(shop: Path, tmp_path: Path) -> None:
    """Two tables of their own; what a row says of one entry holds for that one, and what is tested is no source."""
    short = {"name": "short", "folder": NAME, "settings": {"MAX_ITEM_LIST_LENGTH": 4}}
    row = {"model": "SASRec", "settings": SASREC, "datasets": {"short": {"n_layers": 2}}, "only": ["short"]}
    protocols = ["leave_one_out", "global_time"]
    plan = tiny_plan(shop, datasets=[NAME, short], models=["Pop", row], seeds=[1], protocols=protocols)
    assert list(plan.shops) == [NAME, f"{NAME}-global_time", "short", "short-global_time"]
    jobs = plan.waiting(Records(tmp_path / "runs.jsonl"))
    assert {job.dataset for job in jobs} == {NAME}
    assert [job.settings["n_layers"] for job in jobs if job.model == "SASRec"] == [2, 2]
    assert {job.protocol["MAX_ITEM_LIST_LENGTH"] for job in jobs if job.model == "SASRec"} == {4}
    with pytest.raises(UserError, match=f"which holds what is tested on '{NAME}'"):
        tiny_plan(
            shop, datasets=[short], models=[{"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": NAME}}]
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"models": [{"model": "SASRec", "settings": {**SASREC, "n_layers": 2}}]},
        {"seeds": [3, 4]},
        {"protocol": {"MAX_ITEM_LIST_LENGTH": 5}},
        {"datasets": [{"name": NAME, "settings": {"user_inter_num_interval": "[5,inf)"}}]},
    ],
)
def test_what_changed_runs_again(shop: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    records = Records(tmp_path / "runs.jsonl")
    models = {"models": [{"model": "SASRec", "settings": SASREC}]}
    before = ids(tiny_plan(shop, **models), records)
    assert ids(tiny_plan(shop, **{**models, "title": "another", "permutations": 20_000}), records) == before
    assert not ids(tiny_plan(shop, **{**models, **changes}), records) & before


def test_other_data_runs_again(shop: Path, tmp_path: Path) -> None:
    records, copy = Records(tmp_path / "runs.jsonl"), tmp_path / "copy"
    shutil.copytree(shop, copy)
    before = ids(tiny_plan(shop), records)
    assert ids(tiny_plan(copy), records) == before
    with (copy / NAME / f"{NAME}.inter").open("a") as file:
        file.write("u0\ts0c0\t1600000000\n")
    assert not ids(tiny_plan(copy), records) & before


def test_other_defaults_and_versions_run_again(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path / "runs.jsonl")
    models = {"models": [{"model": "SASRec", "settings": SASREC}]}
    before = ids(tiny_plan(shop, **models), records)
    original = fingerprint.version
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "version", lambda name: "9" if name == "torch" else original(name))
        assert not ids(tiny_plan(shop, **models), records) & before
    hashed = fingerprint.resolved

    def with_another_default(settings: Any, left_out: Any) -> str:
        assert "attn_dropout_prob" in settings  # that no one has written down
        return hashed({**settings, "attn_dropout_prob": 0.123}, left_out)

    monkeypatch.setattr("recbole_mmm4rec.compare.plan.resolved", with_another_default)
    assert not ids(tiny_plan(shop, **models), records) & before


def test_graphics_cards_are_as_they_were(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    tiny_plan(shop)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tiny_plan(shop)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_rows_of_equal_runs_share_them(shop: Path, tmp_path: Path) -> None:
    models = [{"name": name, "model": "SASRec", "settings": SASREC} for name in ("a", "b")]
    assert len(tiny_plan(shop, models=models).waiting(Records(tmp_path / "runs.jsonl"))) == 2


def test_trials_come_first_and_validation_chooses(shop: Path, tmp_path: Path) -> None:
    rates = [{"learning_rate": rate} for rate in (0.1, 0.2, 0.3)]
    plan = tiny_plan(shop, models=[{"model": "SASRec", "settings": SASREC, "search": rates}])
    records = Records(tmp_path / "runs.jsonl")
    trials = plan.waiting(records)
    assert [(job.seed, job.settings["learning_rate"]) for job in trials] == [(1, 0.1), (1, 0.2), (1, 0.3)]
    assert plan.progress(records) == (0, 4)
    for job, score in zip(trials[:2], (0.3, 0.7), strict=True):
        records.add(finished(job, valid={"hit@10": score}))
        assert trials[2].id in ids(plan, records)
    records.add(finished(trials[2], valid={"hit@10": 0.7}))  # the first of equals is chosen
    (left,) = plan.waiting(records)
    assert (left.seed, left.settings["learning_rate"]) == (2, 0.2)
    assert plan.progress(records) == (3, 4)
    records.add(finished(left))
    assert plan.waiting(records) == []


def test_a_trial_that_failed_cannot_be_chosen(shop: Path, tmp_path: Path) -> None:
    search = [{"learning_rate": 0.1}, {"learning_rate": 0.2}]
    plan = tiny_plan(shop, models=[{"model": "SASRec", "settings": SASREC, "search": search}], seeds=[1])
    records = Records(tmp_path / "runs.jsonl")
    first, second = plan.waiting(records)
    records.add({**finished(first), "status": "failed", "error": "no"})
    records.add(finished(second))
    row, dataset = next(iter(plan.cells()))
    assert plan.chosen(row, dataset, records) == {"learning_rate": 0.2}
    (cell,) = collect_cells(plan, records, tmp_path, [second])
    assert cell.errors == (f"{first.label}: no",)
    assert len(cell.records) == 1


def collect_cells(plan: Plan, records: Records, out: Path, done: list[Job]) -> Any:
    """The cells of the only table; the runs get a test result."""
    for job in done:
        records.by_id[job.id][-1].update(test={"hit@10": 0.5}, targets="same")
    return collect(plan, records, out)[0].cells


def renamed(shop: Path, name: str) -> None:
    """The pattern shop once more, under another name and with a user more."""
    if not (shop / name).exists():
        shutil.copytree(shop / NAME, shop / name)
        for file in (shop / name).glob("features/*/manifest.json"):
            file.write_text(file.read_text().replace(f'"{NAME}"', f'"{name}"'))
        with (shop / name / f"{NAME}.inter").rename(shop / name / f"{name}.inter").open("a") as file:
            file.write(f"of-{name}\ts0c0\t1\n")


def test_pre_training_comes_first(shop: Path, tmp_path: Path) -> None:
    renamed(shop, "source")
    first = {"dataset": "source", "settings": OURS}
    models = [{"name": str(at), "model": "MMM4Rec", "settings": OURS, "pretrained": first} for at in range(2)]
    plan, records = tiny_plan(shop, models=models), Records(tmp_path / "runs.jsonl")
    (pretraining,) = plan.waiting(records)
    assert (pretraining.kind, pretraining.dataset, pretraining.seed) == ("pretraining", "source", 1)
    records.add(finished(pretraining))
    waiting = plan.waiting(records)
    assert [(job.kind, job.seed, job.pretrained) for job in waiting] == [
        ("run", 1, pretraining.id),
        ("run", 2, pretraining.id),
    ]
    scratch = tiny_plan(shop, models=[{"model": "MMM4Rec", "settings": OURS}])
    assert not ids(scratch, records) & {job.id for job in waiting}
    assert plan.waiting(records, lost=lambda identity: identity == pretraining.id) == [pretraining]
    for job in waiting:
        records.add(finished(job))
    assert plan.waiting(records, lost=lambda identity: True) == []  # nothing needs its model any more


def test_pre_training_never_sees_what_is_tested(shop: Path) -> None:
    renamed(shop, "mix")
    note = {"source": "merge", "options": {"sets": [NAME, "source"], "separator": ":"}}
    (shop / "mix" / "mix.prep.json").write_text(json.dumps(note))
    for source in (NAME, "mix"):
        row = {"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": source, "settings": OURS}}
        with pytest.raises(UserError, match=f"pre-trained on '{source}', which holds what is tested on 'pattern'"):
            tiny_plan(shop, models=[row])


@pytest.mark.parametrize(
    ("first", "then", "complaint"),
    [
        ({"hidden_size": 8}, {}, "hidden_size=16, and 8 in the pre-training it starts from; set both alike"),
        ({"num_layers": 2}, {}, "num_layers=1, and 2 in .*; set both alike, or pretrained_layers: 1"),
        ({"num_layers": 2}, {"pretrained_layers": 1}, None),
        ({"num_layers": 2}, {"pretrained_layers": 1, "num_layers": 2}, "num_layers=2, and 1 in"),
        ({"is_time": False}, {"is_time": True}, "is_time=True, and False in"),
        ({"inner_size": 4, "is_ffn": False}, {"is_ffn": False}, None),
        (
            {"modalities": ["text"]},
            {"modalities": ["text", "image"]},
            "modalities=.*; add image there",
        ),
        ({"modalities": ["text", "image"]}, {"modalities": ["text"]}, None),
        ({"temperature": 0.5}, {}, None),
        ({"norm_eps": 1e-5}, {}, None),
    ],
    ids=str,
)
def test_what_does_not_fit_its_pre_training_is_told_before_it(
    shop: Path, first: dict[str, Any], then: dict[str, Any], complaint: str | None
) -> None:
    renamed(shop, "source")
    row = {
        "model": "MMM4Rec",
        "settings": {**OURS, "hidden_size": 16, **then},
        "pretrained": {"dataset": "source", "settings": {**OURS, "hidden_size": 16, **first}},
    }
    if complaint is None:
        settings = next(tiny_plan(shop, models=[row]).cells())[0].settings
        assert then.items() <= settings.items()
        return
    with pytest.raises(UserError, match=f"model 'MMM4Rec' on 'pattern': {complaint}"):
        tiny_plan(shop, models=[row])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"encoder": "another"}, "text features are of another in the checkpoint, of one-hot here"),
        ({"settings": {"pooling": "mean"}}, "text features are of one-hot .* made with other settings"),
        ({"normalized": False}, "text features are not normalised in the checkpoint, normalised here"),
        ({"dim": 7}, "text features are 7 wide in the pre-training it starts from, 5 here"),
    ],
    ids=str,
)
def test_features_that_do_not_fit_are_told_before_the_pre_training(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    write_pattern_shop(tmp_path)
    renamed(tmp_path, "source")
    store = FeatureStore.open(tmp_path / "source" / "features" / "text")
    given = {**vars(store.manifest), **change}.items()
    made = {key: value for key, value in given if key not in ("rows", "items_hash", "format")}
    table = np.ones((len(store.items), made["dim"]), dtype=np.float32)
    write_store(store.path, **made, items=store.items, present=store.present, chunks=[table])
    row = {"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": "source", "settings": OURS}}
    with pytest.raises(UserError, match=f"model 'MMM4Rec' on 'pattern': {complaint}.*embed 'source' and 'pattern' al"):
        tiny_plan(tmp_path, models=[row])
    tiny_plan(tmp_path, models=[{**row, "settings": {**OURS, "modalities": ["image"]}}])


def test_interactions_of_one_source_under_two_names(tmp_path: Path) -> None:
    """A merge that is tested holds what was trained on, and so does another cut of the same file."""
    write_pattern_shop(tmp_path)
    for name in ("part", "mix", "latest"):
        renamed(tmp_path, name)

    def note(name: str, **told: Any) -> None:
        (tmp_path / name / f"{name}.prep.json").write_text(json.dumps(told))

    note("mix", source="merge", options={"sets": ["part", "other"]}, inputs={"part inter": "1"})
    note("part", source="table", options={}, inputs={"interactions": "2", "items": "9"})
    note("latest", source="table", options={}, inputs={"interactions": "2", "items": "8"})
    note(NAME, source="sequences", options={}, inputs={"sequences": "3", "items": "9"})  # the same items may be known

    def refused(tested: str, source: str) -> bool:
        row = {"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": source, "settings": OURS}}
        try:
            tiny_plan(tmp_path, datasets=[tested], models=[row])
        except UserError as error:
            return f"pre-trained on '{source}', which holds what is tested on '{tested}'" in str(error)
        return False

    pairs = [("mix", "part"), ("part", "mix"), ("latest", "part"), ("latest", "mix"), (NAME, "part"), ("mix", NAME)]
    assert [refused(*pair) for pair in pairs] == [True, True, True, True, False, False]


def test_interactions_without_a_record_of_their_preparation(shop: Path) -> None:
    """A copy has the same bytes; of a merge whose parts are gone the record tells their hashes."""
    row = {"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": "copy", "settings": OURS}}
    shutil.copytree(shop / NAME, shop / "copy")
    (shop / "copy" / f"{NAME}.inter").rename(shop / "copy" / "copy.inter")
    with pytest.raises(UserError, match=f"pre-trained on 'copy', which holds what is tested on '{NAME}'"):
        tiny_plan(shop, models=[row])
    renamed(shop, "mix")
    inputs = {"gone inter": hash_file(shop / NAME / f"{NAME}.inter"), "gone item": "1"}
    told = {"source": "merge", "options": {"sets": ["gone"]}, "inputs": inputs}
    (shop / "mix" / "mix.prep.json").write_text(json.dumps(told))
    row["pretrained"] = {"dataset": "mix", "settings": OURS}
    with pytest.raises(UserError, match=f"pre-trained on 'mix', which holds what is tested on '{NAME}'"):
        tiny_plan(shop, models=[row])


def test_what_is_chosen_changes_no_settings(shop: Path, tmp_path: Path) -> None:
    """Those of a data set that is not chosen hold for what is pre-trained on it."""
    renamed(shop, "source")
    first = {"name": "source", "settings": {"user_inter_num_interval": "[5,inf)"}}
    row = {"model": "MMM4Rec", "settings": OURS, "only": [NAME], "pretrained": {"dataset": "source", "settings": OURS}}
    file = write_config(shop, datasets=[first, NAME], models=[row, "Pop"])
    records = Records(tmp_path / "runs.jsonl")
    whole, chosen = (Plan(read_comparison(file, on=on), shop) for on in ((), (NAME,)))
    assert chosen.waiting(records)[0].protocol["user_inter_num_interval"] == "[5,inf)"
    assert ids(chosen, records) < ids(whole, records)


def test_a_damaged_record_of_a_preparation(shop: Path) -> None:
    renamed(shop, "mix")
    (shop / "mix" / "mix.prep.json").write_text('{"source": "mer')
    row = {"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": "mix", "settings": OURS}}
    with pytest.raises(UserError, match=r"mix.prep.json is damaged; prepare the data set again"):
        tiny_plan(shop, models=[row])


def test_users_whom_only_some_models_would_test(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    with (tmp_path / NAME / f"{NAME}.inter").open("a") as file:
        file.write("short\ts0c0\t1600000000\nshort\ts1c1\t1600000001\n")
    with pytest.raises(UserError, match="1 users have two or three interactions, which 'Pop' and sequential"):
        tiny_plan(tmp_path)
    with (tmp_path / NAME / f"{NAME}.inter").open("a") as file:
        file.write("short\ts1c2\t1600000002\n")
    with pytest.raises(UserError, match=r'1 users have two or three .* set user_inter_num_interval: "\[4,inf\)"'):
        tiny_plan(tmp_path)
    assert tiny_plan(tmp_path, models=[{"model": "SASRec", "settings": SASREC}]).shops[NAME].statistics["users"] == 41
    filtered = {"name": NAME, "settings": {"user_inter_num_interval": "[4,inf)"}}
    assert tiny_plan(tmp_path, datasets=[filtered]).shops[NAME].statistics["users"] == 40


LAST = {"split": {"LS": "valid_and_test"}, "order": "TO"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"datasets": ["nowhere"]}, "there is no file"),
        ({"models": [{"model": "SASRec", "settings": {"learning_rate": -1}}]}, "line .*: learning_rate=-1: it must be"),
        (
            {"models": [{"model": "SASRec", "settings": {"train_neg_sample_args": {"distribution": "uniform"}}}]},
            "model 'SASRec' on 'pattern': train_neg",
        ),
        ({"protocol": {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}}, "leaves one item out and ranks all"),
        ({"protocol": {"eval_args": {**LAST, "mode": "uni10"}}}, "leaves one item out and ranks all"),
        ({"protocol": {"eval_args": {"mode": "uni10"}}}, "it names no split, which would be a random one"),
        (
            {"protocol": {"eval_args": {"split": {"LS": "valid_and_test"}, "mode": "full"}}},
            "order=RO.* write order: TO",
        ),
        ({"protocol": {"benchmark_filename": ["a", "b", "c"]}}, "benchmark_filename on 'pattern'"),
        ({"protocol": {"eval_step": 0}}, "eval_step on 'pattern': 0 is no validation"),
        ({"protocol": {"candidates": "all"}}, "model 'Pop' on 'pattern': it ranks items with interactions alone"),
        ({"protocol": {"TIME_FIELD": None}}, r"line \d+: TIME_FIELD=None: it must be a text such as timestamp"),
        ({"protocol": {"threshold": {"timestamp": 3}}}, "threshold: column 'timestamp' would become the label"),
        ({"protocol": {"tail_ratio": -3}}, r"tail_ratio=-3: it must be"),
        (
            {"models": [{"model": "SASRec", "settings": {"own": datetime.date(2020, 1, 1)}}]},
            "date is not JSON serializable; write a date in quotation marks",
        ),
        (
            {"models": [{"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": "nowhere"}}]},
            "pre-training on 'nowhere': .*there is no file",
        ),
        ({"models": [{"model": "MMM4Rec", "settings": {**OURS, "frozen": ["sdd"]}}]}, "frozen: 'sdd' is no part"),
        (
            {"models": [{"model": "UniSRec", "settings": {"frozen": ["ssd"]}}]},
            "'UniSRec' on 'pattern': frozen: 'ssd' is no part of UniSRec",
        ),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(shop: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        tiny_plan(shop, **changes)


def test_runs_on_other_targets_never_stand_in_one_table(shop: Path, tmp_path: Path) -> None:
    plan, records = tiny_plan(shop, seeds=[1]), Records(tmp_path / "runs.jsonl")
    for job, targets in zip(plan.waiting(records), ("these", "those"), strict=True):
        records.add(finished(job, test={"hit@10": 0.5}, targets=targets))
    with pytest.raises(UserError, match="'pattern': 'Pop', 'SASRec' were tested on different targets"):
        collect(plan, records, tmp_path)
