"""RecBole finds the plug-in's classes and settings, in every order of import and in other processes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import pytest
import recbole.data.dataset
import recbole.trainer
import yaml
from recbole.config import Config
from recbole.utils import get_model
from recbole.utils.argument_list import dataset_arguments
from shop import python, settings, write_shop

import recbole_mmm4rec
from recbole_mmm4rec.plugin import configuration
from recbole_mmm4rec.plugin import finder as plugin
from recbole_mmm4rec.settings.defaults import properties_dir
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts

MODULE = "recbole.model.sequential_recommender.mmm4rec"


@pytest.fixture
def model_class(monkeypatch: pytest.MonkeyPatch) -> type:
    """A stand-in for our model, and a registration that forgets it afterwards."""
    from recbole.model.sequential_recommender.sasrec import SASRec

    stand_in = type("MMM4Rec", (SASRec,), {})
    home = types.ModuleType("recbole_mmm4rec.model")
    vars(home)["MMM4Rec"] = stand_in
    monkeypatch.setitem(sys.modules, home.__name__, home)
    monkeypatch.setitem(sys.modules, MODULE, types.ModuleType("to be imported"))
    del sys.modules[MODULE]
    return stand_in


def test_import_loads_neither_torch_nor_recbole(tmp_path: Path) -> None:
    done = python("-c", "import sys, recbole_mmm4rec; print(*{'torch', 'recbole'} & sys.modules.keys())", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize("ours_first", [True, False])
def test_either_import_order_registers_and_repairs(tmp_path: Path, ours_first: bool) -> None:
    """Also functions that the user's program holds from before the plug-in was imported."""
    ours = "import recbole_mmm4rec"
    theirs = "from recbole.utils import get_model"
    program = f"""
{ours if ours_first else theirs}
{theirs if ours_first else ours}
import importlib.util, recbole.trainer.trainer, recbole.model.general_recommender.lightgcn as lightgcn
from recbole.config import configurator
from recbole.data.dataset import Dataset
from recbole.quick_start import load_data_and_model
for function, argument in ((get_model, "SASRek"), (load_data_and_model, "no.pth")):
    try:
        function(argument)
    except recbole_mmm4rec.base.errors.UserError as error:
        print(function.__name__, error)
print(importlib.util.find_spec("{MODULE}").origin, Dataset._fill_nan.__module__)
print(configurator.eval.__name__, hasattr(lightgcn.sp.dok_matrix, "_update"))
print(recbole.trainer.trainer.Trainer._train_epoch.__module__)
"""
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "get_model model='SASRek' is not a model of RecBole or of this plug-in; did you mean 'SASRec'?",
        "load_data_and_model checkpoint 'no.pth' does not exist, or is no file",
        "recbole_mmm4rec.model recbole_mmm4rec.compat.missing",
        "literal True",
        "recbole_mmm4rec.compat.epochs",
    ]


def test_recbole_finds_the_model_class(model_class: type) -> None:
    assert importlib.util.find_spec(MODULE) is not None
    assert get_model("MMM4Rec") is model_class


