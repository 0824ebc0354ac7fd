"""Ids and numbers of new items as other programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from more_items import like

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.pictures import FORMATS
from recbole_mmm4rec.recommend.item_rows import read_items
from recbole_mmm4rec.recommend.recommender import Recommender

FLOATS = [12.0, 13.0]


@pytest.mark.parametrize(
    "table",
    [
        [{"item_id": number} for number in FLOATS],
        [{"item_id": np.float32(number)} for number in FLOATS],
        pd.DataFrame({"item_id": FLOATS}),
        pa.table({"item_id": FLOATS}),
    ],
    ids=["rows", "numpy", "pandas", "arrow"],
)
def test_ids_that_pandas_made_floats(table: Any) -> None:
    assert [one.id for one in read_items(table)] == ["12", "13"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (True, "items[0]: item_id holds a bool; text or a number is wanted"),
        (np.True_, "items[0]: item_id holds a bool"),
        (float("nan"), "items[0]: no item_id"),
        (pd.NA, "items[0]: no item_id"),
        (None, "items[0]: no item_id"),
    ],
)
def test_what_is_no_id(given: Any, words: str) -> None:
    with pytest.raises(UserError) as told:
        read_items([{"item_id": given}])
    assert str(told.value).startswith(words)


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT])
def test_what_pandas_has_for_nothing(nothing: Any) -> None:
    (one,) = read_items([{"item_id": "a", "text": nothing, "image": nothing, "text_vector": nothing, "price": nothing}])
    assert (one.text, one.picture, one.vectors, one.columns) == ("", None, {}, {"price": None})


@pytest.mark.parametrize("price", [float("nan"), "nan", pd.NA])
def test_a_price_that_is_no_number_is_none(folder_copy: Path, price: Any) -> None:
    recommender = Recommender.load(folder_copy)
    recommender.add_items([{**like(1), "price": price}])
    assert recommender.items.row("n1")["price"] is None


@pytest.mark.parametrize("kind", FORMATS.values())
def test_a_picture_of_every_kind_that_is_read_is_found(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").write_bytes(b"")
    (one,) = read_items([{"item_id": "a"}], tmp_path)
    assert one.picture == tmp_path / f"a.{kind}"
