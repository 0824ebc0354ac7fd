"""The next day: new users, items and interactions, the old folder as it was, mistakes in one line."""

from __future__ import annotations

import json
import shlex
import shutil
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from model_shop import ITEMS, USERS
from more_items import like, state_of

from recbole_mmm4rec import Recommender
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.commands.__main__ import main
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.model_folder.write import write_folder
from recbole_mmm4rec.recommend import update as module
from recbole_mmm4rec.recommend.update import REPLAY, settings_of, update
from recbole_mmm4rec.recommend.update_data import Interactions, _sorted_lines, known_interactions

NEW_USERS, STEPS, START = 12, 8, 1_620_000_000


def write_tables(folder: Path) -> tuple[Path, Path]:
    """New interactions of old and new users, some with a new item; and the table of that item, a twin of k03."""
    lines = ["user_id,item_id,timestamp"]
    lines += [
        f"w{user},k{(7 * user + step) % 36:02d},{START + step}" for user in range(NEW_USERS) for step in range(STEPS)
    ]
    lines += [f"u{user},n3,{START + user}" for user in range(10)]
    (folder / "today.csv").write_text("\n".join(lines) + "\n")
    row = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in like(3).items()}
    for name in ("text_vector", "image_vector"):
        np.save(folder / f"{name}.npy", np.array([row.pop(name)]))
    (folder / "items.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "today.csv", folder / "items.jsonl"


def features_of(recommender: Recommender, modality: str, item: str) -> torch.Tensor:
    return recommender.network.items.features[modality].take(torch.tensor([recommender.items.number(item)]))


@pytest.fixture(scope="module")
def updated(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of one update, and what it told."""
    home = tmp_path_factory.mktemp("update")
    interactions, items = write_tables(home)
    vectors = {name: home / f"{name}_vector.npy" for name in ("text", "image")}
    done = update(model_folder, interactions, items, home / "new", vectors=vectors, epochs=2, show_progress=False)
    return home / "new", done


def test_all_that_is_new_is_in_the_new_folder_and_the_old_one_is_as_it_was(
    updated: tuple[Path, Any], model_folder: Path
) -> None:
    folder, done = updated
    assert (done.interactions, done.users, done.items) == (NEW_USERS * STEPS + 10, NEW_USERS, 1)
    old, new = Recommender.load(model_folder), Recommender.load(folder)
    assert sorted(new.items.ids) == sorted([*old.items.ids, "n3"])
    before, after = old.content.table("interactions.parquet"), new.content.table("interactions.parquet")
    assert after.num_rows == before.num_rows + done.interactions
    users = after["user_id"].cast("string").to_pylist()
    assert len(set(users)) == USERS + NEW_USERS
    assert int(new.items.popularity[new.items.ids.index("n3")]) >= 0
    for item in ITEMS:
        assert new.items.row(item)["price"] == old.items.row(item)["price"]
        assert new.items.row(item)["text"] == old.items.row(item)["text"]
        assert new.items.picture(item) == old.items.picture(item)
        for name in ("text", "image"):
            tables = (
                one.network.items.features[name].take(torch.tensor([one.items.number(item)])) for one in (old, new)
            )
            assert torch.equal(*tables)
    assert new.counts is not None
    assert new.content.settings["run"]["learning_rate"] == 0.01
    assert not list(folder.parent.glob(".*"))  # nothing is left of the work
    again = new.recommend(["n3", "k04"], 5)
    assert again.unknown == ()
    assert again.popular is False


def test_an_epoch_has_the_new_samples_and_some_old_ones(updated: tuple[Path, Any], model_folder: Path) -> None:
    """What was held out yesterday is new today; each user's first item is no target, the last two are held out."""
    table = Recommender.load(model_folder).content.table("interactions.parquet")
    users, parts = table["user_id"].cast("string").to_numpy(), table["part"].to_numpy()
    new = NEW_USERS * (STEPS - 3)
    for user in np.unique(users):
        known = int((parts[users == user] == 0).sum())
        whole = int((users == user).sum()) + (int(user[1:]) < 10)
        new += max(0, whole - 2 - known)
    assert updated[1].samples == new + round(REPLAY * new)


def test_weights_begin_where_they_were(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an epoch the new folder scores as the old one, whatever the order of its items."""
    interactions, _ = write_tables(tmp_path)
    lines = [line for line in interactions.read_text().splitlines() if "n3" not in line]
    interactions.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(module, "settings_of", lambda run: {**settings_of(run), "learning_rate": 1e-30})
    done = update(model_folder, interactions, output=tmp_path / "new", epochs=1, show_progress=False)
    old, new = Recommender.load(model_folder), Recommender.load(done.folder)
    order = [new.items.ids.index(item) for item in old.items.ids]
    wanted = old.scores([["k00", "k01", "k07"]], neighbours=False)
    np.testing.assert_allclose(new.scores([["k00", "k01", "k07"]], neighbours=False)[:, order], wanted, atol=1e-5)


def test_a_killed_update_goes_on(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interactions, items = write_tables(tmp_path)
    given: dict[str, Any] = {
        "items": items,
        "output": tmp_path / "new",
        "vectors": {"text": tmp_path / "text_vector.npy"},
        "epochs": 2,
        "show_progress": False,
    }
    before = state_of(model_folder)
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_folder", _killed)
        with pytest.raises(KeyboardInterrupt):
            update(model_folder, interactions, **given)
    assert state_of(model_folder) == before
    work = tmp_path / ".new.work"
    assert (work / "job.json").is_file()
    assert not (tmp_path / "new").exists()
    written = (work / "dataset").stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_data_set", _killed)  # it is there
        patch.setattr(module, "_remove", _killed)
        with pytest.raises(KeyboardInterrupt):  # when the new folder is there, and the working one, too
            update(model_folder, interactions, **given)
    assert written
    made = state_of(tmp_path / "new")
    with pytest.raises(UserError, match="it is there already"):
        update(model_folder, interactions, **{**given, "epochs": 3})
    with monkeypatch.context() as patch:
        patch.setattr(module, "_train", _killed)  # it is trained
        done = update(model_folder, interactions, **given)
    assert (done.items, done.users) == (1, NEW_USERS)
    assert state_of(done.folder) == made
    assert not work.exists()


def test_what_is_known_is_not_counted_again(model_folder: Path, tmp_path: Path) -> None:
    known = known_interactions(Recommender.load(model_folder).content.contents())
    rows = list(zip(known.users, known.items, known.times, strict=True))[:6]
    table = tmp_path / "again.csv"

    def write(rows: list[Any]) -> None:
        table.write_text("\n".join(["user_id,item_id,timestamp", *(",".join(map(str, row)) for row in rows)]) + "\n")

    write(rows)
    with pytest.raises(UserError, match=r"again\.csv: the model has all of its 6 interactions; nothing is new"):
        update(model_folder, table, output=tmp_path / "new", show_progress=False)
    write([*rows, ("w", "k01", START), ("w", "k01", START), ("w", "k02", START + 1), ("w", "k03", START + 2)])
    done = update(model_folder, table, output=tmp_path / "new", epochs=1, show_progress=False)
    assert (done.interactions, done.known) == (3, 7)
    after = known_interactions(Recommender.load(tmp_path / "new").content.contents())
    assert len(after) == len(known) + 3


def test_new_items_with_other_numbers_are_another_update(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors that were corrected after a break are what goes on."""
    interactions, items = write_tables(tmp_path)
    vectors = {name: tmp_path / f"{name}_vector.npy" for name in ("text", "image")}
    given: dict[str, Any] = {"items": items, "output": tmp_path / "new", "vectors": vectors, "show_progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(module, "_train", _killed)
        with pytest.raises(KeyboardInterrupt):
            update(model_folder, interactions, **given)
    corrected = -np.load(vectors["text"])
    np.save(vectors["text"], corrected)
    update(model_folder, interactions, epochs=1, **given)
    found = features_of(Recommender.load(tmp_path / "new"), "text", "n3")
    np.testing.assert_allclose(found.float().numpy(), corrected, atol=1e-6)


def test_from_inside_the_folder(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(model_folder, tmp_path / "shop")
    interactions, _ = write_tables(tmp_path)
    interactions.write_text("".join(line for line in interactions.open() if ",n3," not in line))
    monkeypatch.chdir(tmp_path / "shop")
    assert update(".", interactions, epochs=1, show_progress=False).folder == tmp_path / "shop-updated"


def test_a_line_break_in_a_column_of_a_new_item(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "shop")
    Recommender.load(tmp_path / "shop").add_items([{**like(3), "category": "a\nb\tc"}])
    interactions, _ = write_tables(tmp_path)
    done = update(tmp_path / "shop", interactions, epochs=1, show_progress=False)
    items = Recommender.load(done.folder).items.table.to_pylist()
    assert next(row["category"] for row in items if row["item_id"] == "n3") == "a b c"


def day(folder: Path, *rows: tuple[str, str, int]) -> Path:
    """A table of new interactions."""
    lines = ["user_id,item_id,timestamp", *(",".join(map(str, row)) for row in rows)]
    (folder / "day.csv").write_text("\n".join(lines) + "\n")
    return folder / "day.csv"


FOUR = [("w", "k01", START), ("w", "k02", START + 1), ("w", "k03", START + 2), ("w", "k04", START + 3)]
"""A new user's, of which the second is trained on; the last two are held out."""


def test_texts_that_are_not_clean(model_folder: Path, tmp_path: Path) -> None:
    contents = Folder(model_folder).contents()
    texts = contents.items["text"].to_pylist()
    raw = pa.array([f'"{text}  now\u00a0\x07 ' for text in texts])
    items = contents.items.set_column(contents.items.column_names.index("text"), "text", raw)
    write_folder(tmp_path / "shop", replace(contents, items=items))
    done = update(tmp_path / "shop", day(tmp_path, *FOUR), epochs=1, show_progress=False)
    new = Recommender.load(done.folder).items
    assert [new.text(item) for item in contents.items["item_id"].to_pylist()] == [
        " ".join(f"\u201c{text} now".split()) for text in texts
    ]


def test_an_update_is_validated_where_the_training_was_not(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody knows whether the new weights are the better ones."""
    interactions, _ = write_tables(tmp_path)
    lines = [line for line in interactions.read_text().splitlines() if "n3" not in line]
    interactions.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(module, "settings_of", lambda run: {**settings_of(run), "eval_step": 0})
    found = []
    train = module._train

    def noted(*arguments: Any) -> dict[str, Any]:
        found.append(train(*arguments))
        return found[-1]

    monkeypatch.setattr(module, "_train", noted)
    update(model_folder, interactions, output=tmp_path / "new", epochs=1, show_progress=False)
    assert [entry.epoch for entry in found[0]["valid_history"]] == [0, 1]


def test_a_day_that_teaches_nothing_leaves_the_weights(model_folder: Path, tmp_path: Path) -> None:
    """The second interaction was trained on, a third one is tested on."""
    first = update(model_folder, day(tmp_path, *FOUR[:2]), output=tmp_path / "one", epochs=1, show_progress=False)
    done = update(first.folder, day(tmp_path, FOUR[2]), output=tmp_path / "two", epochs=2, show_progress=False)
    assert (done.interactions, done.samples, done.best_epoch) == (1, 0, 0)
    old, new = Recommender.load(first.folder), Recommender.load(done.folder)
    order = [new.items.ids.index(item) for item in old.items.ids]
    wanted = old.scores([["k00", "k01", "k07"]], neighbours=False)
    np.testing.assert_array_equal(new.scores([["k00", "k01", "k07"]], neighbours=False)[:, order], wanted)
    assert new.has_neighbours  # which count from the first validation on
    assert sorted(file.name for file in tmp_path.iterdir()) == ["day.csv", "one", "two"]
    more = day(tmp_path, FOUR[3], ("w", "k05", START + 4))
    assert update(done.folder, more, output=tmp_path / "three", epochs=1, show_progress=False).samples == 1


def chosen_in(monkeypatch: pytest.MonkeyPatch) -> list[set[tuple[str, str]]]:
    """What the updates that follow train on, each a set of user and item; nothing old."""
    told: list[set[tuple[str, str]]] = []
    choose = module._Begin._samples

    def noted(begin: Any, dataset: Any, seed: int) -> torch.Tensor:
        chosen = choose(begin, dataset, seed)
        columns = dataset.inter_feat.interaction
        rows, target = columns.rows, columns.target[chosen]
        named = (
            dataset.field2id_token[name][rows[name][target].numpy()] for name in (dataset.uid_field, dataset.iid_field)
        )
        told.append(set(zip(*(map(str, part) for part in named), strict=True)))
        return chosen

    monkeypatch.setattr(module, "REPLAY", 0)
    monkeypatch.setattr(module._Begin, "_samples", noted)
    return told


def test_what_comes_late_is_new(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interaction before others that the model has is trained on, and what it pushes back is not once more."""
    update(model_folder, day(tmp_path, *FOUR), output=tmp_path / "one", epochs=1, show_progress=False)
    told = chosen_in(monkeypatch)
    late = day(tmp_path, ("w", "k09", START - 5))
    update(tmp_path / "one", late, output=tmp_path / "two", epochs=1, show_progress=False)
    assert {item for user, item in told[0] if user == "w"} == {"k01"}  # the first one was no target before


def test_what_the_old_weights_won_against_is_still_new(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = chosen_in(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(module, "RATE", 1e6)  # which makes every epoch a bad one
        first = update(model_folder, day(tmp_path, *FOUR), output=tmp_path / "1", epochs=1, show_progress=False)
    assert (first.best_epoch, first.samples, told[0]) == (0, 1, {("w", "k02")})
    update(first.folder, day(tmp_path, ("v", "k01", START)), output=tmp_path / "2", epochs=1, show_progress=False)
    assert told[1] == told[0]


def test_the_card_tells_how_to_make_it_again(updated: tuple[Path, Any], model_folder: Path) -> None:
    folder, _ = updated
    again = (folder / "MODEL_CARD.md").read_text().partition("## How to make it again")[2]
    command = shlex.split(again.split("```")[1])
    home = folder.parent
    assert command[:6] == ["mmm4rec", "update", str(model_folder), "--interactions", str(home / "today.csv"), "--items"]
    assert command[-6:] == ["--vectors", f"text={home}/text_vector.npy", *command[-4:-2], "--epochs", "2"]
    before = Recommender.load(model_folder).content.settings["run"]["command"]
    assert again.split("```")[3].strip() == before
    assert ".work" not in again + (folder / "settings.json").read_text()


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("banana", "there is no such device; write cpu or cuda"),
        ("meta", "there is no such device"),
        ("cuda", "PyTorch finds no GPU here"),
        ("cuda:2", "the last GPU here is cuda:1"),
    ],
)
def test_a_device_that_is_not_there(
    device: str, message: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    rows = day(tmp_path, *FOUR)
    for ask in (
        lambda: update(model_folder, rows, output=tmp_path / "new", device=device, show_progress=False),
        lambda: Recommender.load(model_folder, device),
    ):
        with pytest.raises(UserError, match=f"device='{device}': {message}"):
            ask()
    assert [file.name for file in tmp_path.iterdir()] == ["day.csv"]


def test_an_update_goes_where_it_is_told(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def noted(*_: Any, config_dict: dict[str, Any], **__: Any) -> None:
        given.update(config_dict)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", lambda chosen: nullcontext(given.update(chosen=str(chosen))))
    monkeypatch.setattr("recbole_mmm4rec.run.quick_start.run_recbole", noted)
    with pytest.raises(KeyboardInterrupt):
        update(model_folder, day(tmp_path, *FOUR), output=tmp_path / "new", device="cuda:1", show_progress=False)
    assert (given["use_gpu"], given["gpu_id"], given["chosen"]) == (True, 1, "cuda:1")


def test_the_order_of_users_takes_no_memory_for_the_longest_name(tmp_path: Path) -> None:
    count = 3_000
    rows = Interactions(
        [f"u{number}" for number in range(count)] + ["x" * 10_000], ["k"] * (count + 1), [1] * count + [2]
    )
    tracemalloc.start()
    lines = list(_sorted_lines([rows]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines[:2] == ["u0\tk\t1\n", "u1\tk\t1\n"]
    assert peak < 10e6


def _killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_mistakes_are_one_line(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "today.csv"
    head = "user_id,item_id,timestamp\n"
    for text, words in (
        (
            f"{head}u1,k01,5\nu1,k99,6\n",
            f"{table} line 3: the shop does not have item 'k99'; give it with",
        ),
        (f"{head}u1,k01,now\n", f"{table} line 2: timestamp 'now' is no number of seconds"),
        (f"{head}u1,k01,-5\n", f"{table} line 2: timestamp '-5' must be whole seconds"),
        (f"{head}u1,k01,1600000000000\n", f"{table} line 2: timestamp '1600000000000' looks like milliseconds"),
        (f"{head},k01,5\n", f"{table} line 2: user_id is empty"),
        (head, f"{table}: there is no interaction in it"),
        ("user,item\n", f"{table}: no column 'user_id' among user, item"),
    ):
        table.write_text(text)
        assert main(["update", str(model_folder), "--interactions", str(table), "--output", str(tmp_path / "new")]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {words}")
        assert said.count("\n") == 1
        assert sorted(file.name for file in tmp_path.iterdir()) == ["today.csv"]
    shutil.copytree(model_folder, tmp_path / "there")
    with pytest.raises(UserError, match="it is there already"):
        update(model_folder, table, output=tmp_path / "there")
