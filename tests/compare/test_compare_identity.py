"""What makes a run another one, and data that change under a comparison."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pattern_shop import NAME, write_pattern_shop
from tiny_comparison import OURS, SASREC, finished, tiny_plan, write_config

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare import worker
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.records import Records
from recbole_mmm4rec.compare.runs import Runner
from recbole_mmm4rec.features.store import FeatureStore, write_store
from recbole_mmm4rec.settings import results

pytestmark = pytest.mark.usefixtures("own_folder")
ROWS = [
    "Pop",
    {"model": "SASRec", "settings": SASREC},
    {"name": "SASRecF", "model": "SASRecF", "settings": {**SASREC, "selected_features": ["text"]}},
    {"name": "text", "model": "MMM4Rec", "settings": {**OURS, "modalities": ["text"]}},
    {"name": "image", "model": "MMM4Rec", "settings": {**OURS, "modalities": ["image"]}},
    {"name": "all", "model": "MMM4Rec", "settings": OURS},
    {"name": "UniSRec", "model": "UniSRec"},
]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the pattern shop, to be changed."""
    write_pattern_shop(tmp_path)
    return tmp_path


def ids(plan: Plan) -> dict[str, str]:
    """Name of a row to the identity of its first run."""
    return {row.name: plan.run(row, dataset, 1, {}).id for row, dataset in plan.cells()}


