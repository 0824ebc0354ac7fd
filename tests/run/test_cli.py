"""The command line of run_recbole.py."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.config import Config
from shop import REPOSITORY, SMALL, python, settings, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run import cli
from recbole_mmm4rec.settings.defaults import default_settings
from recbole_mmm4rec.settings.keys import keys_of_other_models, known_keys

PLACES = ("Model", "Log", "TensorBoard")
SCRIPT = str(REPOSITORY / "run_recbole.py")


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command hands to the run, instead of a run."""
    calls: list[dict[str, Any]] = []

    def run(model: str, dataset: str, **rest: Any) -> None:
        calls.append({"model": model, "dataset": dataset, "argv": list(sys.argv), **rest})

    monkeypatch.setattr("recbole_mmm4rec.run.quick_start.run", run)
    return calls


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which the command refuses these arguments."""
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--a=1", "--b", "2", "--c", "-3"], {"a": "1", "b": "2", "c": "-3"}),
        (["-m", "SASRec", "-d=ml"], {"model": "SASRec", "dataset": "ml"}),
        (["--a=b=c", "--a=b=c", "--d="], {"a": "b=c", "d": ""}),
        (["--a", "x=1"], {"a": "x=1"}),
        ([], {}),
    ],
)
def test_arguments_are_never_ignored(arguments: list[str], found: dict[str, str]) -> None:
    assert cli.parse_arguments(arguments) == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["word"], "stray argument 'word'"),
        (["--a=1", "b=2"], "stray argument 'b=2'"),
        (["--"], "stray argument '--'"),
        (["-x", "1"], "stray argument '-x'"),
        (["--a=[text,", "category]"], "--a=[text,: a list or mapping with blanks needs quotes: "),
        (["--flag"], "--flag has no value"),
        (["--flag", "--b=1"], "--flag has no value"),
        (["--a=1", "--a", "2"], "--a is given twice, as '1' and as '2'"),
        (["-m", "BPR", "--model=Pop"], "--model is given twice"),
    ],
)
def test_unclear_arguments_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        cli.parse_arguments(arguments)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(values)
def test_every_literal_is_read_back(value: object) -> None:
    assert cli.parse_value(repr(value)) == value


@given(st.text())
def test_any_text_is_a_literal_or_itself(text: str) -> None:
    value = cli.parse_value(text)
    assert value == text or value in (True, False, None) or ast.literal_eval(text.strip()) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("null", None), ("None", None), ("none", None), ("1e-3", 1e-3), ("007", "007"),
     ("[10,inf)", "[10,inf)"), ("print(1)", "print(1)"), ("ml-100k", "ml-100k"), ("'12'", "12")],
)  # fmt: skip
def test_words_and_texts(text: str, value: object) -> None:
    assert cli.parse_value(text) == value


@pytest.mark.parametrize("text", ["12", "'12'", "None", "'None'", "true", "'true'", "[1, '2']", "a b", "'[1]'"])
def test_recbole_gets_the_value_that_was_typed(handed_over: list[dict[str, Any]], text: str) -> None:
    assert cli.main(["-m", "BPR", "-d", "shop", f"--zzz_own={text}"]) == 0
    config = Config("BPR", "shop", config_dict=handed_over[0]["config_dict"])
    assert config["zzz_own"] == cli.parse_value(text)
    assert type(config["zzz_own"]) is type(cli.parse_value(text))


def test_what_a_run_gets(handed_over: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("learning_rate: 1e-4\n")
    files = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    monkeypatch.setattr(sys, "argv", ["run_recbole.py", "--epochs=9"])
    arguments = ["--dataset=shop", "--config_files", " ".join(files), "--epochs", "1", "--topk=[5, 10]"]
    assert cli.main([*arguments, "--nproc=2", "--port=88", "--group_offset", "1"]) == 0
    assert handed_over == [
        {
            "model": "MMM4Rec",
            "dataset": "shop",
            "argv": ["run_recbole.py"],
            "config_file_list": files,
            "config_dict": {"epochs": 1, "topk": [5, 10]},
            "nproc": 2,
            "port": "88",
            "group_offset": 1,
        }
    ]
    assert sys.argv == ["run_recbole.py", "--epochs=9"]


def test_processes_may_stand_in_a_file(handed_over: list[dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("nproc: 4\nport: 88\n")
    assert cli.main(["--dataset=shop", f"--config_files={file}", "--nproc=2"]) == 0
    assert (handed_over[0]["nproc"], handed_over[0]["port"], handed_over[0]["config_dict"]) == (2, "88", {})


def test_a_file_names_no_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("epochs: 1\nconfig_files: b.yaml\n")
    assert "a.yaml', line 2: config_files: a file names no others" in refused(
        capsys, "--dataset=shop", f"--config_files={file}"
    )


def test_model_and_data_set_may_stand_in_a_file(handed_over: list[dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("model: BPR\ndataset: shop\n")
    assert cli.main([f"--config_files={file}"]) == 0
    assert cli.main([f"--config_files={file}", "-m", "Pop"]) == 0
    assert [(call["model"], call["dataset"]) for call in handed_over] == [("BPR", "shop"), ("Pop", "shop")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=BPR"], "--dataset is missing"),
        (["--model=SASRek", "--dataset=shop"], "--model=SASRek.*did you mean 'SASRec'"),
        (["--dataset=shop", "--learning_rte=1"], "--learning_rte=1: unknown key.*did you mean 'learning_rate'"),
        (["--dataset=shop", "--hiden_size=1"], "--hiden_size=1: unknown key.*did you mean 'hidden_size'"),
        (["--dataset=shop", "--epochs=many"], "--epochs=many: it must be a whole number, at least 0"),
        (["--dataset=shop", "--show_progress=maybe"], "--show_progress=maybe: it must be True or False"),
        (["--dataset=shop", "--nproc=0"], "--nproc=0: it must be a whole number, at least 1"),
        (["--dataset=shop", "--world_size=two"], "--world_size=two"),
        (["--dataset=shop", "--config_files=none.yaml"], "config file 'none.yaml' does not exist"),
        (["--model=BPR", "--dataset=nowhere"], r"there is no file 'dataset/nowhere/nowhere\.inter'"),
        (
            [
                "--model=SASRec",
                "--dataset=shop",
                "--train_neg_sample_args={'distribution': 'uniform', 'sample_num': 1}",
            ],
            "train_neg_sample_args .* should be None when the loss_type is CE",
        ),
        (["--model=SASRec", "--dataset=shop", "--baselines=Pop,BPRR"], "--baselines=BPRR: .* did you mean 'BPR'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(message, refused(capsys, *arguments))
    assert list(tmp_path.iterdir()) == []


NEGATIVES = "--train_neg_sample_args={'distribution': 'uniform', 'sample_num': %s}"


@pytest.mark.parametrize(
    ("model", "argument", "message"),
    [
        ("SASRec", "--n_heads=3", r"SASRec cannot be made of these settings: .*not a multiple of"),
        ("SASRec", "--n_layers=2.5", r"--n_layers=2\.5: it must be a whole number such as 2"),
        ("SASRec", "--n_heads=0", "SASRec cannot be made of these settings: .*zero"),
        ("SASRec", "--hidden_dropout_prob=1.5", "SASRec cannot be made of these settings: dropout probability"),
        ("SASRec", "--hidden_act=foo", "SASRec cannot be made of these settings: it knows no 'foo'"),
        ("SASRec", "--learner=sparse_adam", "--learner=sparse_adam: it must be one of adam, "),
        ("BPR", "--embedding_size=0.5", r"--embedding_size=0\.5: it must be a whole number such as 64"),
        ("BPR", "--embedding_size=-3", "BPR cannot be made of these settings: .*negative dimension"),
        ("NeuMF", "--mlp_hidden_size=64", r"--mlp_hidden_size=64: it must be a list such as \[128, 64\]"),
        ("BPR", "--train_neg_sample_args=None", "train_neg_sample_args=None: BPR compares each item with one"),
        *(
            ("BPR", NEGATIVES % number, "it must be a mapping such as .* at least 1")
            for number in ("'x'", 0, 1.5, None)
        ),
        (
            "BPR",
            "--train_neg_sample_args={'distribution': 'uniform', 'dynamic': True}",
            "it must be a mapping such as .* at least 1",
        ),
    ],
)
def test_what_recboles_models_cannot_have_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    argument: str,
    message: str,
) -> None:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    key = argument[2:].partition("=")[0]
    given = {name: value for name, value in settings(tmp_path).items() if name != key}
    line = refused(capsys, f"--model={model}", "--dataset=shop", argument, *(f"--{k}={v}" for k, v in given.items()))
    assert re.search(message, line), line


@pytest.mark.parametrize("argument", ["--weight_decay=None", "--train_neg_sample_args={'sample_num': 2}"])
def test_what_recboles_models_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = (f"--{name}={value}" for name, value in settings(tmp_path).items())
    assert cli.main(["--model=BPR", "--dataset=shop", argument, *given]) == 0


def test_a_default_that_is_whole_by_chance(handed_over: list[dict[str, Any]]) -> None:
    assert cli.main(["-m", "SASRecCPR", "-d", "shop", "--hidden_dropout_prob=0.2"]) == 0


def test_a_misspelt_key_in_a_file_is_named_with_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("# settings\nepochs: 1\n\ntopkk: [10]\n")
    line = refused(capsys, "-m", "BPR", "-d", "shop", f"--config_files={file}")
    assert line == f"error: config file '{file}', line 4: unknown key 'topkk'; did you mean 'topk'?\n"


@pytest.mark.parametrize(
    ("key", "warning"),
    [("my_own_switch_xyz", "neither RecBole nor BPR knows the key"), ("attn_dropout_prob", "BPR does not use the key")],
)
def test_keys_of_other_models_are_accepted_with_a_warning(
    handed_over: list[dict[str, Any]], caplog: pytest.LogCaptureFixture, key: str, warning: str
) -> None:
    assert cli.main(["-m", "BPR", "-d", "shop", f"--{key}=1"]) == 0
    assert handed_over[0]["config_dict"] == {key: 1}
    assert warning in caplog.text


def test_known_keys_come_from_rows_and_recboles_files() -> None:
    stock, ours = known_keys("SASRec"), known_keys("MMM4Rec")
    assert {"learning_rate", "hidden_size", "nproc", "clip_grad_norm", "save_dataset", "benchmark_filename"} <= stock
    assert set(SMALL) - {"embedding_size"} <= stock
    assert {"modalities", "candidates", "d_state"} <= ours
    assert not {"d_state", "embedding_sizes"} & stock
    assert "d_state" in keys_of_other_models()
    assert default_settings("SASRec")["epochs"] == 300


def test_training_errors_keep_their_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("the validation's loss is nan")

    monkeypatch.setattr("recbole.trainer.Trainer._valid_epoch", fail)
    arguments = [f"--{key}={value}" for key, value in settings(tmp_path).items()]
    with pytest.raises(ValueError, match="loss is nan") as caught:
        cli.main(["--model=BPR", "--dataset=shop", *arguments])
    assert not isinstance(caught.value, UserError)


def test_help_names_the_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("--model", "--dataset", "--config_files", "--KEY=VALUE", "--nproc", "--world_size", "--group_offset"):
        assert word in text


def test_the_script_runs_and_shows_where_everything_lies(tmp_path: Path) -> None:
    write_shop(tmp_path)
    arguments = [f"--{key}={value}" for key, value in settings(tmp_path, checkpoint_dir="kept").items()]
    done = python(SCRIPT, "-m", "SASRec", "-d", "shop", "--baselines=Pop", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    lines = done.stdout.splitlines()
    lines = lines[lines.index("SASRec on shop") :]
    for split in ("validation", "test"):
        start = next(number for number, line in enumerate(lines) if line.startswith(split))
        assert lines[start].split()[1:] == ["recall@10", "mrr@10", "ndcg@10", "hit@10", "precision@10"]
        rows = [line.split() for line in lines[start + 1 : start + 3]]
        assert [row[0] for row in rows] == ["SASRec", "Pop"]
        assert all(0 <= float(value) <= 1 for row in rows for value in row[1:])
    places = dict(line.split(maxsplit=1) for line in lines if line.split() and line.split()[0] in PLACES)
    assert list(places) == list(PLACES)
    assert all((tmp_path / place).exists() for place in places.values())
    code = "\n".join(line.strip() for line in lines[-2:])
    again = python("-c", code + "\nprint(type(model).__name__, len(dataset))", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == "SASRec 270"


def test_the_script_is_short_and_refuses_in_one_line(tmp_path: Path) -> None:
    assert len(Path(SCRIPT).read_text().splitlines()) < 30
    done = python(SCRIPT, "--model=MMM4Rek", "--dataset=shop", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --model=MMM4Rek: there is no such model; did you mean 'MMM4Rec'?\n"


def test_gpus_stay_visible_to_processes_that_start_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole hides all GPUs but ``gpu_id``'s for every configuration that it makes."""
    write_shop(tmp_path)
    for visible in ("4,5", None):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        cli._config_of("BPR", "shop", [], settings(tmp_path))
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "nothing was trained that could be kept; begin with: python run_recbole.py --resume=True"),
        (
            {"resume": "False"},
            "nothing was trained that could be kept; begin with: python run_recbole.py --resume=True",
        ),
        ({"resume": "True"}, "go on after the last checkpoint with: python run_recbole.py --resume=True"),
        ({"stage": "pretrain"}, "go on after the last checkpoint with: python run_recbole.py --stage=pretrain"),
        ({"nproc": "2"}, "go on after the last checkpoint with: python run_recbole.py --nproc=2 --resume=True"),
    ],
)
def test_what_to_do_after_an_interruption(
    given: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: dict[str, str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    monkeypatch.setattr("recbole_mmm4rec.training.keeping.noted", None)
    monkeypatch.setattr("recbole_mmm4rec.training.keeping.trained", None)
    assert cli.main([f"--{key}={value}" for key, value in given.items()]) == 130
    assert capsys.readouterr().err == f"interrupted; {told}\n"


def test_after_a_training_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_mmm4rec.training.keeping.noted", None)
    monkeypatch.setattr("recbole_mmm4rec.training.keeping.trained", "saved/SASRec.safetensors")
    told = cli._after_a_break("mmm4rec train", ["-m", "SASRec", "--resume", "False"])
    assert told == "it was trained, and not tested to the end; the model is in 'saved/SASRec.safetensors'"


@pytest.mark.parametrize("key", ["whitening", "contrastive_epochs", "chunk_size"])
def test_a_removed_setting_is_told(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(f"epochs: 1\n{key}: 4\n")
    assert cli.main(["--model=MMM4Rec", "--dataset=ml-100k", f"--config_files={file}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"old.yaml', line 2: {key}=4: " in line
    assert line.endswith("leave it out")
