"""``train_unit: user``: the same samples in batches of whole histories, the same loss, a model that learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pattern_shop import NAME, pattern_settings, prepared, write_pattern_shop
from recbole.data.interaction import Interaction
from torch import Tensor

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.prefixes import PrefixColumns, prefixes_of
from recbole_mmm4rec.data.user_batches import ORIGIN, shared_windows
from recbole_mmm4rec.run.quick_start import run_recbole

pytestmark = pytest.mark.usefixtures("own_folder")


def samples(batch: Interaction) -> list[tuple[int, ...]]:
    """Each row as (user, length, target, history)."""
    fields = [batch[name] for name in ("user_id", "item_length", "item_id", "item_id_list")]
    columns = [value.unsqueeze(1) if value.dim() == 1 else value for value in fields]
    return [tuple(row) for row in torch.cat(columns, 1).tolist()]


def test_an_epoch_holds_the_same_samples_in_whole_histories(tmp_path: Path) -> None:
    settings = {"train_batch_size": 24, "MAX_ITEM_LIST_LENGTH": 12}
    by_prefix = prepared(tmp_path, **settings)
    by_user = prepared(tmp_path, **settings, train_unit="user")
    batches = list(by_user.train)
    seen = [row for batch in batches for row in samples(batch)]
    assert sorted(seen) == sorted(row for batch in by_prefix.train for row in samples(batch))
    assert len(by_user.train) == len(batches) == pytest.approx(len(by_prefix.train), abs=2)
    assert by_user.train.sample_size == len(seen)
    origins = [set(batch[ORIGIN].tolist()) for batch in batches]
    assert sum(map(len, origins)) == len(set.union(*origins))  # no history in two batches
    for batch in batches:
        rows: dict[int, list[Tensor]] = {}
        for origin, history, length in zip(batch[ORIGIN], batch["item_id_list"], batch["item_length"], strict=True):
            rows.setdefault(int(origin), []).append(history[: int(length)])
        for prefixes in rows.values():
            longest = max(prefixes, key=len)
            assert all(torch.equal(longest[: len(prefix)], prefix) for prefix in prefixes)


@pytest.mark.parametrize("limit", [1, 2, 5, 8])
def test_windows_of_a_longer_history_serve_several_targets(limit: int) -> None:
    items = np.repeat([1, 2, 3], [30, 1, 4])
    target, length = map(torch.from_numpy, prefixes_of(items, limit))
    rows = {"user_id": torch.from_numpy(items), "item_id": torch.arange(100, 135)}
    windows = shared_windows(PrefixColumns(rows, "user_id", "item_length", "_list", limit, target, length), "user_id")
    seen = [tuple(row[:n]) for row, n in zip(windows["item_id_list"].tolist(), windows.length, strict=True)]
    stride, expected = max(1, limit // 2), []
    for at in target.tolist():
        first = 0 if at < 30 else 31
        begin = next(b for b in range(first, at, stride) if at - b <= limit)
        expected.append(tuple(range(100 + begin, 100 + at)))
    assert seen == expected


def test_a_history_beyond_the_limit_trains_on_such_windows(tmp_path: Path) -> None:
    whole = {row[:3:2]: row for batch in prepared(tmp_path, MAX_ITEM_LIST_LENGTH=12).train for row in samples(batch)}
    batches = list(prepared(tmp_path, MAX_ITEM_LIST_LENGTH=4, train_unit="user").train)
    seen = {row[:3:2]: row for batch in batches for row in samples(batch)}
    assert seen.keys() == whole.keys()
    assert {row[1] for row in whole.values()} == {1, 2, 3, 4, 5}
    for key, (_, length, _, *items) in seen.items():
        begin = 2 if whole[key][1] == 5 else 0
        assert tuple(items[:length]) == whole[key][3 + begin : 3 + whole[key][1]]


def test_the_order_follows_from_the_seed(tmp_path: Path) -> None:
    first, again = ([samples(batch) for batch in prepared(tmp_path, train_unit="user").train] for _ in range(2))
    assert first == again
    assert first != [samples(batch) for batch in prepared(tmp_path, train_unit="user", seed=7).train]


@pytest.mark.parametrize("modalities", [["text"], ["text", "image"]])
@pytest.mark.parametrize("loss_type", ["CE", "in_batch"])
def test_the_loss_is_that_of_the_same_rows(tmp_path: Path, modalities: list[str], loss_type: str) -> None:
    none = dict.fromkeys(("embedding_drop_prob", "dropout_prob", "time_dropout_prob"), 0.0)
    run = prepared(tmp_path, train_unit="user", modalities=modalities, loss_type=loss_type, **none)
    run.model.train()
    for batch in list(run.train)[:3]:
        shared = run.model.calculate_loss(batch)
        alone = run.model.calculate_loss(Interaction({k: v for k, v in batch.interaction.items() if k != ORIGIN}))
        torch.testing.assert_close(shared, alone, rtol=1e-5, atol=1e-6)


def test_it_learns(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    changes = pattern_settings(tmp_path, train_unit="user", epochs=25)
    assert run_recbole("MMM4Rec", NAME, config_dict=changes)["test_result"]["hit@1"] >= 0.9


@pytest.mark.parametrize("unit", ["prefix", "user"])
def test_sampled_negatives_are_refused(tmp_path: Path, unit: str) -> None:
    """RecBole would write them where targets are read."""
    negatives = {"distribution": "uniform", "sample_num": 1, "dynamic": False, "alpha": 1.0, "candidate_num": 0}
    with pytest.raises(UserError, match=r"train_neg_sample_args: .* none of RecBole's sampled negatives"):
        prepared(tmp_path, train_unit=unit, train_neg_sample_args=negatives)
