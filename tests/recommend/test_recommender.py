"""What a recommender gives for histories of anyone, and how it refuses what it cannot use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from model_shop import ITEMS
from shop import python

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.recommend.results import Recommendations

HISTORY = ["k00", "k06", "k07"]


@pytest.fixture(scope="module")
def recommender(model_folder: Path) -> Recommender:
    return Recommender.load(model_folder)


def ids(found: Recommendations) -> list[str]:
    return [entry.item for entry in found.items]


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but for the last digits, which follow from what is computed together."""
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_list_is_the_order_of_the_scores(recommender: Recommender) -> None:
    found = recommender.recommend(HISTORY, 36, exclude_seen=False)
    scores = recommender.scores(HISTORY)[0]
    assert ids(found) == [recommender.items.ids[place] for place in np.argsort(-scores, kind="stable")]
    assert [entry.score for entry in found.items] == pytest.approx(sorted(scores, reverse=True), rel=1e-5)
    assert found.items[0].text == recommender.items.text(found.items[0].item)
    assert not found.popular
    assert found.unknown == ()


def test_one_history_gives_one_list_and_many_give_many(recommender: Recommender) -> None:
    many = recommender.recommend([HISTORY, ["k01"], []], 3, batch_size=1)
    assert [len(found.items) for found in many] == [3, 3, 3]
    assert ids(many[0]) == ids(recommender.recommend(HISTORY, 3))
    assert [found.popular for found in many] == [False, False, True]
    assert recommender.recommend([], 3) == many[2]


def test_items_to_choose_from(recommender: Recommender) -> None:
    assert not set(HISTORY) & set(ids(recommender.recommend(HISTORY, 33)))
    few = recommender.recommend(HISTORY, 36)
    assert len(few.items) == 33
    assert few.notes[-1] == "only 33 items are left to choose from"
    only = recommender.recommend(HISTORY, 5, only=["k02", "k03", "nowhere"])
    assert set(ids(only)) == {"k02", "k03"}
    assert only.notes[0] == "only: the shop does not have 'nowhere'"
    first = ids(recommender.recommend(HISTORY, 1))
    assert first[0] not in ids(recommender.recommend(HISTORY, 30, exclude=first))
    kitchen = recommender.recommend(HISTORY, 36, where={"category": "kitchen"})
    assert set(ids(kitchen)) == set(ITEMS[6:12]) - set(HISTORY)
    both = recommender.recommend([], 36, where={"category": ["kitchen", "travel"], "price": 8.5})
    assert ids(both) == ["k07"]
    assert recommender.recommend(HISTORY, 3, only=[]).notes[-1] == "no item is left to choose from"


def test_unknown_ids_are_reported_and_left_out(recommender: Recommender) -> None:
    found = recommender.recommend(["x", *HISTORY, "y"], 5, timestamps=[1, 2, 3, 4, 9])
    assert found.unknown == ("x", "y")
    wanted = recommender.recommend(HISTORY, 5, timestamps=[2, 3, 4])
    assert ids(found) == ids(wanted)
    assert wanted.notes == ()
    popular = recommender.recommend(["x"], 4)
    assert popular.popular
    assert popular.notes == ("the shop has none of the history's items: these are the shop's popular items",)
    counts = recommender.items.popularity
    assert [entry.score for entry in popular.items] == sorted(counts.tolist(), reverse=True)[:4]


def test_the_newest_items_of_a_long_history_count(recommender: Recommender) -> None:
    long = ITEMS[:20]
    times = list(range(0, 2000, 100))
    assert recommender.max_len == 8
    same(recommender.scores(long, timestamps=times), recommender.scores(long[-8:], timestamps=times[-8:]))
    assert not set(long) & set(ids(recommender.recommend(long, 16)))  # all of it was seen


