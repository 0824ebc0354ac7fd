"""What is searched: parameters and their values, from a YAML file or from one in RecBole's own format."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.settings.kinds import is_number

Params = dict[str, Any]

MOST_VALUES = 100_000
"""Steps of one ``quniform`` range."""


@dataclass(frozen=True)
class Parameter:
    """One searched setting.

    Attributes:
        key: name of the setting.
        kind: ``choice``, ``quniform`` (a range in steps), ``uniform`` or ``loguniform``.
        values: all values of the first two, in the order of the file; empty for the continuous ones.
        low, high: ends of a continuous range, as values of the setting, both included.
        where: file and line, for messages.
    """

    key: str
    kind: str
    values: tuple[Any, ...]
    low: float
    high: float
    where: str

    @property
    def examples(self) -> tuple[Any, ...]:
        """The values that tell whether the others can work: every choice, and the ends of a range."""
        if self.kind == "choice":
            return self.values
        return (self.values[0], self.values[-1]) if self.values else (self.low, self.high)

    def describe(self) -> dict[str, Any]:
        """Plain values that say what is searched, without where it was written."""
        ends = {"values": list(self.values)} if self.values else {"low": self.low, "high": self.high}
        return {"kind": self.kind, **ends}

    def has(self, value: Any) -> bool:
        """Whether the parameter can have this value."""
        if self.values:
            return same_text(value) in map(same_text, self.values)
        return is_number(value) and self.low <= value <= self.high

    def position(self, value: Any) -> float:
        """Where a value lies: its number among the values, or on the range, which is a logarithm for ``loguniform``.

        Raises:
            ValueError: the parameter has no such value.
        """
        if self.values:
            return [same_text(known) for known in self.values].index(same_text(value))
        return math.log(value) if self.kind == "loguniform" else float(value)

    def value(self, position: float) -> Any:
        """The value at a position, rounded to the nearest one where they are counted, and kept inside the range."""
        if self.values:
            return self.values[min(max(round(position), 0), len(self.values) - 1)]
        found = math.exp(position) if self.kind == "loguniform" else float(position)
        return min(max(found, self.low), self.high)


Space = Sequence[Parameter]


def same_text(value: Any) -> str:
    """One text for equal plain values; what trials are told apart by."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def size(space: Space) -> int | None:
    """Number of combinations, None where a range is continuous."""
    return math.prod(len(parameter.values) for parameter in space) if all(one.values for one in space) else None


def combinations(space: Space) -> Iterator[Params]:
    """Every combination once, the last parameter changing fastest.

    Raises:
        UserError: for a continuous range, which has no end of values.
    """
    for one in space:
        if not one.values:
            raise UserError(
                f"{one.where}: {one.key} has a {one.kind} range, which --algo exhaustive cannot go through; "
                "write a list or quniform, or take --algo random"
            )
    for values in product(*(one.values for one in space)):
        yield {one.key: value for one, value in zip(space, values, strict=True)}


def make_parameter(key: str, kind: str, told: Any, where: str, exponents: bool = False) -> Parameter:
    """A parameter from what a file says.

    Args:
        key: name of the setting.
        kind: see :class:`Parameter`.
        told: a list of values for ``choice``, ``[low, high]`` or, for ``quniform``, ``[low, high, step]``.
        where: file and line.
        exponents: the ends of a ``loguniform`` range are natural logarithms of the values, as in RecBole's files.

    Raises:
        UserError: in one line, for anything that is no such parameter.
    """
    if kind == "choice":
        return Parameter(key, kind, _choices(key, told, where), 0.0, 0.0, where)
    count = {"uniform": 2, "loguniform": 2, "quniform": 3}[kind]
    form = "[low, high, step]" if count == 3 else "[low, high]"
    if not isinstance(told, list) or len(told) != count or not all(map(is_number, told)):
        raise UserError(f"{where}: {key} is {kind}, which takes {form}, all numbers, not {told!r}")
    low, high = told[:2]
    if kind == "loguniform" and exponents:
        try:
            low, high = math.exp(low), math.exp(high)
        except OverflowError:
            raise UserError(
                f"{where}: {key} goes up to exp({high}); in RecBole's form the ends are natural logarithms of values"
            ) from None
    if not low < high:
        raise UserError(f"{where}: {key} goes from {told[0]} to {told[1]}; the first must be less than the second")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{where}: {key} is loguniform and starts at {low}; it must start above 0")
    if kind == "quniform":
        return Parameter(key, kind, _steps(key, low, high, told[2], where), low, high, where)
    return Parameter(key, kind, (), float(low), float(high), where)


def _choices(key: str, told: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(told, list) or not told:
        raise UserError(f"{where}: {key} is a choice, which takes a list of values, not {told!r}")
    try:
        texts = [same_text(value) for value in told]
    except TypeError:
        raise UserError(
            f"{where}: {key} has a value that is no number, text, list, dictionary, True, False or None"
        ) from None
    for value, text in zip(told, texts, strict=True):
        if texts.count(text) > 1:
            raise UserError(f"{where}: {key} has the value {value!r} twice; keep one")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: {key} has the value {value!r}, which is no number that could be set")
    return tuple(told)


def _steps(key: str, low: Any, high: Any, step: Any, where: str) -> tuple[Any, ...]:
    if step <= 0:
        raise UserError(f"{where}: {key} has steps of {step}; they must be above 0")
    steps = (high - low) / step
    if not steps < MOST_VALUES:  # tiny steps are too many for any whole number
        raise UserError(f"{where}: {key} has {steps:,.0f} steps, more than {MOST_VALUES:,}; write uniform")
    count = math.floor(steps + 1e-9) + 1
    if all(float(number).is_integer() for number in (low, step)):  # sizes and numbers of layers must be whole
        return tuple(int(low) + int(step) * number for number in range(count))
    return tuple(float(f"{low + step * number:.12g}") for number in range(count))


def describe(space: Space) -> Mapping[str, Any]:
    """Plain values that say what is searched."""
    return {one.key: one.describe() for one in space}
