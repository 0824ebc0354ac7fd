"""A service, and its model in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, served

from recbole_mmm4rec.recommend.recommender import Recommender


@pytest.fixture(scope="module")
def shop(model_folder: Path) -> Iterator[Served]:
    with served(model_folder) as running:
        yield running


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Recommender:
    return Recommender.load(model_folder)
