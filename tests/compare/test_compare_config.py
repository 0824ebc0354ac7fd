"""Comparison files: what is read, and what is refused with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_comparison import write_config

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.compare.located import Located
from recbole_mmm4rec.settings.defaults import properties_dir

GOOD = """\
seeds: [1, 2]
max_seconds: 30
datasets: [shop, {name: other, max_seconds: 5, settings: {topk: [3]}}]
protocol:
    MAX_ITEM_LIST_LENGTH: 6
models:
    - Pop
    - name: ours
      model: MMM4Rec
      settings: {hidden_size: 16}
      datasets: {other: {hidden_size: 32}}
      only: [other]
      pretrained: {dataset: shop, settings: {epochs: 3}}
"""


def changed(folder: Path, old: str, new: str) -> Path:
    """A file with the good content, but for one place."""
    assert old in GOOD
    file = folder / "mine.yaml"
    file.write_text(GOOD.replace(old, new))
    return file


def test_what_a_file_says(tmp_path: Path) -> None:
    comparison = read_comparison(changed(tmp_path, "Pop", "Pop"))
    assert (comparison.title, comparison.seeds, comparison.permutations) == ("mine", (1, 2), 10_000)
    assert [(found.name, found.max_seconds) for found in comparison.datasets] == [("shop", 30), ("other", 5)]
    pop, ours = comparison.rows
    assert (pop.name, pop.model, pop.datasets, pop.pretrained) == ("Pop", "Pop", ("shop", "other"), None)
    assert ours.settings_on("other") == {"hidden_size": 32}
    assert ours.settings_on("shop") == {"hidden_size": 16}
    assert ours.datasets == ("other",)
    assert ours.pretrained is not None
    assert (ours.pretrained.seed, ours.pretrained.max_seconds) == (1, 30)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("seeds:", "seed:", "line 1: unknown key 'seed'; did you mean 'seeds'?"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "line 1: seeds: [1, 1] has one twice"),
        ("seeds: [1, 2]", "seeds: [1, x]", "line 1: seed='x': it must be a whole number, 0 … 4294967295"),
        (
            "seeds: [1, 2]",
            "seeds: [1, 5000000000]",
            "line 1: seed=5000000000: it must be a whole number, 0 … 4294967295",
        ),
        ("dataset: shop", "dataset: shop, seed: -1", "line 13: seed=-1: it must be a whole number, 0 … 4294967295"),
        ("seeds: [1, 2]", "seeds:", "'seeds' is missing"),
        ("max_seconds: 30", "max_seconds: 30\nseeds: [3]", "line 3: 'seeds' stands there twice; keep one"),
        ("max_seconds: 30", "max_seconds: 0", "line 2: max_seconds must be a number, at least 1, not 0"),
        ("max_seconds: 30", "max_seconds: .inf", "line 2: max_seconds must be a number, at least 1, not inf"),
        ("MAX_ITEM_LIST_LENGTH", "MAX_ITEM_LIST_LENGHT", "line 5: unknown key 'MAX_ITEM_LIST_LENGHT'; did you mean"),
        ("MAX_ITEM_LIST_LENGTH: 6", "hidden_size: 6", "line 5: hidden_size: it is a setting of models"),
        ("MAX_ITEM_LIST_LENGTH: 6", "seed: 6", "line 5: seed: the command sets it"),
        ("MAX_ITEM_LIST_LENGTH: 6", "worker: 2", "line 5: worker: the command sets it"),
        ("MAX_ITEM_LIST_LENGTH: 6", "gpu_id: 1", "line 5: gpu_id: say it in the environment, CUDA_VISIBLE_DEVICES"),
        ("MAX_ITEM_LIST_LENGTH: 6", "load_col: {item: [id]}", "line 5: load_col: {'item': ['id']}: a comparison loads"),
        ("MAX_ITEM_LIST_LENGTH: 6", "metrics: [Recall]", "line 5: metrics: 'Recall' is none of Hit, NDCG, MRR"),
        ("name: other,", "nam: other,", "line 3: unknown key 'nam'; did you mean 'name'?"),
        ("name: other", "name: shop", "line 3: datasets: 'shop' stands there twice"),
        ("- Pop", "- Popp", "line 7: model: there is no 'Popp'; did you mean 'Pop'?"),
        ("- Pop", "- {model: Pop, setings: {}}", "line 7: unknown key 'setings'; did you mean 'settings'?"),
        ("hidden_size: 16", "tail_ratio: .2", "line 10: tail_ratio belongs to all models alike"),
        ("hidden_size: 16", "hiden_size: 16", "line 10: unknown key 'hiden_size'; did you mean 'hidden_size'?"),
        ("hidden_size: 16", "hidden_size: 16, hidden_size: 8", "line 10: 'hidden_size' stands there twice"),
        ("hidden_size: 16", "nproc: 4", "line 10: nproc: the command sets it"),
        ("hidden_size: 16", "resume: False", "line 10: resume: the command sets it"),
        ("hidden_size: 16", "save_pth: True", "line 10: save_pth: the command sets it"),
        ("hidden_size: 16", "stopping_step: 6", "line 10: stopping_step belongs to all models alike"),
        ("hidden_size: 16", "pretrained: x.pth", "line 10: pretrained: write it as `pretrained:` of the model"),
        ("only: [other]", "only: [othr]", "line 12: only: there is no 'othr'; did you mean 'other'?"),
        ("model: MMM4Rec", "model: SASRec", "line 13: pretrained: SASRec cannot be pre-trained"),
        ("dataset: shop", "datset: shop", "line 13: unknown key 'datset'; did you mean 'dataset'?"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        read_comparison(changed(tmp_path, old, new))
    assert complaint in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_two_tables_are_called_alike(tmp_path: Path) -> None:
    datasets = ["shop", {"name": "shop-global_time", "folder": "other"}]
    for protocols in (["global_time"], ["global_time", "cold_items"]):
        read_comparison(write_config(tmp_path, datasets=datasets, protocols=protocols))
    complaint = r"line 4: datasets: 'shop-global_time' would be the name of two tables; rename one of the entries"
    with pytest.raises(UserError, match=complaint):
        read_comparison(write_config(tmp_path, datasets=datasets, protocols=["leave_one_out", "global_time"]))


def test_a_row_with_neighbours_says_so_by_itself(tmp_path: Path) -> None:
    mixed = "    - SASRec\n    - {model: SASRec, settings: {neighbour_weight: 3}}\n    - Neighbours\n"
    comparison = read_comparison(changed(tmp_path, "    - Pop\n", mixed))
    assert [row.name for row in comparison.rows] == ["SASRec", "SASRec + neighbours", "Neighbours", "ours"]


def test_rows_are_chosen_by_name(tmp_path: Path) -> None:
    file = changed(tmp_path, "Pop", "Pop")
    assert [row.name for row in read_comparison(file, ["ours"]).rows] == ["ours"]
    kept = read_comparison(changed(tmp_path, "Pop", "Pop"), on=["shop"])
    assert ([one.name for one in kept.datasets], [row.name for row in kept.rows]) == (["shop"], ["Pop"])
    with pytest.raises(UserError, match=r"--on 'shops': .* has no data set of that name; it has shop, other"):
        read_comparison(changed(tmp_path, "Pop", "Pop"), on=["shops"])
    with pytest.raises(UserError, match="--only 'our'"):
        read_comparison(file, ["our"])


def test_the_first_seeds_are_chosen_by_number(tmp_path: Path) -> None:
    file = changed(tmp_path, "Pop", "Pop")
    every = read_comparison(file)
    assert len(every.seeds) > 1
    kept = read_comparison(file, first_seeds=1)
    assert kept.seeds == every.seeds[:1]
    assert read_comparison(file, first_seeds=len(every.seeds)) == every
    with pytest.raises(UserError, match=r"--seeds 9: .* has \d+: \d+, "):
        read_comparison(file, first_seeds=9)


def searched(folder: Path, *searches: Any) -> tuple[Any, ...]:
    """The trials of models with these searches; ``...`` for none given."""
    models = [
        {"name": str(at), "model": "SASRec", **({} if search is ... else {"search": search})}
        for at, search in enumerate(searches)
    ]
    return tuple(row.trials for row in read_comparison(write_config(folder, models=models)).rows)


def test_a_search_is_a_list_or_a_grid(tmp_path: Path) -> None:
    listed = [{"learning_rate": 0.1, "n_heads": 1}, {"n_heads": 2}, {"n_heads": 4}, {}]
    grid = {"learning_rate": [0.1, 0.2], "n_heads": [1, 2]}
    found = searched(tmp_path, listed, grid, "none")
    assert found[0] == tuple(listed)
    assert found[1] == tuple({"learning_rate": rate, "n_heads": heads} for rate in (0.1, 0.2) for heads in (1, 2))
    assert found[2] == ()


@pytest.mark.parametrize("other", [..., [{"n_heads": 1}]])
def test_all_models_get_the_same_number_of_trials(tmp_path: Path, other: Any) -> None:
    with pytest.raises(UserError, match=r"line \d+: '1' has \d trials, others 2: all models get the same number"):
        searched(tmp_path, [{"n_heads": 1}, {"n_heads": 2}], other)


def test_lines_of_nested_parts_and_of_merges(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("base: &base\n  x: 1\nrows:\n- y: 2\n- <<: *base\n  z: 3\n")
    located = Located(file)
    assert located.content["rows"][1] == {"x": 1, "z": 3}
    for place, line in ((("base", "x"), 2), (("rows", 0, "y"), 4), (("rows", 1, "z"), 6), (("rows", 1, "x"), 5)):
        assert located.where(place) == f"{file}, line {line}"


@pytest.mark.parametrize("name", ["quick", "scientific", "ml-100k", "demo"])
def test_the_files_that_come_with_the_package(name: str) -> None:
    comparison = read_comparison(properties_dir() / "compare" / f"{name}.yaml")
    assert "Pop" in [row.name for row in comparison.rows]
    assert all(dataset.max_seconds for dataset in comparison.datasets)


@pytest.mark.parametrize(
    "file",
    [file for file in sorted((properties_dir() / "compare").glob("*.yaml")) if file.stem != "published"],
    ids=lambda file: file.stem,
)
def test_every_file_that_comes_with_the_package_is_read(file: Path) -> None:
    comparison = read_comparison(file)
    assert all(row.datasets for row in comparison.rows)
