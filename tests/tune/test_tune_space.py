"""What is searched: both formats of files, and everything that is refused in one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from any_input import steady, told
from hypothesis import given
from hypothesis import strategies as st

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.settings.defaults import default_settings, properties_dir
from recbole_mmm4rec.settings.keys import known_keys
from recbole_mmm4rec.settings.models import model_names
from recbole_mmm4rec.tune.space import Parameter, combinations, make_parameter, size
from recbole_mmm4rec.tune.space_files import read_space, space_file


def space(tmp_path: Path, text: str, name: str = "space.yaml") -> list[Parameter]:
    file = tmp_path / name
    file.write_text(text)
    return read_space(file)


def test_a_yaml_file(tmp_path: Path) -> None:
    a, b, c, d, e = space(
        tmp_path,
        "# what is searched\n"
        "loss_type: [CE, sampled]\n"
        "learning_rate: {loguniform: [1e-4, 1e-2]}\n"
        "dropout_prob: {uniform: [0, 0.5]}\n"
        "hidden_size: {quniform: [64, 256, 64]}\n"
        "label_smoothing: {quniform: [0.0, 0.3, 0.1]}\n",
    )
    assert (a.key, a.values, a.where.endswith("line 2")) == ("loss_type", ("CE", "sampled"), True)
    assert (b.kind, b.low, b.high, b.where.endswith("line 3")) == ("loguniform", 1e-4, 1e-2, True)
    assert (c.kind, c.low, c.high) == ("uniform", 0.0, 0.5)
    assert d.values == (64, 128, 192, 256)
    assert all(isinstance(value, int) for value in d.values)
    assert e.values == (0.0, 0.1, 0.2, 0.3)


def test_recboles_lines(tmp_path: Path) -> None:
    found = space(
        tmp_path,
        "learning_rate loguniform -8, 0\nn_layers choice [1, 2]\n\n# a remark\n"
        "dropout_prob uniform 0.1,0.2\nhidden_size quniform 8,16,8\nhidden_act choice ['gelu','relu']\n"
        "mlp_hidden_size choice ['[64, 64]','[128]']\n",
        "model.hyper",
    )
    assert [one.key for one in found] == [
        *("learning_rate", "n_layers", "dropout_prob", "hidden_size", "hidden_act", "mlp_hidden_size")
    ]
    assert (found[0].low, found[0].high) == (math.exp(-8), 1.0)
    assert found[1].values == (1, 2)
    assert found[2].where.endswith("line 5")
    assert found[3].values == (8, 16)
    assert found[4].values == ("gelu", "relu")
    assert found[5].values == ([64, 64], [128])  # RecBole reads a text once more


def test_recboles_dictionary_by_kind(tmp_path: Path) -> None:
    a, b = space(tmp_path, "choice:\n  n_layers: [1, '2']\nloguniform:\n  learning_rate: [-8, 0]\n")
    assert (a.key, a.values, a.where.endswith("line 2")) == ("n_layers", (1, 2), True)
    assert (b.key, b.low, b.high) == ("learning_rate", math.exp(-8), 1.0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.yaml", "a: 3\n", "line 1: a must be a list of values or a kind"),
        ("s.yaml", "\na: {unifrm: [0, 1]}\n", "line 2: 'unifrm' is no kind of values; did you mean 'uniform'?"),
        ("s.yaml", "a: {uniform: [0, x]}\n", "line 1: a is uniform, which takes [low, high]"),
        ("s.yaml", "a: {uniform: [1, 0]}\n", "line 1: a goes from 1 to 0"),
        ("s.yaml", "a: {loguniform: [0, 1]}\n", "line 1: a is loguniform and starts at 0"),
        ("s.yaml", "a: {quniform: [0, 1]}\n", "line 1: a is quniform, which takes [low, high, step]"),
        ("s.yaml", "a: {quniform: [0, 1, 0]}\n", "line 1: a has steps of 0"),
        ("s.yaml", "a: {quniform: [0, 1, 1.0e-320]}\n", "line 1: a has inf steps, more than"),
        ("s.yaml", "a: {quniform: [0, 1, 1e-9]}\n", "line 1: a has 1,000,000,000 steps"),
        ("s.yaml", "a: []\n", "line 1: a is a choice, which takes a list of values"),
        ("s.yaml", "a: [1, 2, 1]\n", "line 1: a has the value 1 twice"),
        ("s.yaml", "a: [1, .nan]\n", "line 1: a has the value nan"),
        ("s.yaml", "a: [2020-01-01]\n", "line 1: a has a value that is no number"),
        ("s.yaml", "a: [1]\nb: [1]\na: [2]\n", "line 3: 'a' stands there twice"),
        ("s.yaml", "a: [1\n", "is not valid YAML"),
        ("s.yaml", "# nothing\n", "names nothing to search"),
        ("s.hyper", "a choice\n", "line 1: 'a choice' is not 'key kind values'"),
        ("s.hyper", "a choose [1]\n", "line 1: 'choose' is no kind of values"),
        ("s.hyper", "\na choice open('x')\n", "line 2: \"open('x')\" are no values that choice takes"),
        ("s.hyper", "a uniform 1\n", "line 1: a is uniform, which takes [low, high]"),
        ("s.hyper", "a choice [1]\na choice [2]\n", "line 2: a stands there twice"),
        ("s.hyper", "a loguniform 512,2048\n", "line 1: a goes up to exp(2048); in RecBole's form the ends are"),
    ],
)
def test_mistakes_are_told_in_one_line_with_its_number(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError) as told:
        space(tmp_path, text, name)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_space(tmp_path / "none.yaml")


def test_every_combination_is_there_once(tmp_path: Path) -> None:
    found = space(tmp_path, "a: [1, 2]\nb: [x, y, [1]]\nc: {quniform: [0, 1, 0.5]}\n")
    combos = list(combinations(found))
    assert len(combos) == size(found) == 18
    assert len({str(one) for one in combos}) == 18
    assert combos[0] == {"a": 1, "b": "x", "c": 0.0}


def test_continuous_ranges_have_no_combinations(tmp_path: Path) -> None:
    found = space(tmp_path, "a: [1, 2]\nb: {uniform: [0, 1]}\n")
    assert size(found) is None
    with pytest.raises(UserError, match=r"line 2: b has a uniform range, which --algo exhaustive cannot go through"):
        next(combinations(found))


@given(st.floats(1e-6, 1.0), st.sampled_from(["uniform", "loguniform"]))
def test_a_value_is_found_again_at_its_position(value: float, kind: str) -> None:
    one = make_parameter("a", kind, [1e-6, 1.0], "")
    assert one.value(one.position(value)) == pytest.approx(value, rel=1e-12)
    assert one.value(one.position(one.high) + 1) == one.high


def test_every_size_of_mmm4recs_space_can_be_built() -> None:
    names = NetworkConfig.setting_names()
    defaults = {key: value for key, value in default_settings("MMM4Rec").items() if key in names}
    sizes = [one for one in read_space(space_file("MMM4Rec")) if one.kind == "choice" and one.key in names]
    assert {"hidden_size", "num_layers"} <= {one.key for one in sizes}
    for combination in combinations(sizes):
        made = NetworkConfig.from_mapping({**defaults, **combination})
        assert made.hidden_size == combination["hidden_size"]


def test_the_spaces_that_come_with_the_package_can_be_searched() -> None:
    for file in sorted((properties_dir() / "tune").glob("*.yaml")):
        model = "BPR" if file.stem == "general" else file.stem
        assert model in model_names()
        assert {one.key for one in read_space(file)} <= known_keys(model), file
        assert yaml.safe_load(file.read_text())
    assert space_file("MMM4Rec").stem == "MMM4Rec"
    assert space_file("LightGCN").stem == "general"


@pytest.mark.parametrize(
    "text",
    [
        "choice: {0x10: [1, 2]}\n",
        "uniform: &a {b: [0, 1]}\n",
        "base: &a {x: [0, 1]}\nuniform: {<<: *a}\n",
        "1.50: [1]\n",
    ],
)
def test_keys_that_yaml_reads_otherwise_than_they_stand(tmp_path: Path, text: str) -> None:
    told(lambda: space(tmp_path, text))


@steady
@given(
    st.lists(
        st.sampled_from(
            [
                "choice",
                "uniform",
                "loguniform",
                "quniform",
                "a:",
                "{}",
                "[]",
                "[1]",
                "[0,1]",
                "-",
                "?",
                "&",
                "*",
                "!!set",
                "<<:",
                "0x1",
                "\n",
                "\\t",
            ]
        )
    )
)
def test_any_words_as_a_space(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("any.yaml", "any.test"):
        line = told(lambda name=name: space(folder, " ".join(words), name))
        assert line is None or name in line
