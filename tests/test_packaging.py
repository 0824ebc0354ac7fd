"""What is built from the repository is complete, and what it promises is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from shop import REPOSITORY

import recbole_mmm4rec

SOURCES = ("recbole_mmm4rec", "dataset_prep", "properties")
TOP = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "run_recbole.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from the sdist, as pip builds one."""
    folder = tmp_path_factory.mktemp("built")
    copy, out = folder / "copy", folder / "out"
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*SOURCES, "tests/golden"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=left_out)
    for name in TOP:
        shutil.copy(REPOSITORY / name, copy)
    out.mkdir()
    _build(copy, f"build_sdist({str(out)!r})")
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (unpacked,) = (folder / "sdist").iterdir()
    _build(unpacked, f"build_wheel({str(out)!r})")
    return next(out.glob("*.whl"))


def _build(folder: Path, call: str) -> None:
    code = f"from setuptools import build_meta; build_meta.{call}"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_missing_from_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    programs = {
        str(file.relative_to(REPOSITORY))
        for name in SOURCES[:2]
        for file in (REPOSITORY / name).rglob("*")  # pages and pictures beside the modules as well
        if file.is_file() and "__pycache__" not in file.parts
    }
    settings = {f"recbole_mmm4rec/{file.relative_to(REPOSITORY)}" for file in REPOSITORY.glob("properties/**/*.yaml")}
    golden = {f"recbole_mmm4rec/golden/{file.name}" for file in (REPOSITORY / "tests/golden").iterdir()}
    page = {str(file.relative_to(REPOSITORY)) for file in (REPOSITORY / "recbole_mmm4rec/serve/page").iterdir()}
    wanted = {*programs, *settings, *golden, *page, "recbole_mmm4rec/py.typed", "run_recbole.py"}
    assert len(settings) > 10
    assert len(page) == 4
    assert len(golden) == 4
    assert wanted <= names, sorted(wanted - names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "properties/"))]


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert f"Version: {recbole_mmm4rec.__version__}\n" in metadata
    assert "License-Expression: MIT\n" in metadata
    # RecBole's own demands cannot be met from Python 3.12 on; what it truly needs is named there instead
    assert re.search(r'^Requires-Dist: recbole.*; python_version < "3\.12"$', metadata, re.MULTILINE)
    assert re.search(r'^Requires-Dist: thop.*; python_version >= "3\.12"$', metadata, re.MULTILINE)
    (scripts,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/entry_points.txt"))
    assert "mmm4rec = recbole_mmm4rec.commands.__main__:main" in scripts


def test_the_wheel_runs_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """A shop is made and a model trained, with the wheel's own modules and settings."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = "import dataset_prep as p, recbole_mmm4rec.settings.defaults as d; print(d.properties_dir(), p.__file__)"
    place = _run(["-c", code], empty, environment).split()
    assert place == [str(site / "recbole_mmm4rec/properties"), str(site / "dataset_prep/__init__.py")]
    command = ["-m", "recbole_mmm4rec.commands"]
    _run([*command, "prep", "demo", "--name", "demo", "--users", "300", "--items", "120"], empty, environment)
    assert (empty / "dataset/demo/demo.inter").is_file()
    settings = ["--epochs=1", "--show_progress=False", "--config_files=properties/model/MMM4Rec-small.yaml"]
    out = _run([*command, "train", "--model=GRU4Rec", "--dataset=demo", *settings], empty, environment)
    assert "GRU4Rec on demo" in out


def _run(arguments: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_names_are_there_and_on_their_page() -> None:
    page = (REPOSITORY / "docs/api.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([\w.]*)`? *\|", page, re.MULTILINE))
    assert set(rows) == set(recbole_mmm4rec.__all__)
    for name, home in rows.items():
        value = getattr(recbole_mmm4rec, name)
        if home:
            module = __import__(f"recbole_mmm4rec.{home}", fromlist=[name])
            assert value is getattr(module, name), name


def test_python_versions_are_named_alike() -> None:
    """The oldest Python in the metadata is the one that ruff checks for, and the first that is listed."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    listed = re.findall(r"Python :: 3\.(\d+)", text)
    assert listed == sorted(listed)
    assert re.search(r'requires-python = ">=3\.(\d+)"', text)[1] == listed[0]  # type: ignore[index]
    assert re.search(r'target-version = "py3(\d+)"', text)[1] == listed[0]  # type: ignore[index]
