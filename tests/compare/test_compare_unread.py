"""A half-trained run goes on whatever changes that it does not read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pattern_shop import NAME, write_pattern_shop
from tiny_comparison import OURS, SASREC, tiny_plan

from recbole_mmm4rec.compare import worker
from recbole_mmm4rec.features.store import FeatureStore, write_store

pytestmark = pytest.mark.usefixtures("own_folder")
ROWS: dict[str, dict[str, Any]] = {
    "RecBole's": {"model": "SASRec", "settings": {**SASREC, "epochs": 3}},
    "RecBole's with text": {"model": "SASRecF", "settings": {**SASREC, "epochs": 3, "selected_features": ["text"]}},
    "ours": {"model": "MMM4Rec", "settings": {**OURS, "epochs": 3, "modalities": ["text"]}},
    "a pre-training": {"model": "MMM4Rec", "settings": {**OURS, "epochs": 3, "modalities": ["text"]}},
}


def embedded_again(shop: Path) -> None:
    """Other vectors of a modality that no row here has."""
    store = FeatureStore.open(shop / NAME / "features" / "image")
    made = {key: value for key, value in vars(store.manifest).items() if key not in ("rows", "items_hash", "format")}
    write_store(store.path, **made, items=store.items, present=store.present, chunks=[-np.array(store.table)])


def noted(shop: Path) -> None:
    """Files that nothing reads: beside the stores, kept by an encoder, and a table of no model's."""
    (shop / NAME / "features" / "notes.txt").write_text("mine")
    cache = shop / NAME / "features" / ".cache"
    cache.mkdir()
    (cache / "vectors").write_text("kept")
    (shop / NAME / f"{NAME}.prep.json").write_text("{}")
    (shop / NAME / f"{NAME}.user").write_text("user_id:token\nu0\n")
    shutil.copy(shop / NAME / f"{NAME}.inter", shop / NAME / f"{NAME}.backup.inter")


def touched(shop: Path) -> None:
    """Later times of change, of what is read, too."""
    for file in (shop / NAME).rglob("*"):
        os.utime(file)


def copied(shop: Path) -> None:
    """The data set is another folder with the same files, at the same place."""
    shutil.copytree(shop / NAME, shop / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(shop / NAME)
    (shop / "copy").rename(shop / NAME)


class Cut(worker.Clock):
    """Notes which epochs begin, and breaks a training off, as a kill does, before one."""

    before: int | None = None
    begun: list[int]

    def epoch_begins(self, training: Any, epoch: int) -> None:
        """Break off, once its time has come."""
        if epoch == self.before:
            raise KeyboardInterrupt
        self.begun.append(epoch)
        super().epoch_begins(training, epoch)


def order_of(shop: Path, row: str, **settings: Any) -> dict[str, Any]:
    """What a call of the command tells its worker."""
    given = {**ROWS[row], "settings": {**ROWS[row]["settings"], **settings}}
    plan = tiny_plan(shop, models=[given], seeds=[1])
    found, dataset = next(plan.cells())
    job = plan.run(found, dataset, 1, {})
    if row == "a pre-training":
        job = replace(job, kind="pretraining", expected={})
    places = {"users_file": "u.parquet", "checkpoint_file": "m.safetensors", "unfinished": f"unfinished/{job.id}"}
    places = {key: str(shop / place) for key, place in places.items()}
    return {**vars(job), **places, "data_path": str(shop), "threads": 1, "pretrained_file": None}


def begun(monkeypatch: pytest.MonkeyPatch, before: int | None = None) -> list[int]:
    """The epochs that begin from now on; ``before``: the one that does not."""
    found: list[int] = []
    monkeypatch.setattr(worker, "Clock", type("Cut", (Cut,), {"before": before, "begun": found}))
    return found


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("change", [embedded_again, noted, touched, copied], ids=lambda change: change.__name__)
def test_a_run_that_was_cut_off_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, change: Callable[[Path], None]
) -> None:
    write_pattern_shop(tmp_path)
    first = begun(monkeypatch, before=2)
    with pytest.raises(KeyboardInterrupt):
        worker.run(order_of(tmp_path, row))
    assert first == [0, 1]
    change(tmp_path)
    again = begun(monkeypatch)
    result = worker.run(order_of(tmp_path, row))
    assert again == [2]
    assert (result["epochs"], len(result["history"])) == (3, 3)
    assert len(list((tmp_path / "unfinished").iterdir())) == 1


def test_more_time_goes_on_when_files_that_are_not_read_have_changed(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    first = worker.run({**order_of(tmp_path, "ours"), "max_seconds": 1e-9})
    assert (first["time_up"], first["epochs"]) == (True, 1)
    noted(tmp_path)
    more = worker.run({**order_of(tmp_path, "ours"), "max_seconds": 1e9})
    assert (more["epochs"], more["history"][0]) == (3, first["history"][0])  # its seconds, too


def test_what_is_read_makes_another_run(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    before = order_of(tmp_path, "ours")
    with (tmp_path / NAME / f"{NAME}.inter").open("a") as file:
        file.write("u0\ts0c0\t1700000000\n")
    assert order_of(tmp_path, "ours")["unfinished"] != before["unfinished"]


def test_kept_data_that_were_read_while_a_file_changed_are_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are known by sizes and times; the run's hash is that of other content."""
    write_pattern_shop(tmp_path)
    file = tmp_path / NAME / f"{NAME}.inter"
    good, build = file.read_text(), worker.build
    order = order_of(tmp_path, "RecBole's", save_dataset=True, save_dataloaders=True)

    def building(*given: Any, **more: Any) -> Any:
        file.write_text(good + "u0\ts0c0\t1700000000\n")
        return build(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "build", building)
        with pytest.raises(Exception, match="changed after the comparison had begun"):
            worker.run(order)
    assert list(Path(order["unfinished"]).glob("*.pth"))
    file.write_text(good)
    kept = worker.run(order_of(tmp_path, "RecBole's", save_dataset=True, save_dataloaders=True))
    shutil.rmtree(order["unfinished"])
    assert worker.run(order)["test"] == kept["test"]
