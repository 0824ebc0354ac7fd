"""What carried a score: parts that sum to it, left-out items and gaps that are scored again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.commands.__main__ import main
from recbole_mmm4rec.recommend.explanation import Explanation, lasting
from recbole_mmm4rec.recommend.recommender import Recommender

HISTORY = ["k00", "k06", "k07", "k13"]
TIMES = [1_610_000_000, 1_610_003_000, 1_610_090_000, 1_610_900_000]


@pytest.fixture(scope="module")
def recommender(model_folder: Path) -> Recommender:
    made = Recommender.load(model_folder)
    made.network.layers[0].ssd.time_scale.fc2.bias.add_(2)  # a few epochs hardly move what reads the gaps
    return made


def score(recommender: Recommender, history: list[str], times: list[int] | None, item: str, **given: Any) -> float:
    number = recommender.items.known(item)
    return float(recommender.scores(history, timestamps=times, **given)[0, number - 1])


def drops(found: Explanation) -> dict[int, float]:
    return {one.position: one.drop for one in found.past}


@pytest.mark.parametrize("given", [{}, {"modalities": "text"}, {"modalities": "image"}, {"neighbours": False}])
@pytest.mark.parametrize("item", ["k14", "k05", "k30", "k00"])
def test_parts_sum_to_the_score(recommender: Recommender, item: str, given: dict[str, Any]) -> None:
    found = recommender.explain(HISTORY, item, timestamps=TIMES, **given)
    assert found.score == pytest.approx(score(recommender, HISTORY, TIMES, item, **given), abs=1e-5)
    assert sum(found.modalities.values()) + found.neighbours == pytest.approx(found.score, abs=1e-9)
    assert sum(one.neighbours for one in found.past) == pytest.approx(found.neighbours, abs=1e-9)
    every = recommender.scores(HISTORY, timestamps=TIMES, **given)[0]
    assert sum(found.averages.values()) == pytest.approx(every.mean(), abs=1e-5)


def test_a_part_is_what_the_other_modality_cannot_change(recommender: Recommender) -> None:
    found = recommender.explain(HISTORY, "k05", timestamps=TIMES)  # an item without a picture
    assert found.modalities["image"] == 0
    assert recommender.explain(HISTORY, "k14", timestamps=TIMES).modalities["image"] != 0


def test_neighbours_have_exact_shares(recommender: Recommender) -> None:
    found = recommender.explain(HISTORY, "k14", timestamps=TIMES)
    alone = score(recommender, HISTORY, TIMES, "k14") - score(recommender, HISTORY, TIMES, "k14", neighbours=False)
    assert found.neighbours == pytest.approx(alone, abs=1e-5)
    assert found.neighbours > 0
    counts: Any = recommender.counts
    numbers = [recommender.items.known(item) for item in HISTORY]
    inside = [
        counts.decay ** (3 - place) * counts._counts[number, recommender.items.known("k14")]
        for place, number in enumerate(numbers)
    ]
    shares = {one.position: one.neighbours for one in found.past}
    for place, value in enumerate(inside):
        assert shares[place] == pytest.approx(found.neighbours * value / sum(inside), abs=1e-9)
    assert all(one.neighbours == 0 for one in recommender.explain(HISTORY, "k14", neighbours=False).past)


def test_a_drop_is_the_score_without_the_item(recommender: Recommender) -> None:
    found = recommender.explain(HISTORY, "k14", timestamps=TIMES)
    assert [one.drop for one in found.past] == sorted((one.drop for one in found.past), reverse=True)
    assert {one.position: one.item for one in found.past} == dict(enumerate(HISTORY))
    for place in range(4):
        left = [part[:place] + part[place + 1 :] for part in (HISTORY, TIMES)]
        without = score(recommender, left[0], left[1], "k14")  # type: ignore[arg-type]
        assert drops(found)[place] == pytest.approx(found.score - without, abs=1e-5)


def test_a_change_is_the_score_without_the_gap(recommender: Recommender) -> None:
    found = recommender.explain(HISTORY, "k14", timestamps=TIMES)
    assert [(gap.before, gap.after, gap.seconds) for gap in sorted(found.gaps, key=lambda gap: gap.position)] == [
        ("k00", "k06", 3_000),
        ("k06", "k07", 87_000),
        ("k07", "k13", 810_000),
    ]
    changes = [abs(gap.change) for gap in found.gaps]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 1e-4
    for gap in found.gaps:
        closed = [time - gap.seconds * (place >= gap.position) for place, time in enumerate(TIMES)]
        assert gap.change == pytest.approx(score(recommender, HISTORY, closed, "k14") - found.score, abs=1e-5)
    assert found.time == pytest.approx(score(recommender, HISTORY, None, "k14") - found.score, abs=1e-5)


def test_without_time_stamps_no_gap_is_explained(recommender: Recommender) -> None:
    found = recommender.explain(HISTORY, "k14")
    assert (found.gaps, found.time) == ((), None)
    assert found.notes == ("no time stamps were given: all gaps between the items count as 0",)


def test_the_rank_is_that_of_the_list(recommender: Recommender) -> None:
    found = recommender.recommend(HISTORY, 32, timestamps=TIMES)
    for place in (0, 7, 31):
        told = recommender.explain(HISTORY, found.items[place].item, timestamps=TIMES)
        assert (told.rank, told.among) == (place + 1, 32)
        assert told.score == pytest.approx(found.items[place].score, abs=1e-5)
    assert recommender.explain(HISTORY, "k00", timestamps=TIMES).among == 33  # itself, though it is in the history


def test_one_item_carries_all(recommender: Recommender) -> None:
    found = recommender.explain(["k13"], "k14", timestamps=[5])
    assert len(found.past) == 1
    assert found.past[0].drop == pytest.approx(found.score)
    assert "All of it comes from “ring for the office” (k13)" in found.text()


def test_unknown_ids_and_items_beyond_the_window_do_not_count(recommender: Recommender) -> None:
    found = recommender.explain(["x", *HISTORY], "k14", timestamps=[TIMES[0], *TIMES])
    assert found.unknown == ("x",)
    assert drops(found).keys() == {1, 2, 3, 4}
    assert found.gaps[0].position in {2, 3, 4}
    long = [f"k{number:02d}" for number in range(12)]
    told = recommender.explain(long, "k14", timestamps=list(range(0, 12_000, 1000)))
    assert drops(told).keys() == set(range(4, 12))
    assert told.notes == ("only the newest 8 of 12 items count",)
    assert told.among == 36 - 12


def test_an_item_taken_twice_counts_at_each_place(recommender: Recommender) -> None:
    found = recommender.explain(["k13", "k07", "k13"], "k14", timestamps=TIMES[:3])
    assert drops(found).keys() == {0, 1, 2}
    assert len({round(one.drop, 6) for one in found.past if one.item == "k13"}) == 2


def test_it_is_told_in_sentences_and_as_json(recommender: Recommender) -> None:
    found = recommender.explain(HISTORY, "k14", timestamps=TIMES)
    text = found.text()
    first = found.past[0]
    assert text.startswith(f"“square for the office” (k14) scores {found.score:.2f}, rank {found.rank} of 32.")
    assert f"The score falls most without “{first.text}” ({first.item}) ({first.drop:.2f})" in text
    assert f"it would be {found.score + (found.time or 0):.2f}" in text
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["summary"] == text
    assert again["past"][0] == {
        "item": first.item,
        "text": first.text,
        "position": first.position,
        "drop": first.drop,
        "neighbours": first.neighbours,
    }
    assert again["modalities"].keys() == {"text", "image"}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 seconds"), (1, "1 second"), (59, "59 seconds"), (90, "2 minutes"), (3600, "1 hour"), (259_200, "3 days")],
)
def test_times_are_told_in_their_largest_unit(seconds: int, words: str) -> None:
    assert lasting(seconds) == words


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"item": "k0l"}, "item 'k0l': the shop does not have it"),
        ({"history": []}, "history: it is empty, so that there is nothing to explain by"),
        ({"history": ["x", "y"]}, "history: the shop has none of its items, so that"),
        ({"history": "k00 k01"}, "'k00 k01' is no list of item ids"),
        ({"timestamps": [1, 2]}, "timestamps: 2 for 4 items"),
        ({"timestamps": [1, 3, 2, 4]}, "timestamps: 2 stands after 3"),
        ({"modalities": "sound"}, "'sound': this model knows text and image"),
    ],
)
def test_mistakes_are_told_in_one_line(recommender: Recommender, given: dict[str, Any], message: str) -> None:
    asked = {"history": HISTORY, "item": "k14", **given}
    with pytest.raises(UserError) as told:
        recommender.explain(asked.pop("history"), asked.pop("item"), **asked)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_the_command_prints_tables_and_json(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = " ".join(map(str, TIMES))
    given = ["explain", str(model_folder), "--history", " ".join([*HISTORY, "x"]), "--item", "k14"]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "scores" in shown
    assert "without  falls by  neighbours  text" in shown
    assert "not in the shop, left out: x" in shown
    given[3] = " ".join(HISTORY)
    assert main([*given, "--timestamps", times, "--json", "--no-neighbours"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["neighbours"] == 0
    assert np.isclose(sum(found["modalities"].values()), found["score"])
    assert len(found["gaps"]) == 3
    assert main([*given, "--timestamps", times]) == 0
    assert "10 days" not in capsys.readouterr().out.split("from")[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--item", "k14"], "--history is missing"),
        (["--history", "k00"], "--item is missing"),
        (["--history", " ", "--item", "k14"], "--history is empty"),
        (["--history", "k00", "--item", "k14", "--timestamps", "soon"], "'soon' is no whole number"),
        (["--history", "k00", "--item", "zz"], "item 'zz': the shop does not have it"),
    ],
)
def test_the_commands_mistakes(
    model_folder: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(model_folder), *given]) == 2
    assert message in capsys.readouterr().err
