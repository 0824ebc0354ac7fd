"""Every repair of RecBole, on what was broken."""

from __future__ import annotations

import logging
import pickle
import pkgutil
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recbole.data.dataset.dataset
import recbole.trainer.hyper_tuning
import recbole.trainer.trainer
import torch
from recbole.config import Config, configurator
from recbole.data import create_dataset
from recbole.model.general_recommender.lightgcn import LightGCN
from recbole.utils import ensure_dir, get_flops, get_model, get_trainer
from shop import prepare, python, settings, write_shop

from recbole_mmm4rec import compat
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.settings.reading import literal

# Versions


def test_repairs_apply_up_to_the_known_version(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert [compat.is_broken(version) for version in ("1.2.0", "1.2.1", "1.2.2", "1.10.0")] == [
        True,
        True,
        False,
        False,
    ]
    monkeypatch.setattr("recbole.__version__", "1.3.0")
    with caplog.at_level(logging.DEBUG, logger="recbole_mmm4rec"):
        assert compat.repairs_of("recbole.trainer.trainer") == ()
    assert "1.3.0" in caplog.text


def test_every_repair_exists_and_says_what_is_broken() -> None:
    for references in compat.REPAIRS.values():
        for reference in references:
            assert "Broken: " in pkgutil.resolve_name(reference).__doc__, reference


# NumPy, pandas, PyTorch


def test_numpys_old_names_exist_without_a_config(tmp_path: Path) -> None:
    program = (
        "import recbole_mmm4rec, recbole, numpy as np; print(np.float_ is np.float64, np.float, np.unicode_, np.long)"
    )
    done = python("-W", "error", "-c", program, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("True <class 'numpy.float64'> <class 'numpy.str_'>")


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_rows_without_a_user_or_an_item_go_and_no_others(tmp_path: Path, model: str) -> None:
    write_shop(tmp_path, users=4, items=10)
    file = tmp_path / "shop" / "shop.inter"
    header, *lines = file.read_text().splitlines()
    user, item, time = zip(*(line.split("\t") for line in lines), strict=True)
    file.write_text("\n".join([header, f"\t{item[0]}\t{time[0]}", *lines, f"{user[0]}\t\t{time[0]}"]) + "\n")
    dataset = create_dataset(Config(model, "shop", config_dict=settings(tmp_path)))
    found = zip(*(dataset.id2token(field, dataset.inter_feat[field]) for field in ("user_id", "item_id")), strict=True)
    assert sorted(map(tuple, found)) == sorted(zip(user, item, strict=True))


def test_missing_values_and_sequences_are_read_without_warnings(tmp_path: Path) -> None:
    write_shop(tmp_path, users=4, items=10)
    lines = ["item_id:token\tbrand:token\tprice:float\ttags:token_seq\tvector:float_seq"]
    lines += ["i0\tb1\t1.0\tx y\t0.5 1.5", "i1\t\t\t\t", "i2\tb2\t3.0\ty\t2.5"]
    (tmp_path / "shop" / "shop.item").write_text("\n".join(lines) + "\n")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "brand", "price", "tags", "vector"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        warnings.filterwarnings("error", message="(?s).*chained assignment")
        dataset = create_dataset(Config("BPR", "shop", config_dict=settings(tmp_path, load_col=columns)))
        dataset._change_feat_format()
    by_token = {token: index for index, token in enumerate(dataset.field2id_token["item_id"])}
    known = [by_token["i0"], by_token["i1"], by_token["i2"]]
    feat = dataset.item_feat
    assert [str(dataset.field2id_token["brand"][i]) for i in feat["brand"][known]] == ["b1", "[PAD]", "b2"]
    assert feat["price"][known].tolist() == [1.0, 2.0, 3.0]
    tags = [[str(dataset.field2id_token["tags"][t]) for t in row] for row in feat["tags"][known]]
    assert tags == [["x", "y"], ["[PAD]", "[PAD]"], ["y", "[PAD]"]]
    assert feat["vector"][known].tolist() == [[0.5, 1.5], [0.0, 0.0], [2.5, 0.0]]


def test_pytorch_and_numpy_stay_as_they_are_for_others() -> None:
    assert recbole.trainer.trainer.torch is not torch
    assert torch.load.__module__ == "torch.serialization"
    assert not isinstance(np.random.RandomState(0), np.random.Generator)
    assert isinstance(recbole.trainer.hyper_tuning.np.random.RandomState(0), np.random.Generator)


def test_trainers_load_what_they_save(tmp_path: Path) -> None:
    write_shop(tmp_path)
    config = Config("BPR", "shop", config_dict=settings(tmp_path))
    _, train, valid, test = prepare(config)
    trainer = get_trainer(config["MODEL_TYPE"], "BPR")(config, get_model("BPR")(config, train.dataset))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=FutureWarning)  # of the deprecated mixed precision
        trainer.fit(train, valid)
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    torch.nn.init.zeros_(trainer.model.user_embedding.weight)
    trainer.evaluate(test)
    trainer.resume_checkpoint(trainer.saved_model_file)
    assert trainer.start_epoch == 1
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())


