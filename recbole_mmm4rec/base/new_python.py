"""The command of a further Python that finds its modules where this one does."""

from __future__ import annotations

import os
import sys


def running(module: str, *arguments: str) -> list[str]:
    """The command that runs a module: ``python -m``, which would import from the folder where it stands, too.

    Somebody's ``tqdm.py`` may lie there. (``python -P`` would do, from Python 3.11 on.)

    Args:
        module: its name.
        arguments: of the command.
    """
    path = [os.path.abspath(place) for place in sys.path]
    run = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-c", f"import sys; sys.path[:] = {path}; {run}", *arguments]