def test_a_broken_model_module_is_not_an_unknown_model(model_class: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recbole_mmm4rec.model", None)
    with pytest.raises(ModuleNotFoundError, match=r"recbole_mmm4rec\.model"):
        get_model("MMM4Rec")


@pytest.mark.parametrize(
    ("home", "name", "offered_by"),
    [
        ("recbole_mmm4rec.data.dataset", "MMM4RecDataset", recbole.data.dataset),
        ("recbole_mmm4rec.training.trainer", "MMM4RecTrainer", recbole.trainer),
    ],
)
def test_recbole_finds_dataset_and_trainer_when_it_asks(
    monkeypatch: pytest.MonkeyPatch, home: str, name: str, offered_by: types.ModuleType
) -> None:
    stand_in = types.ModuleType(home)
    vars(stand_in)[name] = object
    monkeypatch.setitem(sys.modules, home, stand_in)
    assert hasattr(offered_by, name)
    assert getattr(importlib.import_module(offered_by.__name__), name) is object
    monkeypatch.setitem(sys.modules, home, None)
    with pytest.raises(ModuleNotFoundError, match=home):
        getattr(offered_by, name)
    assert not hasattr(offered_by, "NoSuchDataset")


def test_our_yaml_is_the_default_and_the_user_wins(
    model_class: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, name, content in [
        ("model", "MMM4Rec", {"hidden_size": 256, "train_neg_sample_args": None, "n_layers": 3}),
        ("dataset", "shop", {"topk": [7], "n_layers": 4}),
    ]:
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{name}.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(configuration, "properties_dir", lambda: tmp_path)
    ours = Config("MMM4Rec", "shop", config_dict={"hidden_size": 8, "loss_type": "CE"})
    assert (ours["hidden_size"], ours["n_layers"], ours["topk"]) == (8, 4, [7])
    stock = Config("BPR", "shop")
    assert (stock["hidden_size"], stock["topk"]) == (None, [7])


def test_a_data_sets_ranking_metrics_leave_models_judged_by_labels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "shop.yaml").write_text("metrics: [Hit]\nvalid_metric: Hit@3\ntopk: [3]\nseed: 5\n")
    monkeypatch.setattr(configuration, "properties_dir", lambda: tmp_path)
    by_ranking, by_label = Config("BPR", "shop"), Config("FM", "shop")
    assert (by_ranking["metrics"], by_ranking["seed"]) == (["Hit"], 5)
    assert (by_label["metrics"], by_label["valid_metric"], by_label["seed"]) == (["AUC", "LogLoss"], "AUC", 5)


def test_properties_exist_and_are_read_from_the_repository() -> None:
    assert properties_dir() == Path(recbole_mmm4rec.__file__).parents[1] / "properties"


def test_the_users_ml_100k_comes_before_recboles(tmp_path: Path) -> None:
    wheel = Config("BPR", "ml-100k", config_dict={"data_path": str(tmp_path)})["data_path"]
    write_shop(tmp_path, "ml-100k")
    own = Config("BPR", "ml-100k", config_dict={"data_path": str(tmp_path)})["data_path"]
    assert Path(wheel, "ml-100k.inter").stat().st_size > 1_000_000
    assert own == str(tmp_path / "ml-100k")


def test_our_keys_decide_about_cached_datasets() -> None:
    assert set(names(Counts.DATA)) <= set(dataset_arguments)
    assert len(dataset_arguments) == len(set(dataset_arguments))


def test_hooks_run_at_once_on_loaded_modules_and_later_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    later = "recbole.model.general_recommender.slimelastic"
    monkeypatch.delitem(sys.modules, later, raising=False)
    monkeypatch.setattr(plugin, "_hooks", dict(plugin._hooks))
    seen: list[str] = []
    for name in ("recbole.trainer", later):
        plugin.after_import(name, lambda module: seen.append(module.__name__))
    assert seen == ["recbole.trainer"]
    importlib.import_module(later)
    assert seen == ["recbole.trainer", later]


def test_registering_twice_changes_nothing() -> None:
    before = list(sys.meta_path)
    plugin.register()
    assert sys.meta_path == before


def test_spawned_processes_are_repaired(tmp_path: Path) -> None:
    """A worker of ours loads what it saved, which an unrepaired RecBole cannot do with PyTorch 2.6."""
    write_shop(tmp_path)
    program = tmp_path / "spawn.py"
    program.write_text(f"""
import multiprocessing
from recbole_mmm4rec.run.quick_start import run_recbole

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result = pool.apply(run_recbole, ("BPR", "shop", None, {settings(tmp_path)!r}))
    print(sorted(result["test_result"])[0])
""")
    done = python(str(program), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "hit@10"


def test_defaults_of_models_and_data_sets_are_there() -> None:
    """Also in a fresh clone: an ignore rule once kept a folder out of it."""
    for file in ("model/MMM4Rec.yaml", "model/MMM4Rec-paper.yaml", "dataset/ml-100k.yaml", "dataset/scientific.yaml"):
        assert (properties_dir() / file).is_file()
