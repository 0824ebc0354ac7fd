"""Splits by points in time, items and users held out: worked out by hand, and the same for every kind of model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pattern_shop import NAME, pattern_settings, write_pattern_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.protocols import LEAVE_ONE_OUT, NOWHERE, SPLITS, assign, drawn, split_of
from recbole_mmm4rec.run.build import build, build_data, make_config

pytestmark = pytest.mark.usefixtures("own_folder")
# user, item, time; as in a file, out of order
ROWS = [(2, 1, 30), (1, 1, 10), (1, 2, 20), (1, 3, 20), (1, 4, 50), (2, 2, 40), (3, 3, 45), (3, 4, 60), (2, 4, 60)]


def small(rows: Any = ROWS) -> Any:
    """What :func:`assign` reads of a data set, ids as tokens."""
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    tokens = {"user": np.array(["[PAD]", "a", "b", "c"]), "item": np.array(["[PAD]", "w", "x", "y", "z"])}
    return SimpleNamespace(
        inter_feat=frame, uid_field="user", iid_field="item", time_field="time", field2id_token=tokens, dataset_name="s"
    )


def parts(name: str, shares: Any, rows: Any = ROWS) -> list[tuple[int, int, int]]:
    """User, item and part of what is kept, by (user, time)."""
    found = assign(small(rows), name, shares)
    return [(*rows[row][:2], int(part)) for row, part in zip(found.rows, found.targets, strict=True)]


def test_points_in_time_are_the_same_for_all() -> None:
    # times 10 20 20 30 | 40 45 | 50 60 60: a third of nine each, ends at the 3rd and the 6th interaction
    assert parts("global_time", [1, 1, 1]) == [
        *[(1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 4, 2)],
        *[(2, 1, NOWHERE), (2, 2, 1), (2, 4, 2)],  # the first one, at 30, has no history to be asked after
        *[(3, 3, NOWHERE), (3, 4, 2)],
    ]


def test_equal_times_stay_together_and_in_the_order_of_the_file() -> None:
    found = parts("global_time", [2, 4, 3])  # the 2nd interaction ends training at 20, the time of the 3rd, too
    assert [row for row in found if row[0] == 1] == [(1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 4, 2)]


def test_counts_of_users_and_targets() -> None:
    counts = assign(small(), "global_time", [1, 1, 1]).counts()
    assert (counts["valid_users"], counts["valid_targets"], counts["test_users"], counts["test_targets"]) == (
        1,
        1,
        3,
        3,
    )
    assert counts["unknown_targets"] == 2  # of b and c nothing was there before 20


def test_the_last_item_left_out() -> None:
    assert parts(LEAVE_ONE_OUT, ()) == [
        *[(1, 1, 0), (1, 2, 0), (1, 3, 1), (1, 4, 2)],
        *[(2, 1, 0), (2, 2, 0), (2, 4, 2)],  # of three RecBole's sequential models train on the second
        *[(3, 3, 0), (3, 4, 0)],
    ]


def test_an_item_held_out_is_in_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_mmm4rec.data.protocols.drawn", lambda ids, shares: [["w"], ["x", "y"], ["z"]])
    rows = [*ROWS, (2, 3, 70)]  # the last one of b is y: validation
    assert parts("cold_items", [1, 1, 1], rows) == [(1, 1, 0), (1, 4, 2), (2, 1, 0), (2, 3, 1), (3, 4, NOWHERE)]


def test_a_user_held_out_is_asked_for_the_last_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_mmm4rec.data.protocols.drawn", lambda ids, shares: [["a"], ["b"], ["c"]])
    assert parts("cold_users", [1, 1, 1]) == [
        *[(1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 4, 0)],
        *[(2, 1, NOWHERE), (2, 2, NOWHERE), (2, 4, 1)],
        *[(3, 3, NOWHERE), (3, 4, 2)],
    ]


def test_the_draw_depends_on_names_alone() -> None:
    names = [f"i{number}" for number in range(100)]
    found = drawn(names, [8, 1, 1])
    assert [len(part) for part in found] == [80, 10, 10]
    assert sorted(name for part in found for name in part) == sorted(names)
    assert drawn(names[::-1], [8, 1, 1]) == found
    assert drawn(names, [8, 1, 1], seed=1) != found


def test_a_part_without_anything_is_refused() -> None:
    with pytest.raises(UserError, match=r"split global_time: \[100, 1, 1\] leaves 9 interactions to train on, 0 to"):
        assign(small(), "global_time", [100, 1, 1])


def test_our_splits_alone_are_ours() -> None:
    def config(split: Any, files: Any = None) -> Any:
        return {"eval_args": {"split": split}, "benchmark_filename": files}

    assert split_of(config({"global_time": [8, 1, 1]})) == ("global_time", [8, 1, 1])
    assert split_of(config({"LS": "valid_and_test"})) is None
    assert split_of(config({"TS": [8, 1, 1]})) is None
    assert split_of(config({"global_time": [8, 1, 1]}, ["a", "b", "c"])) is None


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pattern shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_pattern_shop(folder)
    return folder


@pytest.mark.parametrize("split", SPLITS)
def test_every_kind_of_model_is_asked_for_the_same(shop: Path, split: str) -> None:
    asked, trained = {}, {}
    for model in ("MMM4Rec", "SASRec", "Pop"):
        settings = {
            **(pattern_settings(shop) if model == "MMM4Rec" else {"data_path": str(shop), "MAX_ITEM_LIST_LENGTH": 6}),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {"split": {split: [6, 2, 2]}, "order": "TO", "mode": "full"},
            "train_neg_sample_args": None,
            "topk": [10],
            "metrics": ["Hit"],
            "valid_metric": "Hit@10",
        }
        dataset, (train, valid, test) = build_data(make_config(model, NAME, config_dict=settings))
        asked[model] = []
        for loader in (valid, test):
            for batch, _, row, target in loader:
                assert row.tolist() == list(range(len(batch)))  # one target at a time
                users = dataset.id2token(dataset.uid_field, batch["user_id"])
                asked[model].append(sorted(zip(users, dataset.id2token(dataset.iid_field, target), strict=True)))
        pairs = train.dataset.inter_feat
        trained[model] = {
            *zip(
                dataset.id2token("user_id", pairs["user_id"]),
                dataset.id2token("item_id", pairs["item_id"]),
                strict=True,
            )
        }
    assert asked["MMM4Rec"] == asked["SASRec"] == asked["Pop"]
    assert all(len(part) > 3 for part in asked["Pop"])
    assert trained["MMM4Rec"] == trained["SASRec"] < trained["Pop"]  # each user's first interaction is no sample
    if split == "cold_items":
        assert not {item for _, item in trained["Pop"]} & {item for part in asked["Pop"] for _, item in part}
    if split == "cold_users":
        assert not {user for user, _ in trained["Pop"]} & {user for part in asked["Pop"] for user, _ in part}


def of_general_model(shop: Path, split: str, **changes: Any) -> Any:
    """A run of BPR under a split."""
    asked = {"split": {split: [6, 2, 2]}, "order": "TO", "mode": "full", **changes.pop("eval_args", {})}
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    given = {"data_path": str(shop), "load_col": columns, "eval_args": asked, "epochs": 1, "show_progress": False}
    return build(make_config("BPR", NAME, config_dict={**given, **changes}), count_flops=False)


@pytest.mark.parametrize("split", SPLITS)
def test_a_general_model_leaves_out_what_a_user_had_before(shop: Path, split: str) -> None:
    run = of_general_model(shop, split)
    table = pd.read_csv(shop / NAME / f"{NAME}.inter", sep="\t").set_axis(["user", "item", "time"], axis=1)
    if split == "cold_items":  # held-out items are nowhere but at the end
        known = set(run.dataset.field2id_token["item_id"][: run.dataset.trained_rows])
        table = table[table["item"].isin(known) | ~table["user"].duplicated(keep="last")]
    run.trainer.tot_item_num = run.dataset.item_num
    found = 0
    for loader in (run.valid, run.test):
        for batch in loader:
            _, scores, _, targets = run.trainer._full_sort_batch_eval(batch)
            users, items = (run.dataset.field2id_token[field] for field in ("user_id", "item_id"))
            for user, row, target in zip(users[batch[0]["user_id"]], scores, targets, strict=True):
                own = table[table["user"] == user]
                (time,) = own["time"][own["item"] == items[target]]
                left_out = set(items[np.flatnonzero(torch.isinf(row))]) - {"[PAD]"}
                assert left_out == set(own["item"][own["time"] < time])
                found += len(left_out)
    assert found > 20


def test_a_general_model_may_rank_the_history(shop: Path) -> None:
    run = of_general_model(shop, "global_time", repeatable=True)
    assert all(history is None for loader in (run.valid, run.test) for _, history, *_ in loader)


def test_what_is_bought_again_can_be_right(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    file = tmp_path / NAME / f"{NAME}.inter"
    user, item, time = file.read_text().splitlines()[1].split("\t")
    file.write_text(f"{file.read_text()}{user}\t{item}\t{int(time) + 10**8}\n")  # the last of all
    run = of_general_model(tmp_path, "global_time")
    run.trainer.tot_item_num = run.dataset.item_num
    number = run.dataset.token2id("user_id", user)
    for batch in run.test:
        _, scores, rows, targets = run.trainer._full_sort_batch_eval(batch)
        assert torch.isfinite(scores[rows, targets]).all()
        assert number in batch[0]["user_id"]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("mode", ["uni5", {"valid": "full", "test": "pop5"}])
def test_sampled_candidates_are_refused(shop: Path, split: str, mode: Any) -> None:
    with pytest.raises(UserError, match=f"eval_args: mode (uni5|pop5) ranks all .* split {split} ranks one"):
        of_general_model(shop, split, eval_args={"mode": mode})
