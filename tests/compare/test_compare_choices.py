"""What a comparison runs and shows of its file, and choices in it that would count for nothing."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pattern_shop import NAME, write_pattern_shop
from test_compare_plan import renamed
from test_compare_protocols import BOTH, run_all
from test_compare_tables import cell, table
from tiny_comparison import OURS, SASREC, tiny_plan, write_config

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.__main__ import main
from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.compare.latex import latex
from recbole_mmm4rec.compare.notes import notes
from recbole_mmm4rec.compare.records import Records
from recbole_mmm4rec.compare.results import collect
from recbole_mmm4rec.compare.runs import Runner
from recbole_mmm4rec.compare.write import write_report
from recbole_mmm4rec.run.identity import resolved

pytestmark = pytest.mark.usefixtures("own_folder")
RATES = {"learning_rate": [0.1, 0.2]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pattern shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_pattern_shop(folder)
    return folder


def sasrec(**more: Any) -> dict[str, Any]:
    return {"model": "SASRec", "settings": SASREC, **more}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"models": [sasrec(only=[])]}, "only: it names no data set"),
        ({"models": [sasrec(search=[])]}, "search: there is nothing to try"),
        ({"models": [sasrec(search={"learning_rate": []})]}, "search: there is nothing to try"),
        ({"models": [sasrec(search=[{}, {}])]}, "search: {} stands there twice"),
        ({"models": [sasrec(search={"learning_rate": [1e-3, 0.001]})]}, "'learning_rate': 0.001} stands there twice"),
        (
            {"models": [sasrec(search=RATES, datasets={NAME: {"learning_rate": 0.3}})]},
            "learning_rate: `search` sets it, too",
        ),
        ({"compare": ["Hit@10", "hit@10"]}, "compare: 'hit@10' stands there twice"),
    ],
)
def test_what_would_count_for_nothing_is_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=rf"tiny\.yaml, line \d+: .*{complaint}"):
        read_comparison(write_config(tmp_path, **changes))


def test_data_sets_without_a_row_are_left_out(tmp_path: Path) -> None:
    models = ["Pop", {"name": "here", "model": "Pop", "only": [NAME]}]
    file = write_config(tmp_path, datasets=[NAME, "other"], models=models)
    assert [found.name for found in read_comparison(file).datasets] == [NAME, "other"]
    found = read_comparison(file, only=["here"])
    assert [one.name for one in found.datasets] == [NAME]
    assert [one.name for one in found.all_datasets] == [NAME, "other"]
    with pytest.raises(UserError, match="--only, --on: no model of here runs on other"):
        read_comparison(file, only=["here"], on=["other"])


def test_an_option_given_twice_adds_up(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(shop)
    command = ["--config", str(shop / "tiny.yaml"), "--data", str(shop), "--out", str(shop / "none"), "--no-run"]
    assert main([*command, "--only", "Pop", "--only", "SASRecc"]) == 2
    assert "--only 'SASRecc'" in capsys.readouterr().err
    assert main([*command, "--only", "Popp", "--only", "SASRec"]) == 2
    assert "--only 'Popp'" in capsys.readouterr().err
    assert main(command) == 2
    assert "none has no runs (runs.jsonl)" in capsys.readouterr().err
    assert not (shop / "none").exists()


def test_one_data_set_under_two_limits(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first limit ends the run, which is the same one under the other: both come about in one call."""
    datasets = [{"name": name, "folder": NAME, "max_seconds": limit} for name, limit in (("short", 1), ("long", 600))]
    plan = tiny_plan(shop, datasets=datasets, models=[sasrec()], seeds=[1])
    short, long = (plan.run(row, dataset, 1, {}) for row, dataset in plan.cells())
    assert short.id == long.id
    runner = Runner(plan, Records(tmp_path / "runs.jsonl"), tmp_path, 2, False)
    assert runner._may_start(short)
    runner.tried.add((short.id, short.max_seconds))
    runner.running[short.id] = None  # type: ignore[assignment]
    assert not runner._may_start(long)  # they share a folder
    runner.running.clear()
    assert runner._may_start(long)
    assert not runner._may_start(short)


def test_a_file_that_a_model_begins_with_is_data(shop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def plan_of(name: str) -> Any:
        row = {"model": "NeuMF", "settings": {"mf_pretrain_path": name}}
        return tiny_plan(shop, models=[row], seeds=[1])

    def job_of(plan: Any) -> Any:
        ((row, dataset),) = plan.cells()
        return plan.run(row, dataset, 1, {})

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"model 'NeuMF': mf_pretrain_path: there is no file .*mf\.pth"):
        plan_of("mf.pth")
    Path("mf.pth").write_bytes(b"one")
    first = job_of(plan_of("mf.pth"))
    assert first.settings["mf_pretrain_path"] == str(tmp_path / "mf.pth")
    Path("mf.pth").write_bytes(b"two")
    assert job_of(plan_of("mf.pth")).id != first.id


def test_the_code_of_an_own_model_is_part_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = {"model": "Mine", "seed": 1}
    file = tmp_path / "mine.py"

    def mark(text: str) -> str:
        file.write_text(f"class Mine:\n    {text}\n")
        spec = importlib.util.spec_from_file_location("mine", file)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(__import__("sys").modules, "mine", module)
        assert spec.loader is not None
        spec.loader.exec_module(module)
        monkeypatch.setattr("recbole.utils.get_model", lambda _: module.Mine)
        return resolved(settings, ())

    assert mark("a = 1") != mark("a = 2")
    assert mark("a = 1") == mark("a = 1")


