"""What a training leaves in a model folder, and how a damaged one is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from model_shop import ITEMS, NAME, NO_PICTURE, NO_TEXT, USERS
from more_items import like
from PIL import Image
from safetensors import safe_open

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder import layout, manifest
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.model_folder.tensors import read_tensors, write_tensors
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable
from recbole_mmm4rec.recommend.recommender import Recommender


def test_no_file_can_hold_code(model_folder: Path) -> None:
    kinds = {file.suffix for file in model_folder.rglob("*") if file.is_file()}
    assert kinds == {".json", ".safetensors", ".parquet", ".arrow", ".md"}
    listed = json.loads((model_folder / layout.MANIFEST).read_text())["files"]
    there = {file.relative_to(model_folder).as_posix() for file in model_folder.rglob("*") if file.is_file()}
    assert set(listed) == there - {layout.MANIFEST}


def test_the_items_are_the_data_set_s(kiosk: Path, model_folder: Path) -> None:
    items = Recommender.load(model_folder).items
    lines = (kiosk / "dataset" / NAME / f"{NAME}.item").read_text().splitlines()[1:]
    written = {line.split("\t")[0]: line.split("\t") for line in lines}
    assert sorted(items.ids) == ITEMS
    for item in items.ids:
        row = items.row(item)
        assert [row["text"], row["category"], str(row["price"])] == [*written[item][1:3], str(float(written[item][3]))]
        assert row["has_text"] == (item not in NO_TEXT)
        assert row["has_image"] == (item not in NO_PICTURE)
    taken = [line.split("\t")[1] for line in (kiosk / "dataset" / NAME / f"{NAME}.inter").read_text().splitlines()[1:]]
    # of each user all but the last two, which validate and test
    assert items.popularity.sum() == len(taken) - 2 * USERS


def test_pictures_travel_small(model_folder: Path) -> None:
    items = Recommender.load(model_folder).items
    assert [item for item in ITEMS if items.picture(item) is None] == list(NO_PICTURE)
    picture = Image.open(io.BytesIO(items.picture("k00") or b""))
    assert (picture.format, picture.size) == ("JPEG", (96, 96))


def test_interactions_are_all_there_with_their_part(kiosk: Path, model_folder: Path) -> None:
    folder = Folder(model_folder)
    table, ids = folder.table(layout.INTERACTIONS), folder.items["item_id"].to_pylist()
    lines = (kiosk / "dataset" / NAME / f"{NAME}.inter").read_text().splitlines()[1:]
    found = zip(*(table[name].to_pylist() for name in ("user_id", "item", "timestamp")), strict=True)
    assert sorted((user, ids[item - 1], str(time)) for user, item, time in found) == sorted(
        (user, item, str(int(time))) for user, item, time in (line.split("\t") for line in lines)
    )
    parts = table["part"].to_numpy()
    assert [int((parts == number).sum()) for number in (1, 2)] == [USERS, USERS]
    assert folder.user("nobody") == folder.user(None) == 0


def test_metrics_have_intervals_and_are_told_without_a_modality(model_folder: Path) -> None:
    found = json.loads((model_folder / layout.METRICS).read_text())
    assert found["users"] == USERS
    assert set(found["without"]) == {"text", "image"}
    for value in found["test"].values():
        assert 0 <= value["low"] <= value["value"] + 5e-5  # RecBole rounds to four digits
        assert value["value"] <= value["high"] + 5e-5 <= 1.0001
    assert found["without"]["text"]["mrr@5"]["value"] < found["test"]["mrr@5"]["value"]
    card = (model_folder / layout.CARD).read_text()
    assert "{value:.4f} [{low:.4f}".format(**found["test"]["mrr@5"]) in card
    assert "mmm4rec train --dataset=kiosk" in card
    assert "--hidden_size=16" in card


def test_files_are_safetensors_of_the_library(model_folder: Path) -> None:
    for file in model_folder.rglob("*.safetensors"):
        with safe_open(file, framework="pt") as content:
            assert list(content.keys())
            assert (8 + int.from_bytes(file.read_bytes()[:8], "little")) % 64 == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_back_as_they_were(tmp_path: Path, dtype: torch.dtype) -> None:
    given = {
        "table": torch.arange(24).reshape(6, 4).to(dtype),
        "number": torch.tensor(1).to(dtype),
        "none": torch.zeros(0, 3).to(dtype),
        "turned": torch.arange(6).reshape(2, 3).to(dtype).T,
    }
    write_tensors(tmp_path / "file.safetensors", given)
    found = read_tensors(tmp_path / "file.safetensors")
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == dtype for name, value in given.items())


def test_a_table_on_disk_is_written_as_it_is_read(tmp_path: Path) -> None:
    table = FrozenTable(torch.randn(5, 3).half(), torch.tensor([-1, 4, 0, -1, 2]))
    write_tensors(tmp_path / "file.safetensors", {"values": table})
    found = read_tensors(tmp_path / "file.safetensors")["values"]
    assert torch.equal(found, table.take(slice(None), torch.float16))


def damage(folder: Path, name: str, how: str) -> None:
    file = folder / name
    data = file.read_bytes()
    if how == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif how == "changed":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
@pytest.mark.parametrize(
    "name", [layout.SETTINGS, layout.WEIGHTS, layout.SIDE, layout.ITEMS, layout.PICTURES, layout.NEIGHBOURS]
)
def test_a_damaged_file_is_told_by_its_name(folder_copy: Path, name: str, how: str) -> None:
    damage(folder_copy, name, how)
    wanted = {"cut": "says", "changed": "changed since it was written", "gone": "missing"}[how]
    with pytest.raises(UserError, match=wanted) as told:
        Recommender.load(folder_copy)
    assert str(folder_copy / name) in str(told.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('{"format": 2, "other": 1}', "a model folder of format 2, this program reads format 1; install a newer one"),
        ("{", "cut off or no JSON"),
        ("[1]", "no JSON object"),
        ('{"format": 1}', "has no 'model'"),
    ],
)
def test_a_manifest_that_is_none_is_told(folder_copy: Path, change: str, message: str) -> None:
    (folder_copy / layout.MANIFEST).write_text(change)
    with pytest.raises(UserError, match=message):
        Recommender.load(folder_copy)


def test_a_manifest_cannot_name_what_lies_elsewhere(folder_copy: Path) -> None:
    manifest = json.loads((folder_copy / layout.MANIFEST).read_text())
    manifest["files"]["../elsewhere"] = {"bytes": 0, "sha256": ""}
    (folder_copy / layout.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="outside of the folder"):
        Recommender.load(folder_copy)


@pytest.mark.parametrize("name", ["../../escaped", "a/b", "a\\\\b", "..", ""])
def test_a_data_set_has_a_name_that_leads_nowhere(folder_copy: Path, name: str) -> None:
    manifest = json.loads((folder_copy / layout.MANIFEST).read_text())
    (folder_copy / layout.MANIFEST).write_text(json.dumps({**manifest, "dataset": name}))
    with pytest.raises(UserError, match=r"manifest\.json: it has a wrong 'dataset'"):
        Recommender.load(folder_copy)


def test_what_is_no_model_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such model folder"):
        Recommender.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no model folder, there is no"):
        Recommender.load(tmp_path)


def test_who_looks_at_a_folder_while_another_adds_is_told_of_no_damage(
    folder_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's folder takes the place of this one when the manifest has been read."""
    waiting, check = [Recommender.load(folder_copy)], manifest.check_file
    checked: list[str] = []

    def late(folder: Path, name: str, listed: dict[str, Any]) -> Path:
        if waiting:
            waiting.pop().add_items([like(3)])
        checked.append(name)
        return check(folder, name, listed)

    monkeypatch.setattr(manifest, "check_file", late)
    manifest.look_at(folder_copy)
    assert len(checked) > len(set(checked))  # looked at a second time
    (folder_copy / layout.CARD).write_bytes(b"")
    with pytest.raises(UserError, match="has 0 bytes"):  # damage is told all the same
        manifest.look_at(folder_copy)


def test_an_older_folder_stays_until_the_new_one_is_whole(folder_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = Recommender.load(folder_copy)
    before = {file: file.read_bytes() for file in folder_copy.rglob("*") if file.is_file()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recbole_mmm4rec.model_folder.write.write_manifest", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        recommender.save(folder_copy)
    assert {file: file.read_bytes() for file in folder_copy.rglob("*") if file.is_file()} == before
    monkeypatch.undo()
    recommender.save(folder_copy)
    assert sorted(file.name for file in folder_copy.parent.iterdir()) == ["model"]
    assert np.array_equal(Recommender.load(folder_copy).scores(["k01"]), Recommender.load(folder_copy).scores(["k01"]))
    assert isinstance(Folder(folder_copy).pictures(), pa.Array)