def test_an_interrupted_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    for name in ("model.pth", "model.safetensors"):
        target = tmp_path / name
        recbole.trainer.trainer.torch.save({"epoch": 1}, target)
        with pytest.raises((pickle.PicklingError, AttributeError, UserError)):
            recbole.trainer.trainer.torch.save({"epoch": 2, "broken": lambda: None}, target)
        assert recbole.trainer.trainer.torch.load(target) == {"epoch": 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.pth", "model.safetensors"]


def test_nadam_is_nadam_with_weight_decay_and_unknown_names_are_refused(tmp_path: Path) -> None:
    write_shop(tmp_path)
    config = Config(
        "BPR", "shop", config_dict=settings(tmp_path, learner="NAdam", weight_decay=0.25, learning_rate=0.5)
    )
    _, train, _, _ = prepare(config)
    model = get_model("BPR")(config, train.dataset)
    optimizer = recbole.trainer.Trainer(config, model).optimizer
    assert type(optimizer) is torch.optim.NAdam
    assert (optimizer.defaults["weight_decay"], optimizer.defaults["lr"]) == (0.25, 0.5)
    config["learner"] = "adamm"
    with pytest.raises(UserError, match=r"learner='adamm'.*did you mean 'adam"):
        recbole.trainer.Trainer(config, model)


def test_what_is_clipped_is_not_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole's loop clips the gradients of the loss, not those that a scaler has made 65,536 times as large."""
    module, norms = recbole.trainer.trainer, []

    def watched(parameters: Any, max_norm: float) -> torch.Tensor:
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
        return norms[-1]

    def scaler(enabled: bool) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", enabled=enabled)

    monkeypatch.setattr(module, "clip_grad_norm_", watched)
    monkeypatch.setattr(module, "amp", types.SimpleNamespace(GradScaler=scaler))
    write_shop(tmp_path)
    for scaled in (False, True):
        config = Config("BPR", "shop", config_dict=settings(tmp_path, clip_grad_norm={"max_norm": 1e9}))
        _, train, _, _ = prepare(config)
        trainer = recbole.trainer.Trainer(config, get_model("BPR")(config, train.dataset))
        trainer.enable_scaler = scaled  # which RecBole allows on a graphics card alone
        trainer._train_epoch(train, 0)
    half = len(norms) // 2
    assert half
    torch.testing.assert_close(norms[half:], norms[:half])


def test_graph_models_build_their_matrix(tmp_path: Path) -> None:
    write_shop(tmp_path, users=3)
    config = Config("LightGCN", "shop", config_dict=settings(tmp_path))
    _, train, _, _ = prepare(config)
    adjacency = LightGCN(config, train.dataset).norm_adj_matrix.to_dense()
    users, inter = train.dataset.user_num, train.dataset.inter_feat
    assert adjacency[inter["user_id"], users + inter["item_id"]].min() > 0
    assert torch.allclose(adjacency, adjacency.T)
    assert int((adjacency > 0).sum()) == 2 * len(inter)


@pytest.mark.parametrize("batch_size", [1, 7, 2048])
def test_pop_counts_interactions(tmp_path: Path, batch_size: int) -> None:
    """Not once a batch, and not the negative items that RecBole draws."""
    write_shop(tmp_path)
    config = Config("Pop", "shop", config_dict=settings(tmp_path, train_batch_size=batch_size))
    _, train, valid, _ = prepare(config)
    model = get_model("Pop")(config, train.dataset)
    get_trainer(config["MODEL_TYPE"], "Pop")(config, model).fit(train, valid, saved=False, verbose=False)
    counts = torch.bincount(train.dataset.inter_feat["item_id"], minlength=train.dataset.item_num)
    assert counts.max() > 1
    assert torch.equal(model.item_cnt[:, 0], counts)
    assert model.max_cnt == counts.max()


@pytest.mark.parametrize("model", ["Pop", "ItemKNN"])
def test_a_model_that_only_counts_is_validated_and_kept(tmp_path: Path, model: str) -> None:
    """Its one epoch is fewer than ``eval_step``."""
    write_shop(tmp_path)
    config = Config(model, "shop", config_dict=settings(tmp_path, eval_step=3, epochs=10))
    _, train, valid, test = prepare(config)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, get_model(model)(config, train.dataset))
    assert trainer.fit(train, valid, verbose=False)[1]
    assert trainer.evaluate(test, load_best_model=True)


def test_a_folder_that_another_process_made_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "saved").mkdir()
    monkeypatch.setattr("os.path.exists", lambda path: False)  # as it was when this process looked
    ensure_dir(str(tmp_path / "saved"))
    ensure_dir(str(tmp_path / "log" / "SASRec"))
    assert (tmp_path / "log" / "SASRec").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        ensure_dir(str(tmp_path / "file"))


