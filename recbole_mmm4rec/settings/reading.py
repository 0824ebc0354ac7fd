"""How settings are read: values of a command line, YAML files, names of models."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recbole_mmm4rec.base.errors import UserError


def literal(text: str) -> Any:
    """The value of a Python literal.

    Raises:
        NameError: for anything that is not a literal, as ``eval`` does for a bare word.
    """
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise NameError(f"{text!r} is not a literal") from None


def name_list(value: Any) -> Any:
    """A list of names as it arrives from the command line, ``[text, image]`` or ``text``; other values as they are."""
    return [name.strip(" '\"") for name in value.strip("[] ").split(",")] if isinstance(value, str) else value


_TEXTS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
_MOST_VALUES = 1_000_000
"""So many values a file may hold, its aliases written out."""


class Loader(yaml.FullLoader):
    """PyYAML's loader with RecBole's numbers (``1e-4`` is one), whose every mistake has a line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a part of the file.

        Raises:
            yaml.YAMLError: it has none, such as a date with a month 99.
        """
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
            kind = str(node.tag).rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} is no {kind}", node.start_mark
            ) from error


Loader.add_implicit_resolver(  # as in RecBole's config/configurator.py:96, which changes PyYAML's own loader
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
        |\.[0-9_]+(?:[eE][-+][0-9]+)?
        |[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
        re.VERBOSE,
    ),
    list("-+0123456789."),
)


def read_yaml(path: str | Path, what: str = "config file") -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Args:
        path: the file.
        what: it is, for messages.

    Raises:
        UserError: when there is no such file, it is not YAML (with the line), or its top level is not a mapping.
    """
    return _read(path, what)[0]


def read_located_yaml(path: str | Path, what: str = "config file") -> tuple[dict[str, Any], Any]:
    """The mapping in a YAML file, and the node of its top level, which knows the line of each part.

    Args, raises: as :func:`read_yaml`; of an empty file the node is None.
    """
    return _read(path, what)


def _read(path: str | Path, what: str) -> tuple[dict[str, Any], Any]:
    name = f"{what} {str(path)!r}"
    try:
        text = Path(path).read_text(encoding="utf-8")
        node = Loader(text).get_single_node()
        _size(node, {})
        _no_key_twice(node, name, set())
        content = Loader(text).get_single_data()  # from nodes of its own: it writes merged keys into them
    except FileNotFoundError:
        raise UserError(f"{name} does not exist") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from error
    except RecursionError:
        raise UserError(f"{name} is not valid YAML: it is nested too deeply") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise UserError(f"{name}{line} is not valid YAML: {' '.join(reason.split())}") from error
    if content is None:
        return {}, None
    if not isinstance(content, dict):
        raise UserError(f"{name} holds a {type(content).__name__}; it must hold 'key: value' lines")
    for key in content:
        if not isinstance(key, str):  # TensorBoard and JSON fall over it after the training
            pairs: Any = node.value if node is not None else ()
            at = next((part.start_mark.line + 1 for part, _ in pairs if part.tag not in _TEXTS), 1)
            raise UserError(f"{name}, line {at}: the key is read as {key!r}, and names are texts; put it in quotes")
    return content, node


def _size(node: Any, sizes: dict[int, float]) -> float:
    """How many values a part of a file holds, its aliases written out.

    Raises:
        yaml.YAMLError: too many to be meant, or one that holds itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")  # what it stays until all that it holds is counted
        inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in inner)
    if sizes[id(node)] > _MOST_VALUES:
        raise yaml.constructor.ConstructorError(
            None, None, f"its aliases stand for more than {_MOST_VALUES:,} values", node.start_mark
        )
    return sizes[id(node)]


def _no_key_twice(node: Any, name: str, seen: set[int]) -> None:
    """Refuse a key that a mapping of the file has twice: YAML takes the last one, without a word."""
    if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
        return
    seen.add(id(node))
    keys: set[str] = set()
    for part in node.value:
        key, *values = part if isinstance(part, tuple) else (None, part)
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in keys:
                raise UserError(f"{name}, line {key.start_mark.line + 1}: {key.value!r} stands there twice; keep one")
            keys.add(key.value)
        for value in values:
            _no_key_twice(value, name, seen)


def key_lines(node: Any) -> Mapping[str, int]:
    """The line of each key at the top level of a YAML file, or of a part of it, counted from 1.

    Args:
        node: what :func:`read_located_yaml` gives, or a part of that.
    """
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return {str(key.value): key.start_mark.line + 1 for key, _ in pairs}
