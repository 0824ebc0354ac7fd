"""``python -m recbole_mmm4rec.tune`` as it is typed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pattern_shop import NAME, write_pattern_shop
from shop import settings, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.json_lines import JsonLines
from recbole_mmm4rec.base.locks import alone
from recbole_mmm4rec.run.cli import main as run_recbole
from recbole_mmm4rec.settings import results
from recbole_mmm4rec.tune.__main__ import main
from recbole_mmm4rec.tune.space import Parameter
from recbole_mmm4rec.tune.study import make_study

pytestmark = pytest.mark.usefixtures("own_folder", "forked")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small shop with settings of a small SASRec, and a space of four combinations, one of which fails."""
    write_shop(tmp_path)
    fixed = settings(tmp_path, train_neg_sample_args=None, loss_type="CE", epochs=2)
    del fixed["n_heads"]
    (tmp_path / "fixed.yaml").write_text(yaml.safe_dump(fixed))
    (tmp_path / "space.yaml").write_text("learning_rate: [0.01, 0.001]\nn_heads: [1, 3]\n")
    return tmp_path


def command(*more: str, space: str = "space.yaml", algo: str = "exhaustive") -> list[str]:
    line = ["--model", "SASRec", "--dataset", "shop", "--config_files", "fixed.yaml", "--space", space]
    return [*line, "--algo", algo, "--out", "out", *more]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def trials(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


def test_a_search_from_end_to_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    assert main(command()) == 0
    found = rows(out)
    assert [(row["learning_rate"], row["n_heads"]) for row in found] == [
        ("0.01", "1"),
        ("0.01", "3"),
        ("0.001", "1"),
        ("0.001", "3"),
    ]
    assert [row["status"] for row in found] == ["done", "failed", "done", "failed"]
    assert "multiple" in found[1]["error"]
    assert not any(column.startswith("test") for column in found[0])
    assert not (out / "test.json").exists()
    for name in ("parallel.png", "parallel.svg"):
        assert (out / name).stat().st_size > 5000
    text = (out / "report.md").read_text()
    assert "2 trained to the end, 0 ended early, 2 failed" in text
    assert "trial 2 failed" in capsys.readouterr().err

    top = max((row for row in found if row["status"] == "done"), key=lambda row: float(row["valid_mrr@10"]))
    chosen = yaml.safe_load((out / "best.yaml").read_text())
    fixed = yaml.safe_load((folder / "fixed.yaml").read_text())
    tuned = {"learning_rate": float(top["learning_rate"]), "n_heads": 1}
    assert chosen == {"model": "SASRec", "dataset": "shop", **fixed, **tuned}

    assert run_recbole(["--config_files", str(out / "best.yaml")]) == 0
    said = capsys.readouterr().out
    valid = said[said.index("validation") :].split("\n")[1].split()
    assert f"{float(top['valid_mrr@10']):.4f}" in valid

    before = (out / "trials.jsonl").read_bytes()
    assert main(command("--test-best")) == 0  # nothing is left to try; the best one is tested
    assert (out / "trials.jsonl").read_bytes() == before
    tested = json.loads((out / "test.json").read_text())
    assert Path(tested["model_file"]).is_file()
    assert tested["valid"]["mrr@10"] == float(top["valid_mrr@10"])
    assert "mrr@10" in tested["test"]
    assert "Test set, trial" in (out / "report.md").read_text()

    assert main(command("--retry-failed")) == 0
    assert [one["trial"] for one in trials(out)] == [1, 2, 3, 4, 2, 4]


def test_killed_and_started_again_it_repeats_nothing(folder: Path) -> None:
    """The trials are those of a search that was left alone."""
    (folder / "space.yaml").write_text("learning_rate: {loguniform: [1e-4, 1e-2]}\nn_heads: [1, 2]\n")
    more = ["--max-evals", "6"]
    assert main(command(*more, algo="random")) == 0
    left_alone = trials(folder / "out")
    (folder / "out").rename(folder / "whole")

    line = [sys.executable, "-m", "recbole_mmm4rec.tune", *command(*more, algo="random")]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = folder / "out/trials.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < 2:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert main(command(*more, algo="random")) == 0
    again = trials(folder / "out")
    assert [one["params"] for one in again] == [one["params"] for one in left_alone]
    assert [one["score"] for one in again] == [one["score"] for one in left_alone]


def test_ctrl_c_writes_what_there_is(folder: Path) -> None:
    (folder / "space.yaml").write_text("learning_rate: {loguniform: [1e-4, 1e-2]}\n")
    line = [sys.executable, "-m", "recbole_mmm4rec.tune", *command("--max-evals", "1000", algo="random")]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    file = folder / "out/trials.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < 1:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted; the same command goes on where it was"
    assert "Traceback" not in said
    assert len(rows(folder / "out")) == len(trials(folder / "out"))
    assert (folder / "out/best.yaml").is_file()


def test_ctrl_c_just_after_a_line_was_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = JsonLines.append

    def interrupted(self: JsonLines, record: dict[str, Any]) -> None:
        append(self, record)
        raise KeyboardInterrupt

    monkeypatch.setattr(JsonLines, "append", interrupted)
    assert main(command()) == 130
    assert len(rows(folder / "out")) == len(trials(folder / "out")) == 1


def test_eight_trials_tell_what_matters(folder: Path) -> None:
    (folder / "space.yaml").write_text("learning_rate: {loguniform: [1e-6, 3e-2]}\nhidden_dropout_prob: [0.0, 0.1]\n")
    assert main(command("--max-evals", "8", algo="bayes")) == 0
    for name in ("importance.png", "importance.svg"):
        assert (folder / "out" / name).stat().st_size > 2000
    assert "## What matters" in (folder / "out/report.md").read_text()


@pytest.mark.parametrize(
    ("more", "space", "message"),
    [
        (["--algo", "random"], None, "--max-evals is missing"),
        ([], "a_key_of_no_model_at_all_xyz: {uniform: [0, 1]}\n", "line 1: a_key_of_no_model_at_all_xyz has a uniform"),
        (
            [],
            "n_heads: [1]\nlerning_rate: [0.1]\n",
            "line 2: unknown key 'lerning_rate'; did you mean 'learning_rate'?",
        ),
        ([], "\nlearning_rate: [0.1, -1]\n", "line 2: learning_rate=-1: it must be a number above 0"),
        ([], "valid_metric: [Hit@10, NDCG@10]\n", "line 1: valid_metric cannot be searched"),
        (["--learning_rate=0.1"], None, "line 1: learning_rate is searched, and fixed by --learning_rate=0.1"),
        (["--model", "SASRek"], None, "--model=SASRek: there is no such model; did you mean 'SASRec'?"),
        (["--dataset", "none"], None, "dataset='none': there is no file"),
        (["--epoch=3"], None, "--epoch=3: unknown key 'epoch'; did you mean 'epochs'?"),
        (["--nproc=2"], None, "nproc cannot be set"),
        (["--eval_step=0"], None, "eval_step=0: there is no validation to choose by"),
        (
            ["--eval_args={'split': {'LS': 'test_only'}, 'order': 'TO'}"],
            None,
            "eval_args: split {'LS': 'test_only'}: there is no validation to choose by; leave a part for it",
        ),
        ([], "seed: [1, 2]\n", "line 1: seed cannot be searched"),
        (["--space", "none.yaml"], None, "--space none.yaml: there is no such file"),
        (["--asha"], None, "--asha belongs to --tool ray"),
        (["--tool", "ray", "--grace-epochs", "2"], None, "--grace-epochs belongs to --asha"),
        (["--tool", "ray", "--asha", "--reduction", "1"], None, "--reduction 1: it must be above 1"),
        (["--tool", "ray", "--cpus-per-trial", "0"], None, "--cpus-per-trial 0: it must be above 0"),
        (["--search-seed", "-1"], None, "--search-seed -1"),
        (["--test_best=True"], None, "--test_best=True: there is no such option; did you mean '--test-best'?"),
        (["--cpus_per_trial=2"], None, "--cpus_per_trial=2: there is no such option; did you mean '--cpus-per-trial'?"),
        (["--config-files", "a.yaml"], None, "--config-files: there is no such option; did you mean '--config_files'?"),
        (["--out", "fixed.yaml"], None, "--out fixed.yaml: no folder to write to (File exists); name another"),
        (["--tool", "ray", "--ray-address", "ray://127.0.0.1:1"], None, "Ray's client cannot run this search"),
        ([], "learning_rate: [0.1]\nstage: [train, pretrain]\n", "line 2: stage cannot be searched"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, more: list[str], space: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if space:
        (folder / "space.yaml").write_text(space)
    assert main(command(*more)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ")
    assert message in said[-1]
    assert not (folder / "out/trials.jsonl").exists()
    assert not (folder / "out/study.json").exists()


def test_a_wrong_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command("--max-evals", "0"))
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: argument --max-evals: '0' is no whole number, at least 1")


def test_what_is_not_installed_is_told_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_mmm4rec.base.installed.find_spec", lambda name: None if name == "matplotlib" else True)
    assert main(command()) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == "error: matplotlib is not installed: pip install 'recbole-mmm4rec[tune]'"
    assert not (folder / "out").exists()


def test_a_config_file_names_the_model_and_loaders_have_processes(folder: Path) -> None:
    fixed = yaml.safe_load((folder / "fixed.yaml").read_text())
    (folder / "fixed.yaml").write_text(yaml.safe_dump({**fixed, "model": "SASRec", "dataset": "shop", "worker": 1}))
    (folder / "space.yaml").write_text("n_heads: [1]\n")
    line = ["--config_files", "fixed.yaml", "--space", "space.yaml", "--algo", "exhaustive", "--epochs=1"]
    assert main(line) == 0
    (found,) = trials(folder / "tune/SASRec-shop")
    assert (found["status"], found["error"]) == ("done", "")


def test_another_search_does_not_go_on_in_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "space.yaml").write_text("learning_rate: [0.01]\n")
    assert main(command()) == 0
    before = (folder / "out/trials.jsonl").read_bytes()

    def refusal(*more: str) -> str:
        capsys.readouterr()
        assert main(command(*more)) == 2
        assert (folder / "out/trials.jsonl").read_bytes() == before
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "fixed settings, epochs: 2 there, 3 here; name another folder" in refusal("--epochs=3")
    assert "fixed settings, seed: nothing there, 7 here" in refusal("--seed=7")
    assert "model: 'SASRec' there, 'GRU4Rec' here" in refusal("--model", "GRU4Rec")
    (folder / "space.yaml").write_text("learning_rate: [0.01, 0.02]\n")
    assert "space, learning_rate: {'kind': 'choice', 'values': [0.01]} there" in refusal()
    (folder / "space.yaml").write_text("learning_rate: [0.02]\n")  # which the trial there does not fit
    assert "space, learning_rate: {'kind': 'choice', 'values': [0.01]} there" in refusal()
    (folder / "space.yaml").write_text("learning_rate: [0.01]\nweight_decay: [0.0]\n")
    assert "space, weight_decay: nothing there" in refusal()
    (folder / "space.yaml").write_text("learning_rate: [0.01]\n")
    inter = (folder / "shop/shop.inter").read_bytes()
    with (folder / "shop/shop.inter").open("a") as file:
        file.write("u1\ti1\t1600000000\n")
    assert "files of the data set" in refusal()
    (folder / "shop/shop.inter").write_bytes(inter)
    with monkeypatch.context() as patch:
        patch.setattr("recbole_mmm4rec.run.identity.version", lambda name: "0")
        assert "defaults of settings, versions of RecBole and PyTorch, content of pretrained: " in refusal()
    later = results.Change(99, "", lambda model, given: given["learning_rate"] == 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(results, "CHANGES", (*results.CHANGES, later))
        assert "results of this package's version: " in refusal()
        assert " there, 99 here" in refusal()
    others = results.Change(99, "", lambda model, given: model == "NoSuchModel")
    monkeypatch.setattr(results, "CHANGES", (*results.CHANGES, others))
    assert main(command()) == 0


def test_another_content_of_a_searched_checkpoint_is_another_search(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    file = tmp_path / "a.safetensors"
    space = [Parameter("pretrained", "choice", (str(file), None), 0.0, 0.0, "here")]
    found = []
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        found.append(make_study("MMM4Rec", NAME, [], {"data_path": str(tmp_path)}, space).resolved)
    assert found[0] == found[2] != found[1]


def test_two_commands_do_not_share_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with alone(folder / "out", "search"):
        assert main(command()) == 2
    assert "another search is running there" in capsys.readouterr().err


def test_an_open_interval_stays_open(folder: Path) -> None:
    main(command("--user_inter_num_interval=(4,20)", "--item_inter_num_interval=[1,99]", "--max-evals=1"))
    told = json.loads((folder / "out/study.json").read_text())["fixed settings"]
    assert (told["user_inter_num_interval"], told["item_inter_num_interval"]) == ("(4, 20)", [1, 99])


def test_settings_that_need_each_other_may_be_searched(tmp_path: Path) -> None:
    """One fixed and the other searched, and both searched, of which some combinations are none."""
    write_pattern_shop(tmp_path)

    def study(fixed: dict[str, Any], **searched: list[Any]) -> Any:
        space = [Parameter(key, "choice", tuple(values), 0.0, 0.0, key) for key, values in searched.items()]
        return make_study("MMM4Rec", NAME, [], {"data_path": str(tmp_path), **fixed}, space)

    assert study({"unfreeze_after": 3}, frozen=[["adapters"], ["ssd"]]).fixed["unfreeze_after"] == 3
    stores = str(tmp_path / NAME / "features")
    study({"unfreeze_after": 3}, frozen=[["adapters"], ["ssd"]], feature_path=[stores, f"{stores}/."])
    study({}, frozen=[None, ["adapters"]], unfreeze_after=[0, 5])
    with pytest.raises(UserError, match=r"unfreeze_after: unfreeze_after=5: .*frozen"):
        study({}, unfreeze_after=[0, 5], learning_rate=[0.1, 0.2])
