"""Item tables on disk give the lists and user vectors of those in memory, and take no memory for long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_mmm4rec.model_folder import read
from recbole_mmm4rec.model_folder.tensors import read_tensors, write_tensors
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.scoring import mapped, recommend
from recbole_mmm4rec.scoring.mapped import gathered, is_mapped, release
from recbole_mmm4rec.scoring.recommend import best_items


def of_files() -> int:
    """Bytes of this process's memory that are pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) * 1024


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A table of 32 MiB."""
    table = torch.arange(2**23, dtype=torch.float32).view(2**15, 2**8)
    write_tensors(tmp_path / "table.safetensors", {"table": table})
    return tmp_path / "table.safetensors"


def test_memory_of_a_mapped_table_is_given_back(file: Path) -> None:
    table = read_tensors(file)["table"]
    assert is_mapped(table, file)
    assert not is_mapped(torch.ones(3), file)
    assert not is_mapped(table, file.with_name("other"))
    before = of_files()
    total = table.sum(dtype=torch.float64)
    assert of_files() - before > 25 * 2**20
    release(table)
    assert of_files() - before < 16 * 2**20
    assert table.sum(dtype=torch.float64) == total == sum(range(2**23))


def test_rows_are_gathered_as_by_an_index(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "ROWS", 7)
    table, rows = read_tensors(file)["table"], torch.randint(2**15, (50,))
    assert torch.equal(gathered(table, rows), table[rows])


def test_lists_of_a_mapped_table_are_those_of_one_in_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, users = read_tensors(file)["table"], torch.randn(3, 2**8)
    monkeypatch.setattr(recommend, "SCORE_BYTES", 2**20)
    before = of_files()
    scores, items = best_items(users, table, 5, mapped=True)
    assert of_files() - before < 16 * 2**20
    wanted = best_items(users, table.clone(), 5)
    assert torch.equal(items, wanted[1])
    torch.testing.assert_close(scores, wanted[0])


def test_a_recommender_of_a_mapped_folder_is_the_same(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Recommender.load(model_folder)
    monkeypatch.setattr(read, "MAPPED_ABOVE", 0)
    monkeypatch.setattr(recommend, "INPUT_BYTES", 0)
    large = Recommender.load(model_folder)
    assert large.sides().mapped
    assert not small.sides().mapped
    assert not large.sides("text").mapped
    histories = [["k01", "k02"], ["k03"], ["k01"]]
    np.testing.assert_allclose(large.scores(histories), small.scores(histories), rtol=1e-5, atol=1e-5)
    assert [[entry.item for entry in found.items] for found in large.recommend(histories)] == [
        [entry.item for entry in found.items] for found in small.recommend(histories)
    ]