def test_installed_models_are_known_by_their_version(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {model: resolved({"model": model}, ()) for model in ("SASRec", "MMM4Rec", "Neighbours")}
    monkeypatch.setattr("recbole_mmm4rec.run.identity._own_code", lambda _: [])
    assert found == {model: resolved({"model": model}, ()) for model in found}


def test_what_unisrec_cannot_take_is_one_line(shop: Path) -> None:
    write_pattern_shop(shop / "more")
    renamed(shop, "source")
    row = {"model": "UniSRec", "settings": {"pretrained_layers": 1}, "pretrained": {"dataset": "source"}}
    with pytest.raises(UserError, match="'UniSRec' on 'pattern': pretrained_layers=1: UniSRec has no such thing"):
        tiny_plan(shop, models=[row])


def test_no_split_is_one_line(shop: Path) -> None:
    with pytest.raises(UserError, match=r"eval_args on 'pattern': split=\{\}"):
        tiny_plan(shop, protocol={"eval_args": {"split": None, "order": "TO", "mode": "full"}})


@pytest.mark.parametrize("model", ["FPMC", "Caser"])
def test_a_model_with_a_vector_for_each_user_is_refused_where_users_are_held_out(shop: Path, model: str) -> None:
    with pytest.raises(UserError, match=f"{model} knows users by their ids; leave the row out"):
        tiny_plan(shop, models=["Pop", sasrec(), model], protocols=["cold_users"])


def test_the_protocol_does_not_make_a_pretraining_another(shop: Path) -> None:
    """It splits by itself."""
    write_pattern_shop(shop / "again")
    renamed(shop, "source")
    row = {"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": "source", "settings": OURS}, "only": [NAME]}
    found = set()
    for protocols in (["leave_one_out"], ["global_time"], [{"global_time": [6, 2, 2]}]):
        plan = tiny_plan(shop, models=[row], datasets=[NAME, "source"], protocols=protocols)
        first = plan.pretraining(plan.comparison.rows[0])
        assert first is not None
        found.add(first.id)
    assert len(found) == 1


def test_the_settings_of_a_source_are_those_of_one_entry(shop: Path) -> None:
    renamed(shop, "source")
    row = {"model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": "source", "settings": OURS}, "only": [NAME]}
    datasets: list[Any] = [NAME, *({"name": f"s{n}", "folder": "source", "settings": {"topk": [n]}} for n in (3, 5))]
    with pytest.raises(UserError, match="pre-training on 'source': several entries of `datasets` have that folder"):
        tiny_plan(shop, models=[row], datasets=datasets)
    tiny_plan(shop, models=[row], datasets=[*datasets, "source"])


def test_who_does_not_see_the_last_interactions_is_marked(shop: Path, tmp_path: Path) -> None:
    plan = tiny_plan(shop, seeds=[1], protocols=[*BOTH, {"cold_items": [6, 2, 2]}])
    tables = collect(plan, Records(tmp_path / "runs.jsonl"), tmp_path)
    assert [[row.no_history for row in one.cells] for one in tables] == [[True, False], [True, False], [False, False]]
    alone = tiny_plan(shop, seeds=[1], models=["Pop"])
    (found,) = collect(alone, Records(tmp_path / "runs.jsonl"), tmp_path)
    assert not found.cells[0].no_history
    marked = table(replace(cell("Pop", [0.1, 0.1], [0, 0]), no_history=True), cell("A", [0.1, 0.1], [0, 0]))
    assert notes(marked)[0].startswith("¶ No sequential model: ")
    assert r"Pop \P{}" in latex(marked, [])


def test_plots_of_what_is_not_shown_go(shop: Path, tmp_path: Path) -> None:
    plan = tiny_plan(shop, seeds=[1], models=["Pop"])
    tables = collect(plan, run_all(plan, tmp_path), tmp_path)
    (tmp_path / "plots").mkdir()
    for name in ("convergence-gone.svg", f"groups-{NAME}.png", "mine.svg"):
        (tmp_path / "plots" / name).write_text("x")
    write_report(plan, [(one, []) for one in tables], {NAME: []}, [], tmp_path, "x")
    left = {file.name for file in (tmp_path / "plots").iterdir()}
    assert left == {"mine.svg", f"convergence-{NAME}.png", f"convergence-{NAME}.svg"}


def test_popularity_is_the_same_for_all_models(tmp_path: Path) -> None:
    """Also where a user has a single interaction, of which sequential models make no sample."""
    write_pattern_shop(tmp_path)
    with (tmp_path / NAME / f"{NAME}.inter").open("a") as file:
        file.write("".join(f"once{number}\ts0c0\t1600000000\n" for number in range(30)))
    plan = tiny_plan(tmp_path, seeds=[1], beyond=True, models=["Pop", sasrec()])
    from recbole_mmm4rec.run.build import build, make_config
    from recbole_mmm4rec.training.beyond import training_popularity

    counted = []
    for model in ("Pop", "SASRec"):
        given = {**plan.shops[NAME].protocol, **(SASREC if model == "SASRec" else {}), "data_path": str(tmp_path)}
        run = build(make_config(model, NAME, config_dict=given), count_flops=False)
        counted.append(training_popularity(run.train._dataset, (run.valid._dataset, run.test._dataset)).tolist())
    assert counted[0] == counted[1]
    targets = plan.shops[NAME].targets
    assert targets is not None
    assert targets.popularity.max() <= max(counted[0])