def test_time_matters_and_its_absence_is_said(model_folder: Path) -> None:
    recommender = Recommender.load(model_folder)
    recommender.network.layers[0].ssd.time_scale.fc2.bias.add_(2)  # a few epochs hardly move what reads the gaps
    silent = recommender.recommend(HISTORY, 5)
    assert silent.notes == ("no time stamps were given: all gaps between the items count as 0",)
    same(recommender.scores(HISTORY), recommender.scores(HISTORY, timestamps=[5, 5, 5]))
    far = recommender.scores(HISTORY, timestamps=[0, 10**6, 10**9])
    assert not np.allclose(far, recommender.scores(HISTORY), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chosen", ["text", "image"])
def test_one_modality_is_a_shop_without_the_other(recommender: Recommender, chosen: str) -> None:
    found = recommender.scores(HISTORY, modalities=chosen)
    assert not np.allclose(found, recommender.scores(HISTORY))
    items = recommender.network.items
    withheld = [name for name in ("text", "image") if name != chosen]
    with items.without(withheld):
        wanted = items.side().fused
    assert np.allclose(recommender.sides(chosen).side.fused[1:], wanted[1:], atol=1e-6)
    same(recommender.scores(HISTORY, modalities=["image", "text"]), recommender.scores(HISTORY))


def test_similar_items_are_alike(recommender: Recommender) -> None:
    found = recommender.similar("k08", 35)
    assert "k08" not in ids(found)
    assert [entry.score for entry in found.items] == sorted((entry.score for entry in found.items), reverse=True)
    assert -1 <= found.items[-1].score <= found.items[0].score <= 1
    assert recommender.likeness(9)[9].item() == pytest.approx(1, abs=1e-5)
    assert ids(recommender.similar("k08", 2, only=["k01", "k02"])) in (["k01", "k02"], ["k02", "k01"])


def test_what_was_saved_recommends_the_same(recommender: Recommender, tmp_path: Path) -> None:
    copy = Recommender.load(recommender.save(tmp_path / "copy"))
    same(copy.scores(HISTORY), recommender.scores(HISTORY))
    assert copy.items.table.equals(recommender.items.table)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"k": 0}, "k=0: must be 1 to 36"),
    ({"k": 37}, "k=37: must be 1 to 36"),
    ({"k": True}, "k=True: must be"),
    ({"histories": "k00 k01"}, "must be a list of item ids"),
    ({"histories": ["k00", 1.5]}, "'1.5' is no item id"),
    ({"timestamps": [1, 2]}, "timestamps: 2 for 3 items"),
    ({"timestamps": [1, 3, 2]}, "timestamps: 2 stands after 3"),
    ({"timestamps": [-1, 3, 4]}, "timestamps: -1 is negative"),
    ({"timestamps": [1, 2, 1_610_000_000_000]}, "no time in seconds (milliseconds?)"),
    ({"timestamps": [1, 2, "soon"]}, "'soon' is no whole number of seconds"),
    ({"histories": [["k00"], ["k01"]], "timestamps": [[1]]}, "timestamps: 1 lists for 2 histories"),
    ({"histories": [["k00"], ["k01"]], "timestamps": [[1], [1, 2]]}, "timestamps[1]: 2 for 1 items"),
    ({"where": {"categry": "kitchen"}}, "no column 'categry'; did you mean 'category'?"),
    ({"where": {"category": "kitchn"}}, "no item has category=kitchn; did you mean 'kitchen'?"),
    ({"where": {"price": "cheap"}}, "price=['cheap']: the column holds values of type double"),
    ({"where": {"category": []}}, "category=[] names no value"),
    ({"where": {"price": 10**30}}, "the column holds values of type double"),
    ({"only": "k01"}, "only='k01': must be a list"),
    ({"modalities": "sound"}, "'sound': this model knows text and image"),
    ({"modalities": []}, "none is named"),
    ({"modalities": 3}, "modalities=3: must be a name or names"),
    ({"where": 3}, "where=3: must be a column and its value"),
    ({"batch_size": 0}, "batch_size=0: must be a whole number, at least 1"),
    ({"batch_size": "all"}, "batch_size='all': must be"),
    ({"timestamps": 5}, "timestamps: '5' is no list of whole seconds"),
    ({"histories": [["k00"], ["k01"]], "timestamps": 5}, "timestamps='5': must be a list of lists of whole seconds"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_mistakes_are_told_in_one_line(recommender: Recommender, changes: dict[str, Any], message: str) -> None:
    given = {"histories": HISTORY, "k": 3, **changes}
    with pytest.raises(UserError) as told:
        recommender.recommend(given.pop("histories"), given.pop("k"), **given)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_an_unknown_item_is_told_with_the_nearest(recommender: Recommender) -> None:
    with pytest.raises(UserError, match="item 'k0l': the shop does not have it"):
        recommender.similar("k0l")
    with pytest.raises(UserError, match="the shop has none of its items"):
        recommender.scores(["x"])


def test_loading_needs_no_recbole(model_folder: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from recbole_mmm4rec import Recommender
Recommender.load({str(model_folder)!r}).recommend(["k00"])
print([name for name in ("recbole", "sklearn") if name in sys.modules])
"""
    done = python("-c", program, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_list_of_another_kind_is_a_list(model_folder: Path) -> None:
    recommender = Recommender.load(model_folder)
    left_out = ["k03", "k04"]
    for exclude in (left_out, tuple(left_out), np.array(left_out), pd.Series(left_out), iter(left_out)):
        found = recommender.recommend(["k00", "k01"], 5, exclude=exclude)  # type: ignore[arg-type]
        assert not {*left_out} & {one.item for one in found.items}
    assert recommender.recommend(["k00"], 5, exclude=np.array([])) == recommender.recommend(["k00"], 5)
    first = recommender.content.interactions.slice(0, 3)  # of one user, whose own pairs do not count for him
    name = str(first["user_id"][0].as_py())
    history = [recommender.items.ids[number - 1] for number in first["item"].to_pylist()]
    wanted = recommender.scores([history], users=[name])
    assert not np.array_equal(wanted, recommender.scores([history]))
    for user in (name, [name], (name,), np.array([name])):
        assert np.array_equal(recommender.scores(history, users=user), wanted)  # type: ignore[arg-type]