def differing(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The rows whose run has another identity."""
    return {name for name in before if before[name] != after[name]}


def embed_again(features: Path, modality: str) -> None:
    """Other vectors in the place of a store's."""
    store = FeatureStore.open(features / modality)
    made = {key: value for key, value in vars(store.manifest).items() if key not in ("rows", "items_hash", "format")}
    write_store(store.path, **made, items=store.items, present=store.present, chunks=[-np.array(store.table)])


@pytest.mark.parametrize(
    ("modality", "wanted"), [("text", {"SASRecF", "text", "all", "UniSRec"}), ("image", {"image", "all"})]
)
def test_features_count_where_they_are_read(shop: Path, modality: str, wanted: set[str]) -> None:
    before = ids(tiny_plan(shop, models=ROWS))
    embed_again(shop / NAME / "features", modality)
    (shop / NAME / "features" / "notes.txt").write_text("mine")
    assert differing(before, ids(tiny_plan(shop, models=ROWS))) == wanted


def test_the_item_file_counts_where_it_is_read(shop: Path) -> None:
    item = shop / NAME / f"{NAME}.item"
    item.write_text("item_id:token\nmore\n")

    def plans() -> list[dict[str, str]]:
        return [ids(tiny_plan(shop, models=ROWS[1:], protocol={"candidates": c})) for c in ("interactions", "all")]

    before, ranked = plans()
    item.write_text("item_id:token\nmore\nstill more\n")
    after, ranked_then = plans()
    assert after == before
    assert differing(ranked, ranked_then) == set(ranked)


def test_features_elsewhere_count(shop: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "stores"
    shutil.copytree(shop / NAME / "features", elsewhere)
    there = os.path.relpath(elsewhere)
    plan = tiny_plan(shop, models=ROWS, protocol={"feature_path": there})
    assert plan.shops[NAME].protocol["feature_path"] == str(elsewhere)  # where runs find it
    assert ids(plan) == ids(tiny_plan(shop, models=ROWS, protocol={}))
    embed_again(elsewhere, "image")
    moved = ids(tiny_plan(shop, models=ROWS, protocol={"feature_path": there}))
    assert differing(ids(plan), moved) == {"image", "all"}


@pytest.mark.parametrize(
    "changes", [{"eval_batch_size": 7}, {"nan_policy": "skip"}, {"features_in": "mapped"}], ids=str
)
def test_what_changes_neither_training_nor_ranks_is_no_part_of_a_run(shop: Path, changes: dict[str, Any]) -> None:
    (row,) = [row for row in ROWS if isinstance(row, dict) and row.get("name") == "text"]
    changed = {**row, "settings": {**row["settings"], **changes}}
    before, after = (ids(tiny_plan(shop, models=[one])) for one in (row, changed))
    assert (before == after) == ("nan_policy" not in changes)  # which does where a loss is not a number


def test_a_record_counts_whatever_its_evaluation_took_at_once(shop: Path, tmp_path: Path) -> None:
    records, given = Records(tmp_path / "runs.jsonl"), {"MAX_ITEM_LIST_LENGTH": 6, "topk": [1, 10]}
    before, after = (tiny_plan(shop, protocol={**given, "eval_batch_size": size}) for size in (64, 4096))
    metrics = {f"{name}@{k}": 0.5 for name in ("hit", "ndcg", "mrr") for k in (1, 10)}
    told = {"valid": metrics, "test": metrics, "history": []}
    for job in before.waiting(records):
        records.add(finished(job, **told))
    assert after.waiting(records) == []
    assert tiny_plan(shop, protocol={**given, "topk": [1, 5, 10]}).waiting(records)


def test_a_model_may_evaluate_in_smaller_batches(shop: Path) -> None:
    """What all the others share, one that runs out of memory may have less of; and nothing else of the protocol."""
    rows = [{"model": "SASRec", "settings": {**SASREC, "eval_batch_size": 7}}]
    plan = tiny_plan(shop, models=rows, protocol={"eval_batch_size": 64})
    row, dataset = next(plan.cells())
    job = plan.run(row, dataset, 1, {})
    assert {**job.protocol, **job.settings}["eval_batch_size"] == 7
    rows = [{"model": "SASRec", "settings": {"feature_path": "there"}}]
    with pytest.raises(UserError, match="feature_path belongs to all models alike"):
        tiny_plan(shop, models=rows)


def test_a_change_of_results_concerns_some_runs_alone(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = {"name": "users", "model": "MMM4Rec", "settings": {**OURS, "train_unit": "user"}}
    rows = [*ROWS, users]
    before = ids(tiny_plan(shop, models=rows))
    change = results.Change(99, "a test", lambda model, settings: settings.get("train_unit") == "user")
    with monkeypatch.context() as patch:
        patch.setattr(results, "CHANGES", (*results.CHANGES, change))
        assert differing(before, ids(tiny_plan(shop, models=rows))) == {"users"}
    change = results.Change(99, "a test", lambda model, settings: model == "SASRec")
    monkeypatch.setattr(results, "CHANGES", (*results.CHANGES, change))
    assert differing(before, ids(tiny_plan(shop, models=rows))) == {"SASRec"}


def test_changes_of_results_are_numbered() -> None:
    numbers = [change.number for change in results.CHANGES]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert results.results_of("MMM4Rec", {}) == 3
    assert results.results_of("MMM4Rec", {"train_unit": "user"}) == 4
    clipped = {"enable_scaler": True, "clip_grad_norm": {"max_norm": 5}}
    assert results.results_of("SASRec", clipped, of_training=True) == 7
    assert results.results_of("MMM4Rec", clipped) == 3
    assert results.results_of("SASRec", {**clipped, "enable_scaler": False}, of_training=True) == 3


def cut_off(file: Path) -> None:
    """A file that a full disk left."""
    file.write_bytes(file.read_bytes()[:-8])


def not_numbers(file: Path) -> None:
    """A table with NaN."""
    np.save(file, np.load(file) * np.nan)


def renamed(file: Path) -> None:
    """The manifest of another data set."""
    file.write_text(file.read_text().replace(f'"{NAME}"', '"other"'))


def removed(file: Path) -> None:
    """A store that was never made."""
    shutil.rmtree(file.parent)


@pytest.mark.parametrize(
    ("file", "damage", "complaint"),
    [
        ("table.npy", removed, "no text store|'text' is no feature store"),
        ("table.npy", cut_off, "table.npy"),
        ("table.npy", not_numbers, "NaN or infinite values for 30 items"),
        ("manifest.json", renamed, "a store of data set 'other', not 'pattern'"),
        ("items.txt", cut_off, "items.txt"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("name", ["SASRecF", "text", "UniSRec"])
def test_features_that_cannot_be_used_are_told_before_anything_runs(
    shop: Path, name: str, file: str, damage: Callable[[Path], None], complaint: str
) -> None:
    damage(shop / NAME / "features" / "text" / file)
    rows = [row for row in ROWS if isinstance(row, dict) and row.get("name") == name]
    with pytest.raises(UserError, match=f"model '{name}' on 'pattern': .*({complaint})"):
        tiny_plan(shop, models=rows)
    tiny_plan(shop, models=[ROWS[0], ROWS[1], ROWS[4]])  # which do not read them


def test_texts_that_have_changed_since_are_told_before_anything_runs(shop: Path) -> None:
    from recbole_mmm4rec.features.store import hash_inputs

    store = FeatureStore.open(shop / NAME / "features" / "text")
    item, texts = shop / NAME / f"{NAME}.item", [f"about {token}" for token in store.items]
    lines = [f"{token}\t{text}" for token, text in zip(store.items, texts, strict=True)]
    item.write_text("item_id:token\ttext:token_seq\n" + "\n".join(lines) + "\n")
    made = {key: value for key, value in vars(store.manifest).items() if key not in ("rows", "items_hash", "format")}
    made["input_hash"] = hash_inputs(zip(store.items, texts, strict=True))
    write_store(store.path, **made, items=store.items, present=store.present, chunks=[np.array(store.table)])
    tiny_plan(shop, models=ROWS)
    item.write_text(item.read_text().replace("about s0c0", "all about s0c0"))
    with pytest.raises(UserError, match=r"model 'SASRecF' on 'pattern': .*changed since the embeddings were made"):
        tiny_plan(shop, models=ROWS)


def test_features_of_a_pre_training_are_looked_at_before_it(shop: Path) -> None:
    shutil.copytree(shop / NAME, shop / "source")
    with (shop / "source" / f"{NAME}.inter").rename(shop / "source" / "source.inter").open("a") as file:
        file.write("another\ts0c0\t1\n")
    row = {"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": "source", "settings": OURS}}
    with pytest.raises(UserError, match=r"'MMM4Rec', pre-training on 'source': .*a store of data set 'pattern', not"):
        tiny_plan(shop, models=[row])


def test_more_cut_offs_than_items_are_told_before_anything_runs(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from recbole_mmm4rec.compare.__main__ import main

    config = write_config(shop, protocol={"MAX_ITEM_LIST_LENGTH": 6, "topk": [10, 31]})
    assert main(["--config", str(config), "--data", str(shop), "--out", str(shop / "out")]) == 2
    said = capsys.readouterr().err
    assert "topk=[10, 31]: data set 'pattern' has only 30 candidate items; set topk to less" in said
    assert not (shop / "out" / "runs.jsonl").exists()
    tiny_plan(shop, protocol={"MAX_ITEM_LIST_LENGTH": 6, "topk": [10, 30]})


def order(shop: Path, row: Any) -> dict[str, Any]:
    """A job as a worker gets it."""
    plan = tiny_plan(shop, models=[row], seeds=[1])
    found, dataset = next(plan.cells())
    places = {"data_path": str(shop), "threads": 1, "users_file": str(shop / "users.parquet"), "pretrained_file": None}
    return {**vars(plan.run(found, dataset, 1, {})), **places, "unfinished": str(shop / "unfinished")}


TEXT = {"model": "MMM4Rec", "settings": {**OURS, "modalities": ["text"], "epochs": 1}}


def test_a_run_does_not_begin_on_other_data(shop: Path) -> None:
    job = order(shop, TEXT)
    embed_again(shop / NAME / "features", "image")  # which it does not read
    for file in (shop / NAME / "features" / "text").iterdir():
        os.utime(file)  # which changes nothing that it reads
    worker.run(job)
    (shop / "users.parquet").unlink()
    embed_again(shop / NAME / "features", "text")
    with pytest.raises(UserError, match=r"text/.* changed after the comparison had begun; start the command again"):
        worker.run(job)
    assert not (shop / "users.parquet").exists()


@pytest.mark.parametrize("row", [TEXT, {"model": "SASRec", "settings": SASREC}], ids=["ours", "RecBole's"])
@pytest.mark.parametrize("moment", ["while it is read", "while it is trained"])
def test_a_run_does_not_end_on_other_data(
    shop: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], moment: str
) -> None:
    def write() -> None:
        with (shop / NAME / f"{NAME}.inter").open("a") as file:
            file.write("u0\ts0c0\t1700000000\n")  # users and items are as many as before

    build = worker.build

    def building(*given: Any, **more: Any) -> Any:
        write()
        return build(*given, **more)

    class Writing(worker.Clock):
        def epoch_begins(self, training: Any, epoch: int) -> None:
            write()
            super().epoch_begins(training, epoch)

    job = order(shop, row)
    reading = moment == "while it is read"
    monkeypatch.setattr(worker, *(("build", building) if reading else ("Clock", Writing)))
    with pytest.raises(UserError, match=r"pattern\.inter changed after the comparison had begun; start the command"):
        worker.run(job)
    assert not (shop / "users.parquet").exists()
    assert not (reading and [file for file in (shop / "unfinished").rglob("*") if file.is_file()])


@pytest.mark.usefixtures("forked")
def test_runs_on_other_data_are_not_recorded_as_done(shop: Path, tmp_path: Path) -> None:
    plan, records = tiny_plan(shop, models=["Pop"], seeds=[1]), Records(tmp_path / "runs.jsonl")
    with (shop / NAME / f"{NAME}.inter").open("a") as file:
        file.write("u0\ts0c0\t1700000000\n")
    Runner(plan, records, tmp_path, 1, False).run()
    ((record,),) = records.by_id.values()
    assert record["status"] == "failed"
    assert record["error"].startswith(f"{shop / NAME / NAME}.inter changed after the comparison had begun")
    again = tiny_plan(shop, models=["Pop"], seeds=[1])
    assert [records.failed(job) for job in again.waiting(records)] == [None]  # it is another run now
