"""What the repairs have in common: views of modules, functions held in many places."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any


class ModuleView(ModuleType):
    """A module seen with a few names changed; the module itself, and whoever else uses it, sees no change.

    Args:
        module: the module that is looked at.
        changes: names and their new values.
    """

    def __init__(self, module: ModuleType, **changes: Any) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__.update(changes, _seen=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_seen"], name)


def replace_function(function: FunctionType, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Change what a function does for everybody who holds it, also for those who imported it before.

    The function object stays; its code becomes a call of the replacement, which its module keeps.

    Args:
        function: the function; not a closure.
        make: gets a function that does what the old one did, returns the replacement.
    """
    original = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    original.__kwdefaults__ = function.__kwdefaults__
    name = f"_replaced_{function.__name__}"
    function.__globals__[name] = make(original)
    function.__code__ = _call_replacement.__code__.replace(co_names=(name,), co_name=function.__name__)
    function.__defaults__ = function.__kwdefaults__ = None
    vars(function)["__wrapped__"] = original


def _call_replacement(*args: Any, **kwargs: Any) -> Any:
    return _replacement(*args, **kwargs)  # type: ignore[name-defined]  # noqa: F821  the name is put in above
