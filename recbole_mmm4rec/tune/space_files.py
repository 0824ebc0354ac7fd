"""Files that say what is searched: YAML, RecBole's lines, and RecBole's dictionary by kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.settings.defaults import properties_dir
from recbole_mmm4rec.settings.reading import key_lines, literal, read_located_yaml
from recbole_mmm4rec.tune.space import Parameter, make_parameter

KINDS = ("choice", "uniform", "quniform", "loguniform")


def space_file(model: str) -> Path:
    """The space that is searched where none is named: the model's own in ``properties/tune``, or the general one."""
    own = properties_dir() / "tune" / f"{model}.yaml"
    return own if own.is_file() else properties_dir() / "tune" / "general.yaml"


def read_space(path: str | Path) -> list[Parameter]:
    """The parameters of a file, in its order.

    Args:
        path: ``*.yaml`` and ``*.yml`` hold YAML; every other name RecBole's lines ``key kind values``, in which the
            ends of ``loguniform`` are natural logarithms.

    Raises:
        UserError: with file and line, for a file that says something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"--space {path}: there is no such file")
    found = _read_yaml(path) if path.suffix in (".yaml", ".yml") else _read_lines(path)
    if not found:
        raise UserError(f"space file {str(path)!r} names nothing to search")
    seen: dict[str, Parameter] = {}
    for one in found:
        if one.key in seen:
            raise UserError(f"{one.where}: {one.key} stands there twice; keep one")
        seen[one.key] = one
    return found


def _read_lines(path: Path) -> list[Parameter]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"space file {str(path)!r} is not UTF-8 text") from None
    found = []
    for number, line in enumerate(lines, 1):
        where = f"space file {str(path)!r}, line {number}"
        words = line.split(None, 2)
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 3:
            raise UserError(
                f"{where}: {line.strip()!r} is not 'key kind values', such as 'learning_rate choice [0.01]'"
            )
        key, kind, text = words
        _check_kind(kind, where)
        try:
            told = literal(text)
        except NameError:
            raise UserError(f"{where}: {text.strip()!r} are no values that {kind} takes") from None
        told = list(told) if isinstance(told, tuple) else told
        found.append(make_parameter(key, kind, _read_again(kind, told), where, exponents=True))
    return found


def _read_again(kind: str, told: Any) -> Any:
    """Choices as RecBole takes them: it reads texts once more, so that ``'[64, 32]'`` is a list there."""
    from recbole_mmm4rec.run.cli import parse_value

    if kind != "choice" or not isinstance(told, list):
        return told
    return [parse_value(value) if isinstance(value, str) else value for value in told]


def _check_kind(kind: str, where: str) -> None:
    if kind not in KINDS:
        raise UserError(
            f"{where}: {kind!r} is no kind of values{did_you_mean(kind, KINDS)}; there are {', '.join(KINDS)}"
        )


def _read_yaml(path: Path) -> list[Parameter]:
    content, root = read_located_yaml(path, "space file")
    found = []
    lines: dict[str, int] = {}
    inner: dict[str, Mapping[str, int]] = {}
    for node, value in root.value if root is not None else ():
        lines[str(node.value)], inner[str(node.value)] = node.start_mark.line + 1, key_lines(value)
    for key, told in content.items():
        where = f"space file {str(path)!r}, line {lines.get(str(key), 1)}"
        if key in KINDS and isinstance(told, dict):  # RecBole's dictionary by kind
            found += _by_kind(key, told, inner.get(key, {}), where, path)
            continue
        kind, values = _kind_and_values(key, told, where)
        found.append(make_parameter(str(key), kind, values, where))
    return found


def _by_kind(kind: str, told: dict[str, Any], lines: Mapping[str, int], above: str, path: Path) -> list[Parameter]:
    found = []
    for key, values in told.items():
        line = lines.get(str(key))
        where = above if line is None else f"space file {str(path)!r}, line {line}"
        found.append(make_parameter(str(key), kind, _read_again(kind, values), where, exponents=True))
    return found


def _kind_and_values(key: str, told: Any, where: str) -> tuple[str, Any]:
    if isinstance(told, list):
        return "choice", told
    if not isinstance(told, dict) or len(told) != 1:
        raise UserError(
            f"{where}: {key} must be a list of values or a kind with its values, such as {{uniform: [0, 0.5]}}, "
            f"not {told!r}"
        )
    kind, values = next(iter(told.items()))
    _check_kind(str(kind), where)
    return str(kind), values
