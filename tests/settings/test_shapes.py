"""Settings of RecBole that are lists, mappings or intervals: a wrong shape is one line, and so is what is not used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data.dataset import Dataset
from shop import settings, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run import cli
from recbole_mmm4rec.settings.kinds import is_intervals, shown
from recbole_mmm4rec.settings.values import check_values

WRONG: list[tuple[str, Any, str]] = [
    ("load_col", "inter:['user_id', 'item_id']", "a mapping such as .*a blank after the colon"),
    ("load_col", ["user_id", "item_id"], "a mapping such as {'inter'"),
    ("load_col", {"inter": None}, "a mapping such as {'inter'"),
    ("load_col", {"inter": "user_id"}, "a mapping such as {'inter'"),
    ("load_col", {"inter": [1]}, "a mapping"),
    ("unload_col", {"item": "price"}, "a mapping such as {'item': \\['price'\\]}"),
    ("unused_col", ["timestamp"], "a mapping such as {'inter'"),
    ("val_interval", "[3,inf)", "a mapping such as {'rating': '\\[3,inf\\)'}"),
    ("val_interval", {"rating": 3}, "a mapping such as {'rating'"),
    ("val_interval", {"rating": "3,inf"}, "a mapping such as {'rating'"),
    ("alias_of_item_id", "iid", "a list of names such as \\['item_id_list'\\]"),
    ("alias_of_user_id", {"a": 1}, "a list of names"),
    ("threshold", 3, "a mapping of one column to a number"),
    ("threshold", {"rating": 3, "age": 1}, "a mapping of one column"),
    ("threshold", {"rating": "3"}, "a mapping of one column"),
    ("preload_weight", "x", "a mapping such as {'feat_id': 'feat_vec'}"),
    ("preload_weight", {"feat_id": None}, "a mapping"),
    ("field_separator", "", "a text such as"),
    ("seq_separator", None, "a text such as"),
    ("transform", "mask_itemsequence", "one of mask_itemseq.*did you mean 'mask_itemseq'"),
    ("numerical_features", "price", "a list of names such as \\['price'\\]"),
    ("numerical_features", None, "a list of names"),
    ("normalize_field", "price", "a list of names"),
    ("discretization", {"price": "ED"}, "a mapping such as {'price'"),
    ("discretization", {"price": {"method": "ED"}}, "a mapping such as {'price'"),
    ("seq_len", 5, "a mapping such as {'genres': 5}"),
    ("additional_feat_suffix", 3, "a list of names"),
    ("benchmark_filename", ["train", "test"], "a list of 3 names such as \\['train', 'valid', 'test'\\]"),
    ("benchmark_filename", "train", "a list of 3 names"),
    ("topk", (10, 20), "a list of whole numbers"),
    ("topk", [10, "20"], "a list of whole numbers"),
    ("metrics", [], "a list of names"),
    ("metrics", 3, "a list of names"),
    ("encoding", "latin9x", "an encoding that Python knows"),
    ("gpu_id", [0, 1], "the number of a GPU such as 0, or several such as '0,1'"),
    ("train_neg_sample_args", {"distribution": "uniform", "sample_nums": 5}, "a mapping such as"),
    # taken by RecBole, and not used
    ("user_inter_num_interval", 5, "an interval such as \\[5,inf\\)"),
    ("user_inter_num_interval", "5", "an interval"),
    ("user_inter_num_interval", "[5,inf", "an interval"),
    ("user_inter_num_interval", "[5,inf);[", "an interval"),
    ("user_inter_num_interval", "[7,5]", "an interval"),
    ("item_inter_num_interval", "[5;inf)", "an interval"),
    ("entity_kg_num_interval", "five", "an interval"),
    ("learner", "adamm", "one of .*did you mean 'adam'"),
    ("state", "loud", "one of debug, info"),
    ("rm_dup_inter", True, "first or last"),
    ("filter_inter_by_user_or_item", "yes", "True or False"),
    ("shuffle", "no", "True or False"),
    ("reproducibility", 1, "True or False"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG, ids=lambda part: str(part)[:30])
def test_a_wrong_shape_is_one_line(tmp_path: Path, key: str, value: Any, message: str) -> None:
    changes = {**settings(tmp_path), key: value}
    for make in (
        lambda: check_values({key: value}, "SASRec"),
        lambda: Config(model="SASRec", dataset="shop", config_dict=changes),
    ):
        with pytest.raises(UserError, match=f"^{key}=.*: it must be {message}") as caught:
            make()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--val_interval=[3,inf)", "a mapping such as"),
        ("--alias_of_item_id=iid", "a list of names"),
        ("--threshold=3", "a mapping of one column"),
        ("--preload_weight=x", "a mapping such as"),
        ("--field_separator=", "a text such as"),
        ("--user_inter_num_interval=5", "an interval such as [5,inf)"),
        ("--load_col=['user_id', 'item_id']", "a mapping such as"),
        ("--load_col={'inter': None}", "a mapping such as"),
    ],
)
def test_the_command_line_says_so(capsys: pytest.CaptureFixture[str], argument: str, message: str) -> None:
    for model in ("SASRec", "BPR", "MMM4Rec"):
        assert cli.main([f"--model={model}", "--dataset=shop", argument]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {argument}: it must be {message}")
        assert error.count("\n") == 1
        assert error.endswith("; a shell needs it in double quotes\n") == bool(
            {"[", "{"} & set(error.partition(" must be ")[2])
        )


def test_yaml_without_a_blank_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 1\nload_col:\n  inter:['user_id', 'item_id']\n")
    assert cli.main(["--model=SASRec", "--dataset=shop", f"--config_files={file}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: config file '{file}', line 2: load_col=\"inter:['user_id', 'item_id']\": it must be"
    )
    assert "YAML needs a blank after the colon" in error


RIGHT: list[tuple[str, Any]] = [
    ("load_col", {"inter": "*"}),
    ("load_col", None),
    ("load_col", {"inter": ["user_id", "item_id"], "item": []}),
    ("user_inter_num_interval", "[5,inf)"),
    ("user_inter_num_interval", " [0, 2] ; (5,9] "),
    ("user_inter_num_interval", [5, 10]),
    ("user_inter_num_interval", (5, 10)),
    ("user_inter_num_interval", None),
    ("val_interval", {"rating": "[3,inf)", "user_id": ["a", "b"]}),
    ("topk", 10),
    ("metrics", "Hit"),
    ("gpu_id", (0, 1)),
    ("gpu_id", ""),
    ("gpu_id", "0,1"),
    ("gpu_id", 3),
    ("threshold", {"rating": 3}),
    ("additional_feat_suffix", "feat"),
    ("train_neg_sample_args", "None"),
    ("encoding", "latin-1"),
    ("learner", "Adam"),
    ("state", "INFO"),
    ("discretization", {"price": {"method": "LD"}}),
]


@pytest.mark.parametrize(("key", "value"), RIGHT, ids=str)
def test_right_shapes_are_left_alone(key: str, value: Any) -> None:
    check_values({key: value}, "SASRec")


numbers = st.integers(-99, 99) | st.floats(-99, 99) | st.sampled_from([float("inf"), float("-inf")])
pairs = st.tuples(st.sampled_from("[("), numbers, numbers, st.sampled_from("])"))


@given(st.lists(pairs, min_size=1, max_size=3))
def test_intervals_are_those_that_recbole_uses_whole(parts: Sequence[tuple[str, float, float, str]]) -> None:
    """RecBole leaves out what it cannot read, with a warning deep in the log."""
    text = ";".join(f"{left}{low},{high}{right}" for left, low, high, right in parts)
    warned: list[str] = []
    log = type("Log", (), {"warning": staticmethod(warned.append)})
    found = Dataset._parse_intervals_str(type("Self", (), {"logger": log})(), text)
    assert is_intervals(text) == (not warned)
    assert len(found) == len(parts)


@pytest.mark.parametrize("transform", ["mask_itemseq", "crop_itemseq", "reorder_itemseq"])
def test_a_transform_that_lacks_its_share(tmp_path: Path, transform: str) -> None:
    for share in (None, 2, "many"):
        needed = {"mask_itemseq": "mask_ratio", "crop_itemseq": "eta", "reorder_itemseq": "beta"}[transform]
        with pytest.raises(UserError, match=f"{needed}"):
            Config("SASRec", "shop", config_dict={**settings(tmp_path), "transform": transform, needed: share})
    Config("SASRec", "shop", config_dict={**settings(tmp_path), "transform": transform, needed: 0.2})


def test_what_is_shown_of_a_value_is_short() -> None:
    deep: list[Any] = []
    for _ in range(50):
        deep = [deep] * 9
    assert len(shown(deep)) < 5000
    assert len(shown("x" * 10_000)) < 200
    assert shown({"inter": ["user_id", "item_id"]}) == "{'inter': ['user_id', 'item_id']}"


def test_an_interval_filters(tmp_path: Path) -> None:
    write_shop(tmp_path)
    with pytest.raises(UserError, match="user_inter_num_interval=5"):
        Config("BPR", "shop", config_dict=settings(tmp_path, user_inter_num_interval=5))


@pytest.mark.parametrize("model", ["MMM4Rec", "TiM4Rec"])
def test_a_transform_that_a_model_does_not_read(tmp_path: Path, model: str) -> None:
    write_shop(tmp_path)
    given = {**settings(tmp_path), "transform": "inverse_itemseq"}
    with pytest.raises(UserError, match=f"transform='inverse_itemseq': {model} reads nothing of what it adds"):
        Config(model, "shop", config_dict=given)
    with pytest.raises(UserError, match="transform='user_defined': it must be one of"):  # RecBole's gives no batch
        Config("SASRec", "shop", config_dict={**given, "transform": "user_defined"})
