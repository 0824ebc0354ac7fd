"""Repairs of what RecBole expects of the packages around it."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from recbole_mmm4rec.compat.tools import replace_function

logger = logging.getLogger(__name__)


def alias_numpy_names(_: ModuleType) -> None:
    """Give NumPy the old names that RecBole uses.

    Broken: ``np.float_``, ``np.complex_`` and ``np.unicode_`` do not exist in NumPy 2, so no ``Config`` can be made
    (config/configurator.py:628, pull request #2187). ``np.float`` and the like exist only once a ``Config`` has been
    made, so that a data set loaded with an unpickled one fails (data/interaction.py:31). RecBole sets the same names.
    """
    import numpy as np

    names: dict[str, type] = {
        "bool": np.bool_,
        "int": np.int_,
        "float": np.float64,
        "complex": np.complex128,
        "object": np.object_,
        "str": np.str_,
        "long": np.int_,
        "unicode": np.str_,
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
    }
    for name, scalar in names.items():
        if name not in vars(np):
            setattr(np, name, scalar)


def survive_failed_profiling(module: ModuleType) -> None:
    """Log a failed count of floating-point operations instead of ending the run.

    Broken: ``get_flops`` (utils/utils.py:213) copies the model, hooks every layer and predicts one row, which a custom
    model need not support; an error there ended the run before training began.
    """

    def make(original: Callable[..., Any]) -> Callable[..., float]:
        def get_flops(*args: Any, **kwargs: Any) -> float:
            try:
                return float(original(*args, **kwargs))
            except Exception as error:  # anything may happen inside a profiled model, and it is only a log line
                logger.warning("floating-point operations could not be counted: %s: %s", type(error).__name__, error)
                return float("nan")

        return get_flops

    replace_function(module.get_flops, make)


def make_folders_together(module: ModuleType) -> None:
    """Let several processes make the same folder at once.

    Broken: ``ensure_dir`` (utils/utils.py:44) looks and then makes; of two processes of one training that find no
    ``checkpoint_dir``, the slower one ended with ``FileExistsError``.
    """
    replace_function(module.ensure_dir, lambda _: lambda dir_path: os.makedirs(dir_path, exist_ok=True))


@contextmanager
def stand_in_for_ray() -> Iterator[None]:
    """Let ``recbole.quick_start`` be imported where ray cannot be.

    Broken: quick_start/quick_start.py:20 imports ray for one call inside ``objective_function``; ray 2.6.3, the newest
    that RecBole allows, needs ``pkg_resources``, which setuptools 81 dropped, and names that NumPy 2 dropped. Nothing
    else sees the stand-in.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            import ray.tune  # noqa: F401
    except (ImportError, AttributeError) as error:
        logger.debug("ray cannot be imported (%s): tuning with ray is not available", error)
    else:
        yield
        return
    stand_in = ModuleType("ray")
    vars(stand_in)["tune"] = ModuleType("ray.tune")
    half_loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "ray"}
    sys.modules["ray"] = stand_in
    try:
        yield
    finally:
        del sys.modules["ray"]
        sys.modules.update(half_loaded)


@contextmanager
def put_off_sklearn() -> Iterator[None]:
    """Let RecBole's metrics be imported without scikit-learn, which then is imported by the first metric that calls it.

    Broken: evaluator/metrics.py:29 imports it, and with it all of SciPy's statistics, for AUC, MAE and RMSE; it is a
    tenth of the start-up of runs that rank. Nothing else sees the stand-in.
    """
    if "sklearn.metrics" in sys.modules:
        yield
        return
    stand_in = ModuleType("sklearn.metrics")
    for name in ("auc", "mean_absolute_error", "mean_squared_error"):
        setattr(stand_in, name, _sklearn_metric(name))
    package = ModuleType("sklearn")
    vars(package)["metrics"] = stand_in
    real = sys.modules.get("sklearn")
    sys.modules.update({"sklearn": package, "sklearn.metrics": stand_in})
    try:
        yield
    finally:
        del sys.modules["sklearn"], sys.modules["sklearn.metrics"]
        if real is not None:
            sys.modules["sklearn"] = real


def _sklearn_metric(name: str) -> Callable[..., Any]:
    def metric(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module("sklearn.metrics"), name)(*args, **kwargs)

    return metric