def test_a_model_that_cannot_be_profiled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Strange(torch.nn.Module):
        type = None

        def __deepcopy__(self, memo: dict[int, object]) -> Strange:
            raise RuntimeError("cannot be copied")

    assert np.isnan(get_flops(Strange(), None, "cpu", logging.getLogger(), None))
    assert "cannot be copied" in caplog.text


# Settings


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), (" [1, 'a']", [1, "a"]), ("None", None), ("True", True), ("true", True), ("(0, 1)", (0, 1)),
     ("adam", "adam"), ("[10,inf)", "[10,inf)"), ("2**10", "2**10"), ("{'LS': 1}", {"LS": 1}), ("", ""),
     ("sys.exit(3)", "sys.exit(3)"), ("__import__('os').getpid()", "__import__('os').getpid()"),
     ("(" * 300, "(" * 300)],
)  # fmt: skip
def test_values_are_read_as_literals_and_never_run(text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from_dictionary = Config("BPR", "shop", config_dict={"own_key": text})["own_key"]
    assert from_dictionary == value
    assert type(from_dictionary) is type(value)
    if "=" not in text:
        monkeypatch.setattr(sys, "argv", ["program", f"--own_key={text}"])
        assert Config("BPR", "shop")["own_key"] == value


def test_a_parameter_file_is_read_as_literals(tmp_path: Path) -> None:
    tuning = recbole.trainer.hyper_tuning.HyperTuning
    file = tmp_path / "space"
    file.write_text("sizes choice ['[8]', '[8,4]']\n")
    assert sorted(tuning._build_space_from_file(file)) == ["sizes"]
    file.write_text("sizes choice [print(1)]\n")
    with pytest.raises(NameError, match="not a literal"):
        tuning._build_space_from_file(file)
    assert configurator.eval is literal


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs: 3\nseed: [1\n", r"a\.yaml', line 3 is not valid YAML"),
        ("- 1\n", r"a\.yaml' holds a list; it must hold 'key: value' lines"),
        (None, r"a\.yaml' does not exist"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "a.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=message):
        Config("BPR", "shop", config_file_list=[str(file)])


def test_an_empty_config_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing yet\n")
    (tmp_path / "b.yaml").write_text("epochs: 1\nlearning_rate: 1e-4\n")
    config = Config("BPR", "shop", config_file_list=[str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")])
    assert (config["epochs"], config["learning_rate"]) == (1, 1e-4)


@pytest.mark.parametrize(
    ("name", "hint"), [("SASRek", "SASRec"), ("sasrec", "SASRec"), ("MMM4rec", "MMM4Rec"), ("Zzz", None)]
)
def test_an_unknown_model_is_named_with_the_nearest_one(name: str, hint: str | None) -> None:
    with pytest.raises(UserError, match=f"model='{name}' is not a model") as caught:
        get_model(name)
    assert (f"did you mean '{hint}'?" in str(caught.value)) == (hint is not None)


def test_known_models_are_still_found() -> None:
    assert get_model("LightGCN") is LightGCN


# Quick start and tuning


def test_recboles_quick_start_is_imported_without_ray(tmp_path: Path) -> None:
    write_shop(tmp_path)
    program = f"""
import sys
sys.modules["pkg_resources"] = None  # what setuptools 81 looks like to ray 2.6
import recbole_mmm4rec
from recbole.quick_start import objective_function, run_recbole
print("ray" in sys.modules)
result = run_recbole("Pop", "shop", config_dict={settings(tmp_path)!r})
print(sorted(result["test_result"])[0])
"""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("import pkg_resources\n")
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["False", "hit@10"]


@pytest.mark.parametrize("algo", ["exhaustive", "random", "bayes"])
def test_hyper_tuning_runs(tmp_path: Path, algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole.quick_start import objective_function

    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path)
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text(
        f"model: Pop\ndataset: shop\ndata_path: {tmp_path}\ncheckpoint_dir: {tmp_path}/saved\nstate: ERROR\n"
        "load_col: {inter: [user_id, item_id, timestamp]}\n"
    )
    space = tmp_path / "space"
    space.write_text("eval_batch_size choice [64, 128]\n")
    tuning = recbole.trainer.HyperTuning(
        objective_function, params_file=space, algo=algo, max_evals=2, fixed_config_file_list=[str(fixed)]
    )
    tuning.run()
    assert len(tuning.params_list) == 2
    if algo == "exhaustive":
        assert sorted(tuning.params2result) == ["eval_batch_size:128", "eval_batch_size:64"]
    assert tuning.best_params["eval_batch_size"] in (64, 128)


def test_modules_are_seen_with_changes_only_through_the_view() -> None:
    from recbole_mmm4rec.compat.tools import ModuleView

    real = types.ModuleType("real")
    vars(real).update(kept=1, changed=2)
    view = ModuleView(real, changed=3)
    assert (view.kept, view.changed, vars(real)["changed"]) == (1, 3, 2)
    vars(real)["later"] = 4
    assert view.later == 4
    with pytest.raises(AttributeError, match="real"):
        _ = view.missing
