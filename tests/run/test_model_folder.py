"""Which runs end with a model folder, what is taken from their data, and what the user is told."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from model_shop import NAME
from pattern_shop import NAME as PATTERN
from pattern_shop import pattern_settings, write_pattern_shop
from tiny_data import ITEMS, make_dataset, six_users, write_inter, write_vectors

from recbole_mmm4rec.model_folder import layout
from recbole_mmm4rec.model_folder.checks import check_interactions
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.run.build import build, make_config
from recbole_mmm4rec.run.cli import parse_arguments, parse_value, summary
from recbole_mmm4rec.run.folder import command_of, interactions_of, items_of, plain_settings, wants_folder
from recbole_mmm4rec.run.quick_start import run_recbole


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, True),
        ({"model_folder": False}, False),
        ({"stage": "pretrain"}, False),
        ({"model": "SASRec", "model_folder": None, "stage": None}, False),
    ],
)
def test_only_trainings_of_ours_end_with_a_folder(changes: dict[str, Any], wanted: bool) -> None:
    assert wants_folder({"model": "MMM4Rec", "model_folder": True, "stage": "train", **changes}) is wanted


def test_the_end_of_a_training_names_the_folder_and_what_to_type(kiosk: Path, model_folder: Path) -> None:
    metrics = {"hit@10": 0.5}
    result = {"best_valid_result": metrics, "test_result": metrics, "saved_model_file": "saved/a.pth"}
    result |= {"model_folder": str(model_folder), "log_file": None, "tensorboard_dir": None}
    told = summary("MMM4Rec", NAME, result)
    assert f"Folder      {model_folder}" in told
    (command,) = [line for line in told.splitlines() if "mmm4rec recommend" in line]
    first, second = command.split("'")[1].split()
    rows = json.loads((model_folder / layout.MANIFEST).read_text())
    assert rows["dataset"] == NAME
    assert command.startswith(f"  mmm4rec recommend {model_folder} --history ")
    assert first != second
    assert "mmm4rec recommend" not in summary("MMM4Rec", NAME, {**result, "model_folder": None})


@pytest.mark.parametrize("split", [{"LS": "valid_only"}, {"RS": [9, 1, 0]}, {"RS": [1, 0, 0]}])
def test_a_training_without_a_test_part_ends_with_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run_recbole.py"])
    write_pattern_shop(tmp_path)
    changes = {"epochs": 1, "model_folder": True, "eval_args": {"split": split, "order": "TO", "mode": "full"}}
    result = run_recbole("MMM4Rec", PATTERN, config_dict=pattern_settings(tmp_path, **changes))
    assert not result["test_result"]
    folder = Path(result["model_folder"])
    metrics = json.loads((folder / layout.METRICS).read_text())
    assert (metrics["test"], metrics["users"], metrics["without"]) == ({}, 0, {})
    assert bool(metrics["valid"]) is (split != {"RS": [1, 0, 0]})
    recommender = Recommender.load(folder)
    known = recommender.content.items["item_id"][0].as_py()
    assert len(recommender.recommend([[known]], 3)[0].items) == 3
    assert f"Folder      {folder}" in summary("MMM4Rec", PATTERN, result)


def test_a_folder_has_neighbours_where_its_test_had_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not beside a model that has not been trained here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run_recbole.py"])
    write_pattern_shop(tmp_path)
    for epochs in (0, 1):
        changes = {"epochs": epochs, "model_folder": True, "neighbour_weight": 3}
        result = run_recbole("MMM4Rec", PATTERN, config_dict=pattern_settings(tmp_path, **changes))
        assert Recommender.load(result["model_folder"]).has_neighbours is bool(epochs)


def test_the_command_has_settings_of_the_data(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    given = {
        "user_inter_num_interval": "[5,inf)",
        "rm_dup_inter": "last",
        "val_interval": {"timestamp": "[0,inf)"},
        "encoding": "latin-1",
        "NEG_PREFIX": "not_",
    }
    places = {"data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved")}
    config = make_config("MMM4Rec", PATTERN, config_dict={**places, **given})
    words = shlex.split(command_of(config))
    assert {word[2:].split("=")[0] for word in words[3:]} == {*given, "seed"}
    typed = {key: parse_value(value) for key, value in parse_arguments(words[3:]).items()}
    assert plain_settings(make_config("MMM4Rec", PATTERN, config_dict={**typed, **places})) == plain_settings(config)


def test_the_command_that_makes_it_again_has_all_settings(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    split = {"split": {"global_time": [8, 1, 1]}, "order": "TO", "mode": "full"}
    given = {
        "learning_rates": {"ids": 0.1},
        "clip_grad_norm": {"max_norm": 5},
        "eval_args": split,
        "modalities": ["text"],
    }
    places = {"data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "a b")}
    config = make_config("MMM4Rec", PATTERN, config_dict={**places, **given, "learning_rate": 0.002})
    words = shlex.split(command_of(config))
    assert words[:3] == ["mmm4rec", "train", f"--dataset={PATTERN}"]
    typed = {key: parse_value(value) for key, value in parse_arguments(words[3:]).items()}
    again = make_config("MMM4Rec", PATTERN, config_dict={**typed, **places})
    assert plain_settings(again) == plain_settings(config)
    assert "eval_args" not in command_of(make_config("MMM4Rec", PATTERN, config_dict=places))


def parts_of(dataset: Any) -> Any:
    """A run with the loaders of a data set, as far as interactions ask."""
    names = ("train", "valid", "test")
    loaders = {name: SimpleNamespace(_dataset=part) for name, part in zip(names, dataset.build(), strict=True)}
    return SimpleNamespace(**loaders)


def rows_of(table: Any) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in ("user_id", "item", "timestamp", "part")), strict=True))


def test_interactions_of_one_table_are_all_of_it(tmp_path: Path) -> None:
    dataset = make_dataset(six_users(tmp_path), model="MMM4Rec")
    lines = (tmp_path / "tiny" / "tiny.inter").read_text().splitlines()[1:]
    numbers = {name: number for number, name in enumerate(dataset.field2id_token["item_id"])}
    given = {(u, numbers[i], int(t)) for u, i, t in (line.split("\t") for line in lines)}
    found = rows_of(interactions_of(parts_of(dataset)))
    assert {row[:3] for row in found} == given
    by_user: dict[str, list[int]] = {}
    for user, _, _, part in found:
        by_user.setdefault(user, []).append(part)
    assert by_user["u0"] == [0] * 7 + [1, 2]
    assert by_user["u1"] == [0]  # one interaction is no sample


def test_interactions_of_ready_made_histories_are_put_together(tmp_path: Path) -> None:
    columns = "user_id:token item_id_list:token_seq item_id:token"
    for name, rows in {
        "train": [("a", "i0", "i1"), ("a", "i0 i1", "i2"), ("b", "i3", "i0")],
        "valid": [("a", "i0 i1 i2", "i3"), ("b", "i3 i0", "i2")],
        "test": [("a", "i0 i1 i2 i3", "i4"), ("b", "i3 i0 i2", "i1")],
    }.items():
        write_inter(tmp_path, rows, columns, f".{name}")
    write_vectors(tmp_path, ITEMS)
    keys = {"benchmark_filename": ["train", "valid", "test"], "load_col": None}
    dataset = make_dataset(tmp_path, model="MMM4Rec", **keys)
    tokens = dataset.field2id_token["item_id"]
    found = [
        (user, str(tokens[item]), time, part) for user, item, time, part in rows_of(interactions_of(parts_of(dataset)))
    ]
    assert [row for row in found if row[0] == "a"] == [
        ("a", "i0", 0, 0),
        ("a", "i1", 1, 0),
        ("a", "i2", 2, 0),
        ("a", "i3", 3, 1),
        ("a", "i4", 4, 2),
    ]
    assert [(item, part) for user, item, _, part in found if user == "b"] == [
        ("i3", 0),
        ("i0", 0),
        ("i2", 1),
        ("i1", 2),
    ]


def test_columns_of_the_item_file_come_along(tmp_path: Path) -> None:
    dataset = make_dataset(six_users(tmp_path), model="MMM4Rec")
    header = "item_id:token\ttitle:token_seq\tprice:float\tpopularity:float"
    (tmp_path / "tiny" / "tiny.item").write_text(f"{header}\ni3\tthird\t2.5\t9\nelsewhere\tx\t1\t1\ni0\t\tnan\t\n")
    ours = {"popularity": [1, 2], "has_text": [True, False], "has_image": [False, False]}
    table = items_of(dataset, ["i0", "i3"], ours)
    assert table.to_pylist() == [
        {"item_id": "i0", "text": "", "title": "", "price": None, "item_popularity": None}
        | {"popularity": 1, "has_text": True, "has_image": False},
        {"item_id": "i3", "text": "", "title": "third", "price": 2.5, "item_popularity": 9.0}
        | {"popularity": 2, "has_text": False, "has_image": False},
    ]


def test_odd_columns_of_an_item_file(tmp_path: Path) -> None:
    """A text that is a number, and a name that another column gets."""
    dataset = make_dataset(six_users(tmp_path), model="MMM4Rec")
    header = "item_id:token\ttext:float\tpopularity:float\titem_popularity:float"
    (tmp_path / "tiny" / "tiny.item").write_text(f"{header}\ni3\t1.5\t9\t7\n")
    ours = {"popularity": [2], "has_text": [False], "has_image": [False]}
    (row,) = items_of(dataset, ["i3"], ours).to_pylist()
    assert row["text"] == "1.5"
    assert sorted(value for key, value in row.items() if key.endswith("popularity")) == [2, 7.0, 9.0]


def test_the_command_names_what_differs_from_the_defaults(kiosk: Path, model_folder: Path) -> None:
    run = json.loads((model_folder / layout.SETTINGS).read_text())["run"]
    words = run["command"].split()
    assert words[:3] == ["mmm4rec", "train", f"--dataset={NAME}"]
    assert {"--hidden_size=16", "--epochs=12", "--neighbour_weight=0.3", "--seed=2020"} <= set(words)
    assert not [word for word in words if word.split("=")[0] in ("--checkpoint_dir", "--show_progress", "--d_conv")]


@pytest.mark.parametrize("split", ["cold_users", "cold_items", "global_time"])
def test_what_is_held_out_of_training_counts_as_no_training(tmp_path: Path, split: str) -> None:
    write_pattern_shop(tmp_path)
    changes = {"eval_args": {"split": {split: [2, 1, 1]}, "order": "TO", "mode": "full"}}
    run = build(make_config("MMM4Rec", PATTERN, config_dict=pattern_settings(tmp_path, **changes)), count_flops=False)
    table = interactions_of(run)
    items, part = table["item"].to_numpy(), table["part"].to_numpy()
    assert set(part) == ({0, 1, 2, 3} if split == "cold_users" else {0, 1, 2})
    counted = np.bincount(items[part == 0], minlength=run.dataset.item_num)
    assert counted.tolist() == run.train._dataset.popularity.tolist()
    check_interactions(table, run.dataset.item_num - 1)
    users = table["user_id"].cast("string").to_numpy()
    if split == "cold_users":
        held_out = set(users[part != 0])
        assert not held_out & set(users[part == 0])
        assert sum(part == 3) > len(held_out)  # all of their interactions but the last


def test_columns_of_an_item_file_whose_ids_have_another_name(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    home = tmp_path / PATTERN
    inter = home / f"{PATTERN}.inter"
    inter.write_text(inter.read_text().replace("item_id:token", "asin:token"))
    (home / f"{PATTERN}.item").write_text("asin:token\ttext:token_seq\titem_id:float\ns0c0\tfirst shape\t7\n")
    names = {"ITEM_ID_FIELD": "asin", "load_col": {"inter": ["user_id", "asin", "timestamp"]}}
    config = make_config("MMM4Rec", PATTERN, config_dict=pattern_settings(tmp_path, **names))
    dataset = build(config, count_flops=False).dataset
    tokens = [str(token) for token in dataset.field2id_token["asin"][1:]]
    count = len(tokens)
    ours = {"popularity": np.zeros(count, int), "has_text": np.ones(count, bool), "has_image": np.ones(count, bool)}
    found = items_of(dataset, tokens, ours)
    assert found["item_id"].to_pylist() == tokens
    assert found["text"][tokens.index("s0c0")].as_py() == "first shape"
