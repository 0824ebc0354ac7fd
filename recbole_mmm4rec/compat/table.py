"""The repairs as a table: what each mends, which public issues tell of it, and whether it could be applied."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import dataclass

from recbole_mmm4rec import compat


@dataclass(frozen=True)
class Repair:
    """One repair.

    Attributes:
        name: of its function.
        what: it does, in a sentence.
        issues: numbers of RecBole's public issues and pull requests that tell of the defect, if there are any.
        modules: RecBole's modules that it changes, or that are executed under it.
    """

    name: str
    what: str
    issues: tuple[int, ...]
    modules: tuple[str, ...]


def all_repairs() -> list[Repair]:
    """Every repair with what its docstring says of it: the sentence at its top, and the issues in the text below."""
    modules: dict[str, list[str]] = {}
    for module, references in compat.REPAIRS.items():
        for reference in references:
            modules.setdefault(reference, []).append(module)
    for module, reference in compat.DURING_IMPORT.items():
        modules.setdefault(reference, []).append(module)
    return [_repair(reference, tuple(changed)) for reference, changed in modules.items()]


def _repair(reference: str, modules: tuple[str, ...]) -> Repair:
    function = pkgutil.resolve_name(reference)
    what, _, text = (function.__doc__ or "").partition("\n\n")
    issues = tuple(dict.fromkeys(int(number) for number in re.findall(r"#(\d+)", text)))
    plain = re.sub(r":\w+:`([^`]*)`", r"\1", what).replace("``", "`")
    return Repair(function.__name__, " ".join(plain.split()), issues, modules)


def apply_all() -> dict[str, str]:
    """Import every module that is repaired, which applies its repairs.

    Returns:
        what went wrong by the name of the module; empty where everything is repaired.
    """
    failed = {}
    for module in (*compat.REPAIRS, *compat.DURING_IMPORT):
        try:
            importlib.import_module(module)
        except Exception as error:  # a report says what is broken, whatever it is
            failed[module] = f"{type(error).__name__}: {error}"
    return failed
