"""Tokens as codes: the same tables, ids and filters as pandas and RecBole give with strings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.dataset import SequentialDataset
from tiny_data import ITEMS, make_config, make_dataset, write_inter, write_items, write_vectors

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.coded_tokens import first_seen
from recbole_mmm4rec.data.sorting import order_within_groups, stable_order


@given(st.lists(st.sampled_from(["a", "b", "c", None])), st.data())
def test_first_seen_equals_factorize(tokens: list[str | None], data: st.DataObject) -> None:
    categories = data.draw(st.permutations(["a", "b", "c", "unused"]))
    expected, names = pd.factorize(np.array(tokens, dtype=object))
    for values in (pd.Series(tokens, dtype=object), pd.Series(pd.Categorical(tokens, categories=categories))):
        numbers, found = first_seen(values)
        assert (numbers.tolist(), list(found)) == ((expected + 1).tolist(), list(names))


NUMBER = st.one_of(st.integers(-5, 5), st.sampled_from([2**61, -(2**61), 2**62 + 1, 1_700_000_000_123]))


@given(st.lists(NUMBER), st.sampled_from([np.int64, np.int32, np.float64]))
def test_stable_order_equals_argsort(numbers: list[int], kind: Any) -> None:
    values = np.array(numbers if kind != np.int32 else [number % 1000 for number in numbers], dtype=kind)
    assert stable_order(values).tolist() == np.argsort(values, kind="stable").tolist()


@given(st.lists(st.tuples(st.integers(0, 3), st.floats())))
def test_order_within_groups_equals_lexsort(rows: list[tuple[int, float]]) -> None:
    groups, keys = (np.array([row[n] for row in rows], dtype=kind) for n, kind in ((0, np.int64), (1, np.float64)))
    assert order_within_groups(groups, keys).tolist() == np.lexsort((keys, groups)).tolist()


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=8, max_size=40),
    st.sampled_from([None, "[0,inf)", "[2,inf)", "(1,4]", "[1,2];[4,9]", "[5,6]"]),
    st.sampled_from([None, "[2,inf)", "[3,5)"]),
    st.sampled_from([None, "keep", "last"]),
)
def test_filters_and_ids_equal_recboles(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[int, int]],
    user_interval: str | None,
    item_interval: str | None,
    features: str | None,
) -> None:
    root = tmp_path_factory.mktemp("data")
    write_inter(root, [(f"u{user}", f"i{item}", time) for time, (user, item) in enumerate(pairs)])
    write_vectors(root, ITEMS)
    keys: dict[str, Any] = {
        "user_inter_num_interval": user_interval,
        "item_inter_num_interval": item_interval,
        "candidates": "all",
        "filter_inter_by_user_or_item": features == "keep",
    }
    if features:
        write_items(root, {f"i{number}": f"word{number}" for number in (8, 3, 1, 5, 0)})
        keys["load_col"] = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "text"]}
    try:
        stock = SequentialDataset(make_config(root, **keys))
    except ValueError as error:  # nothing is left
        with pytest.raises(ValueError, match="empty" if "empty" in str(error) else ""):
            make_dataset(root, **keys)
        return
    if not stock.inter_feat["user_id"].duplicated().any():
        with pytest.raises(UserError, match="no user has two interactions"):
            make_dataset(root, **keys)
        return
    ours = make_dataset(root, **keys)
    for field in ("user_id", "item_id"):
        found = ours.field2id_token[field]
        assert found[: len(stock.field2id_token[field])].tolist() == stock.field2id_token[field].tolist()
        assert ours.field2token_id[field] == {token: number for number, token in enumerate(found)}
        assert ours.inter_feat[field].tolist() == stock.inter_feat[field].tolist()
    assert str(ours).split("Remain")[0].split("actions")[1] == str(stock).split("Remain")[0].split("actions")[1]
