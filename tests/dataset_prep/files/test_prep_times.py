"""Time stamps: whole microseconds, or a message with the way out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_prep.files.times import LATEST, MICROSECONDS, PER_SECOND, parse_time
from recbole_mmm4rec.base.errors import UserError


@pytest.mark.parametrize(
    ("text", "unit", "time"),
    [
        ("881250949", "s", 881250949_000_000),
        (" 12 ", "s", 12_000_000),
        ("12.5", "s", 12_500_000),
        ("8.8e8", "s", 880_000_000_000_000),
        ("1600000000.0", "s", 1_600_000_000_000_000),
        ("1600000000999", "ms", 1_600_000_000_999_000),
        ("1600000000999.5", "ms", 1_600_000_000_999_500),
        ("1588687728922.0", "ms", 1_588_687_728_922_000),  # times 10**6 it would not be a double
        ("1600000000999999", "us", 1_600_000_000_999_999),
        ("1600000000999999999", "ns", 1_600_000_000_999_999),
        ("0", "s", 0),
        ("100000000000", "s", LATEST * MICROSECONDS),
    ],
)
def test_numbers_become_whole_microseconds(text: str, unit: str, time: int) -> None:
    assert parse_time(text, unit, "here") == time


@given(st.integers(0, LATEST), st.sampled_from(sorted(PER_SECOND)), st.data())
def test_integers_are_exact_in_every_unit(seconds: int, unit: str, data: st.DataObject) -> None:
    rest = data.draw(st.integers(0, PER_SECOND[unit] - 1))
    wanted = seconds * MICROSECONDS + rest * MICROSECONDS // PER_SECOND[unit]
    assert parse_time(str(seconds * PER_SECOND[unit] + rest), unit, "here") == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-1", "'-1' is negative"),
        ("-0.5", "'-0.5' is negative"),
        ("", "is empty.*--time-from-order"),
        ("nan", "no finite number"),
        ("inf", "no finite number"),
        ("1e400", "no finite number"),
        ("1_000", "no finite number"),
        ("١٢", "no finite number"),
        ("soon", "'soon' is no finite number"),
        ("2020-01-02T03:04:05", "'2020-01-02T03:04:05' is a date; seconds since 1970"),
        ("1600000000000", "looks like ms: add --time-unit ms"),
        ("1600000000000000", "looks like us: add --time-unit us"),
        ("1600000000000000000", "looks like ns: add --time-unit ns"),
        ("1" * 28, "too large to count s; correct it"),
        ("9" * 5000, "too large|no finite number"),
    ],
)
def test_what_is_no_time_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        parse_time(text, "s", "f.csv line 9")
    assert str(caught.value).startswith("f.csv line 9: timestamp ")
