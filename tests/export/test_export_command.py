"""``mmm4rec export``: a folder that recommends without PyTorch, whole or not at all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.export import folder as exports
from recbole_mmm4rec.export import index as indexes
from recbole_mmm4rec.export.command import main
from recbole_mmm4rec.recommend.recommender import Recommender

FILES = ["README.md", "items.json", "manifest.json", "report.md"]
TOWERS = ["item_tower.onnx", "user_tower.onnx"]


@pytest.fixture(scope="module")
def exported(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An export with all that there is, and what the command printed."""
    out = tmp_path_factory.mktemp("export") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexes, "_SECONDS", 0.0)
        done = exports.export(model_folder, out)
    return done.folder, str(done)


def test_everything_is_there_and_listed(exported: tuple[Path, str]) -> None:
    out, _ = exported
    names = sorted([*FILES, *TOWERS, *(f"index_{kind}.faiss" for kind in indexes.KINDS)])
    assert sorted(file.name for file in out.iterdir()) == names
    assert [file.name for file in out.parent.iterdir()] == ["out"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert sorted(manifest["files"]) == [name for name in names if name != "manifest.json"]
    assert all(hash_file(out / name) == listed["sha256"] for name, listed in manifest["files"].items())


def test_the_report_says_what_was_seen(exported: tuple[Path, str]) -> None:
    out, _ = exported
    text = (out / "report.md").read_text()
    assert re.search(r"\| user_tower\.onnx \| \d\.\de-\d\d \|", text)
    assert re.search(r"\| exact \| all items \| 1\.000 \|", text)
    assert "neighbours" in text  # which are not part of an index


def test_the_readme_s_lines_recommend_without_torch(exported: tuple[Path, str], model_folder: Path) -> None:
    out, _ = exported
    block = readme_block(out)
    assert len(block.splitlines()) <= 15
    refuse = "import sys\nfor name in ('torch', 'recbole', 'recbole_mmm4rec'):\n    sys.modules[name] = None\n"
    as_json = block.replace("print(found[:10])", "print(json.dumps([history, found[:10]]))")
    program = [sys.executable, "-c", refuse + as_json]
    told = subprocess.run(program, cwd=out, capture_output=True, text=True, check=True)
    assert told.stderr == ""
    history, found = json.loads(told.stdout)
    items, times = ([entry[place] for entry in history] for place in (0, 1))
    wanted = Recommender.load(model_folder).recommend(items, 10, timestamps=times, neighbours=False)
    assert [name for name, _ in found] == [entry.item for entry in wanted.items]
    assert [score for _, score in found] == pytest.approx([entry.score for entry in wanted.items], abs=1e-4)


def readme_block(out: Path) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), flags=re.S)
    return block


TAKEN = [f"k{number:02d}" for number in range(14)]  # L is 8


@pytest.mark.parametrize("items", [[], ["nothing"], TAKEN, [*TAKEN, "nothing"], ["k01", "k01", "k02"]])
def test_the_readme_s_lines_recommend_for_any_history(
    exported: tuple[Path, str], model_folder: Path, items: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = exported
    monkeypatch.chdir(out)
    history = [(item, 1_610_000_000 + 3_600 * place) for place, item in enumerate(items)]
    names: dict[str, Any] = {}
    exec(re.sub(r"(?m)^history = .*$", f"history = {history}", readme_block(out)), names)
    model = Recommender.load(model_folder)
    wanted = model.recommend(items, 10, timestamps=[time for _, time in history], neighbours=False)
    assert [name for name, _ in names["found"][:10]] == ([] if wanted.popular else [one.item for one in wanted.items])


def test_killed_it_goes_on_and_a_replacement_is_whole(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, made, build = tmp_path / "out", [], indexes.build
    monkeypatch.setattr(indexes, "_SECONDS", 0.0)

    def stopped(kind: str, *given: object) -> object:
        made.append(kind)
        if made == ["exact", "ivf"]:
            raise KeyboardInterrupt
        return build(kind, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(indexes, "build", stopped)
    command = [str(model_folder), "--faiss", "--output", str(out)]
    assert main(command) == 130
    assert not out.exists()
    assert main(command) == 0
    assert made == ["exact", "ivf", "ivf", "hnsw"]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert "index_exact.faiss: was there" in capsys.readouterr().err
    assert main(command) == 2
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert main([*command[:1], "--faiss", "hnsw", *command[2:], "--force"]) == 0
    assert sorted(file.name for file in out.iterdir()) == sorted([*FILES, "index_hnsw.faiss"])
    assert "There are no towers here" in (out / "README.md").read_text()


def test_a_link_stays_a_link(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "_SECONDS", 0.0)
    (tmp_path / "link").symlink_to("out")
    command = [str(model_folder), "--faiss", "exact", "--output", str(tmp_path / "link")]
    assert main(command) == 0
    assert main(command) == 2
    assert main([*command, "--force"]) == main([*command, "--force"]) == 0
    assert (tmp_path / "link").readlink() == Path("out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "out"]


def test_what_is_no_export_is_never_replaced(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main([str(model_folder), "--faiss", "--output", str(tmp_path), "--force"]) == 2
    assert "is no export, so --force does not replace it" in capsys.readouterr().err
    assert main([str(model_folder), "--faiss", "--output", str(model_folder), "--force"]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_towers_that_differ_leave_nothing(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differs(*given: object) -> float:
        raise exports.UserError("user_tower.onnx: ONNX Runtime differs from PyTorch by 1, more than 0.0001")

    monkeypatch.setattr(exports, "write_user_tower", differs)
    assert main([str(model_folder), "--onnx", "--output", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    told = capsys.readouterr()
    assert "error: user_tower.onnx: ONNX Runtime differs" in told.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faiss", "exact,pq"], "--faiss: there is no index 'pq'; choose of exact, ivf, hnsw"),
        (["--faiss", ""], "--faiss: no index is named; choose of exact,ivf,hnsw"),
        (["--faiss", "--output", "{file}/out"], "--output {file}/out: no folder to write to"),
    ],
)
def test_mistakes_are_told(
    model_folder: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    names = {"file": str(tmp_path / "file")}
    assert main([str(model_folder), *(part.format(**names) for part in arguments)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert message.format(**names) in told.err
    assert told.err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_was_cut_off_is_told(folder_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder_copy / "item_side.safetensors"
    place.write_bytes(place.read_bytes()[:-8])
    assert main([str(folder_copy)]) == 2
    told = capsys.readouterr()
    assert "item_side.safetensors: has" in told.err
    assert told.err.count("\n") == 1
    assert not (folder_copy / "export").exists()


@pytest.mark.parametrize(("option", "package"), [("--onnx", "onnxscript"), ("--faiss", "faiss")])
def test_a_missing_package_is_named(
    model_folder: Path,
    option: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from recbole_mmm4rec.base import installed

    find = installed.find_spec
    monkeypatch.setattr(installed, "find_spec", lambda name: None if name == package else find(name))
    assert main([str(model_folder), option]) == 2
    assert f"{package} is not installed: pip install 'recbole-mmm4rec[export]'" in capsys.readouterr().err
