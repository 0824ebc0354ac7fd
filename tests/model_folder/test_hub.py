"""Pushing a model folder to a hub and fetching it again, against a stand-in for the hub on the loopback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub, running_hub
from shop import python

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.locks import claimed
from recbole_mmm4rec.model_folder.hub import push
from recbole_mmm4rec.recommend.recommender import Recommender


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as made:
        yield made


def asked(hub: Hub, program: str, folder: Path) -> list[str]:
    """What a program of its own prints that knows the hub: its client reads the address when it is imported."""
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "HF_TOKEN": "hf_made_up"}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    done = python("-c", program, cwd=folder, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


PUSH = """
from recbole_mmm4rec.commands.__main__ import main
print(main(["push", {folder!r}, {repo!r}, *{more!r}]))
"""
FETCH = """
import json
from recbole_mmm4rec import Recommender, UserError
for repo in {repos!r}:
    try:
        recommender = Recommender.from_pretrained(repo, cache_dir="cache")
        print(json.dumps([str(recommender.folder), recommender.scores(["k01", "k02"]).tolist()]))
        new = {{"item_id": "n1", "text_vector": [1.0] * 12}}
        try:
            recommender.add_items([new])
        except UserError as error:
            print(error)
        recommender.add_items([new], output="grown")
        recommender.add_items([{{**new, "item_id": "n2"}}])
        print(recommender.folder, len(recommender.items))
    except UserError as error:
        print(error)
"""


def test_what_was_pushed_is_fetched_and_recommends_the_same(hub: Hub, model_folder: Path, tmp_path: Path) -> None:
    told = asked(hub, PUSH.format(folder=str(model_folder), repo="me/kiosk", more=[]), tmp_path)
    assert told[0].startswith(f"{hub.address}/me/kiosk/commit/")
    assert told[1] == "0"
    there = {file.relative_to(model_folder).as_posix(): file for file in model_folder.rglob("*") if file.is_file()}
    assert hub.repos["me/kiosk"] == {name: file.read_bytes() for name, file in there.items()}

    found = asked(hub, FETCH.format(repos=["me/kiosk", "me/nothing", "no name"]), tmp_path)
    place, scores = json.loads(found[0])
    assert os.path.commonpath([place, str(tmp_path / "cache")]) == str(tmp_path / "cache")
    assert np.allclose(scores, Recommender.load(model_folder).scores(["k01", "k02"]), rtol=1e-5, atol=1e-5)
    # the hub's cache is what the hub has
    assert found[1] == f"{place} is the hub's model on this machine; give output, another folder for the new one"
    assert found[2] == "grown 38"
    assert found[3].startswith("me/nothing: the hub does not give or take it: ")
    assert found[4].startswith("no name: the hub does not give or take it: ")


def test_what_another_command_changes_is_not_pushed(hub: Hub, folder_copy: Path) -> None:
    lock = claimed(folder_copy.with_name(f".{folder_copy.name}.lock"))
    with pytest.raises(UserError, match="another command is changing this model folder; wait for it"):
        push(folder_copy, "me/kiosk")
    lock.close()
    assert "me/kiosk" not in hub.repos


def test_what_is_to_be_private_is_not_put_where_all_can_read_it(hub: Hub, model_folder: Path, tmp_path: Path) -> None:
    program = PUSH.format(folder=str(model_folder), repo="me/kiosk", more=["--private"])
    hub.repos["me/kiosk"] = {}
    assert asked(hub, program, tmp_path) == ["2"]
    assert hub.repos["me/kiosk"] == {}
    del hub.repos["me/kiosk"]
    assert asked(hub, program, tmp_path)[1] == "0"
    assert asked(hub, program, tmp_path)[1] == "0"  # once more, into the private one
    assert hub.repos["me/kiosk"]


def test_a_hub_that_is_not_there_is_told(hub: Hub, model_folder: Path, tmp_path: Path) -> None:
    hub.shutdown()
    hub.server_close()
    (told,) = asked(hub, FETCH.format(repos=["me/kiosk"]), tmp_path)
    assert told.startswith("me/kiosk: the hub does not give or take it: ")


def test_a_folder_that_was_changed_is_not_pushed(hub: Hub, folder_copy: Path, tmp_path: Path) -> None:
    (folder_copy / "MODEL_CARD.md").write_text(
        (folder_copy / "MODEL_CARD.md").read_text().replace("MMM4Rec", "mmm4REC")
    )
    assert asked(hub, PUSH.format(folder=str(folder_copy), repo="me/kiosk", more=[]), tmp_path) == ["2"]
    assert not hub.asked
