"""The table of commands, and what happens where RecBole is not installed."""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from shop import REPOSITORY

from dataset_prep.cli import main as prepare
from recbole_mmm4rec.base.command_names import called, typed
from recbole_mmm4rec.commands.__main__ import COMMANDS, main
from recbole_mmm4rec.compat import INSTALL_RECBOLE

BY_PYTHON = "python -m dataset_prep"
BY_ITSELF = r"run_recbole\.py \S|python -m dataset_prep."
SPOKEN = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
WITHOUT_RECBOLE = """
import importlib.machinery, runpy, sys
find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = lambda name, *rest: None if name == "recbole" else find(name, *rest)
sys.argv = {argv!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_help_is_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in COMMANDS} == set(COMMANDS)


def test_help_imports_nothing_large(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom recbole_mmm4rec.commands.__main__ import main\nmain([])\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'recbole') if name in sys.modules])"
    )
    assert python(code, tmp_path).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_under_its_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([name, "--help"])
    except SystemExit as ended:  # argparse's way
        code = int(ended.code or 0)
    assert code == 0
    assert capsys.readouterr().out.startswith(f"usage: mmm4rec {name}")
    assert callable(pkgutil.resolve_name(COMMANDS[name][0]))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["trian"], "error: there is no command 'trian'; did you mean 'train'? (see mmm4rec --help)\n"),
        (["--verbose"], "error: unrecognized arguments: --verbose (see mmm4rec --help)\n"),
        (["compare"], "error: the following arguments are required: --config (see mmm4rec compare --help)\n"),
        (["prep"], "error: the following arguments are required: SUBCOMMAND (see mmm4rec prep --help)\n"),
    ],
)
def test_mistakes_are_told_in_one_line(line: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 2
    assert capsys.readouterr().err == said


def test_a_command_runs_as_its_module_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--model=MMM4Rek", "--dataset=shop"]) == 2
    assert capsys.readouterr().err == "error: --model=MMM4Rek: there is no such model; did you mean 'MMM4Rec'?\n"


def test_hints_name_commands_as_they_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("i.csv").write_text("user_id,item_id,timestamp\nu,a,1\nu,b,2\n")
    Path("p.csv").write_text("item_id,text\na,one\nb,two\n")
    words = ["table", "--interactions", "i.csv", "--items", "p.csv", "--name", "shop"]
    for run, prep in ((partial(main, ["prep", *words]), "mmm4rec prep"), (partial(prepare, words), BY_PYTHON)):
        assert run() == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"next: {prep} embed shop"
    words = ["embed", "no"]
    for run, prep in ((partial(main, ["prep", *words]), "mmm4rec prep"), (partial(prepare, words), BY_PYTHON)):
        assert run() == 2
        assert capsys.readouterr().err.endswith(f"or make it: {prep} --help\n")
    assert called("train") == "mmm4rec train"  # what was typed counts for its own run
    with typed("python run_recbole.py"), typed(""):
        assert (called("train"), called("serve")) == ("python run_recbole.py", "mmm4rec serve")


def test_no_hint_names_a_command_by_itself() -> None:
    for package in ("recbole_mmm4rec", "dataset_prep"):
        for file in (REPOSITORY / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            spoken = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, SPOKEN)}
            texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} - spoken
            stray = [text for text in texts if isinstance(text, str) and re.search(BY_ITSELF, text)]
            assert not stray, file


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("recbole_mmm4rec.commands", ["train", "--dataset=shop"]),
        ("recbole_mmm4rec.commands", ["prep", "recbole", "ml-100k"]),
        ("run_recbole", ["--dataset=shop"]),
        ("dataset_prep", ["recbole", "ml-100k"]),
        ("recbole_mmm4rec.tune", ["--dataset=shop", "--max-evals=1"]),
    ],
)
def test_without_recbole_one_line_says_what_to_type(module: str, line: list[str], tmp_path: Path) -> None:
    done = python(WITHOUT_RECBOLE.format(argv=[module, *line], module=module), tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: RecBole is not installed: {INSTALL_RECBOLE}\n")
    assert list(tmp_path.iterdir()) == []


def test_the_plug_in_itself_is_imported_without_recbole(tmp_path: Path) -> None:
    code = WITHOUT_RECBOLE.format(argv=["x"], module="this") + (
        "import recbole_mmm4rec\n"
        "try:\n    import recbole.quick_start\n"
        "except ModuleNotFoundError as error:\n    print(error.name, '|', error)\n"
    )
    done = python(code, tmp_path)
    assert done.stdout.splitlines()[-1] == f"recbole | RecBole is not installed: {INSTALL_RECBOLE}"


def test_the_pages_name_the_commands_that_there_are() -> None:
    for page in ("README.md", "docs/api.md"):
        assert f"mmm4rec {' | '.join(COMMANDS)}" in (REPOSITORY / page).read_text(encoding="utf-8"), page
