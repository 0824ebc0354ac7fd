"""YAML whose mistakes can be told with file and line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.settings.reading import read_located_yaml

Place = tuple[str | int, ...]
"""Keys and list positions from the top of a file down."""


class Located:
    """The content of a YAML file with the line of each part.

    Args:
        path: the file.

    Attributes:
        content: what the file says.
        text: the file itself.

    Raises:
        UserError: there is no such file, or it does not hold keys with values.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.content, node = read_located_yaml(path)
        self.text = Path(path).read_text(encoding="utf-8")
        self._lines: dict[Place, int] = {}
        self._note_lines(node, ())

    def _note_lines(self, node: Any, place: Place) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = key.value if isinstance(key.value, str) else str(key.value)  # of one that is no text
                inner, line = (*place, name), key.start_mark.line + 1
                self._lines[inner] = line
                self._note_lines(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._lines[(*place, number)] = value.start_mark.line + 1
                self._note_lines(value, (*place, number))

    def where(self, place: Place) -> str:
        """File and line of a part; of one that came by a merge, those of the part around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return f"{self.path}, line {self._lines.get(place, 1)}"

    def fail(self, place: Place, complaint: str) -> NoReturn:
        """Raise a :class:`UserError` about a part."""
        raise UserError(f"{self.where(place)}: {complaint}")

    def mapping(self, place: Place, value: Any, known: Iterable[str] | None = None) -> dict[str, Any]:
        """``value`` as a dictionary, its keys among ``known`` where that is given; None is an empty one."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fail(place, f"{_name(place)} must be keys with values, not {value!r}")
        names = None if known is None else list(known)
        for key in value:
            if names is not None and key not in names:
                hint = did_you_mean(str(key), names) or f" (known: {', '.join(names)})"
                self.fail((*place, key), f"unknown key {key!r}{hint}")
        return {str(key): part for key, part in value.items()}

    def sequence(self, place: Place, value: Any) -> list[Any]:
        """``value`` as a list; None is an empty one."""
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(place, f"{_name(place)} must be a list, not {value!r}")
        return value

    def name(self, place: Place, value: Any, known: Iterable[str] | None = None) -> str:
        """``value`` as a text that is not empty, one of ``known`` where that is given."""
        if not isinstance(value, str) or not value:
            self.fail(place, f"{_name(place)} must be a name, not {value!r}")
        names = None if known is None else list(known)
        if names is not None and value not in names:
            hint = did_you_mean(value, names) or f" (known: {', '.join(names)})"
            self.fail(place, f"{_name(place)}: there is no {value!r}{hint}")
        return value

    def number(self, place: Place, value: Any, lowest: float, whole: bool = True) -> Any:
        """``value`` as a number that is at least ``lowest``."""
        kinds = (int,) if whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool) or not lowest <= value <= sys.float_info.max:
            kind = "a whole number" if whole else "a number"
            self.fail(place, f"{_name(place)} must be {kind}, at least {lowest}, not {value!r}")
        return value


def _name(place: Place) -> str:
    words = [str(part) for part in place if isinstance(part, str)]
    return words[-1] if words else "the file"
