"""What is wrong with one request, or one list, is answered to it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.model_folder.write import write_folder
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.serve import answers
from recbole_mmm4rec.serve.desk import Desk, Job
from recbole_mmm4rec.serve.process import Process
from recbole_mmm4rec.serve.schemas import RecommendAsked
from recbole_mmm4rec.serve.shop import Shop

HISTORY = ["k01", "k02", "k08"]
NO_NUMBER = b"a score of this answer is no number; was the training finite?"


def job(**asked: Any) -> Job:
    return "recommend", RecommendAsked(history=HISTORY, k=3, **asked)


@pytest.fixture
def spoilt(model_folder: Path, tmp_path: Path) -> Path:
    """A model folder in which one item's vector is none."""
    contents = Folder(model_folder).contents()
    contents.side.fused[5] = torch.nan
    return write_folder(tmp_path / "spoilt", contents)


def test_a_score_that_is_no_number_is_one_answers_mistake(spoilt: Path) -> None:
    desk = Desk(Shop(Recommender.load(spoilt)))
    found = desk.ask([job(only=["k20", "k21", "k22"]), job()])
    assert [status for status, _ in found] == [200, 422]
    assert found[1][1] == NO_NUMBER


@pytest.mark.usefixtures("forked")
def test_a_score_that_is_no_number_leaves_the_process(spoilt: Path) -> None:
    process = Process(folder=spoilt)
    try:
        assert process.ask([job()]) == [(422, NO_NUMBER)]
        assert process.alive
        assert process.ask([job(only=["k20", "k21", "k22"])])[0][0] == 200
    finally:
        process.close()


def test_one_mistake_of_many_requests_costs_few_computations(model_folder: Path) -> None:
    shop = Shop(Recommender.load(model_folder))
    asked = [RecommendAsked(history=HISTORY, timestamps=[1, 2, 3]) for _ in range(64)]
    asked[37].timestamps = [3, 2, 1]
    calls, recommend = [], shop.recommender.recommend

    def counting(*given: Any, **how: Any) -> Any:
        calls.append(given)
        return recommend(*given, **how)

    shop.recommender.recommend = counting  # type: ignore[method-assign]
    found = answers.recommend(shop, asked)
    assert [place for place, one in enumerate(found) if isinstance(one, UserError)] == [37]
    assert len(calls) <= 14
