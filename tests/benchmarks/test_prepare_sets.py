"""The script that prepares the sets of the benchmarks: what it asks for, and that it stops where something fails."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from PIL import Image
from shop import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks" / "prepare_sets.sh"
PYTHON = """#!/usr/bin/env bash
echo "$*" >> commands.txt
if [ "$3" = FAILS ]; then exit 3; fi
if [ "$3" != embed ]; then exec REAL "$@"; fi
"""
"""Everything but the encoders, which take long; FAILS is a command that goes wrong."""


def prepared(folder: Path, *names: str, fails: str = "nothing", **environment: str) -> subprocess.CompletedProcess[str]:
    python = folder / "python"
    python.write_text(PYTHON.replace("FAILS", fails).replace("REAL", sys.executable))
    python.chmod(0o755)
    return subprocess.run(
        ["bash", str(SCRIPT), str(python), str(folder / "data"), *names],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def commands(folder: Path) -> list[str]:
    lines = (folder / "commands.txt").read_text().splitlines()
    return [line.removeprefix("-m dataset_prep ") for line in lines if line.startswith("-m dataset_prep")]


def test_ml_100k_with_posters_has_the_order_of_the_package(tmp_path: Path) -> None:
    films = tmp_path / "data" / "ml-100k"
    (films / "images").mkdir(parents=True)
    with gzip.open(films / "items.tsv.gz", "wt") as file:
        file.write("item_id\ttext\n" + "".join(f"{item}\tfilm {item}\n" for item in range(1, 1683)))
    Image.new("RGB", (8, 8), "red").save(films / "images" / "50.jpg")
    done = prepared(tmp_path, "ml-100k-posters", "ml-100k", TEXT_ENCODER="other/texts")
    assert done.returncode == 0, done.stderr
    assert commands(tmp_path)[-3:] == [
        "embed ml-100k-posters --text-encoder other/texts --image-encoder efficientnet-lite0",
        "recbole ml-100k",
        "embed ml-100k --text-encoder other/texts",
    ]
    sets = tmp_path / "dataset"
    ours, package = (pd.read_csv(sets / name / f"{name}.inter", sep="\t") for name in ("ml-100k-posters", "ml-100k"))
    order = ["user_id:token", "timestamp:float"]
    wanted = package.astype({"user_id:token": str}).sort_values(order, kind="stable")
    assert ours["item_id:token"].tolist() == wanted["item_id:token"].tolist()
    assert sorted(file.name for file in sets.iterdir()) == ["ml-100k", "ml-100k-posters"]


def test_it_stops_at_the_first_mistake(tmp_path: Path) -> None:
    done = prepared(tmp_path, "ml-100k", "demo", fails="recbole")
    assert done.returncode == 3
    assert commands(tmp_path) == ["recbole ml-100k"]


def test_a_missing_file_is_named_before_anything_is_made(tmp_path: Path) -> None:
    done = prepared(tmp_path, "ml-100k", "scientific")
    assert done.returncode == 2
    assert "scientific/sequences.tsv.gz; docs/data.md says how to get it" in done.stderr
    assert not (tmp_path / "commands.txt").exists()
