"""Every command and Python block of the pages, at small size: ``make docs-test`` (minutes, not in ``make test``)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from page_blocks import PAGES, RUN, blocks
from shop import REPOSITORY

HELPERS = REPOSITORY / "tests" / "helpers"
SMALL = f"""import sys
sys.path.insert(0, {str(HELPERS)!r})
if __name__ == "__main__":
    from page_runner import main_of_small
    sys.exit(main_of_small())
"""
"""The program ``mmm4rec`` of a page."""


def environment(folder: Path) -> dict[str, str]:
    """Programs of a page: ``mmm4rec`` at small size and this Python; its modules are the repository's."""
    programs = folder / "programs"
    programs.mkdir(parents=True)
    texts = {"mmm4rec": f"#!{sys.executable}\n{SMALL}", "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n'}
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    paths = {"PATH": str(programs), "PYTHONPATH": str(REPOSITORY)}
    return {
        **os.environ,
        **{name: os.pathsep.join(filter(None, (value, os.environ.get(name)))) for name, value in paths.items()},
    }


@pytest.fixture(scope="session")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MovieLens 100K with its text embeddings, made once: what a page's first commands do again finds them finished."""
    folder = tmp_path_factory.mktemp("movielens")
    for line in ("mmm4rec prep recbole ml-100k", "mmm4rec prep embed ml-100k"):
        subprocess.run(line.split(), cwd=folder, env=environment(folder / line.split()[2]), check=True)
    return folder / "dataset" / "ml-100k"


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(b.language in RUN and not b.reason for b in blocks(page))],
    ids=lambda page: page.stem,
)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    steps = []
    for block in blocks(page):
        if block.language in RUN and not block.reason:
            steps += [
                {
                    "language": "bash",
                    "code": f"source {REPOSITORY / 'tests/docs/before.sh'}\n{code}",
                    "place": f"{block.place} (before)",
                    "until": "",
                }
                for code in block.before
            ]
            steps.append({"language": block.language, "code": block.to_run, "place": block.place, "until": block.until})
    if any("ml-100k" in step["code"] for step in steps):
        shutil.copytree(request.getfixturevalue("movielens"), tmp_path / "dataset" / "ml-100k")
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    done = subprocess.run(
        [sys.executable, str(HELPERS / "page_runner.py"), "steps.json"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
