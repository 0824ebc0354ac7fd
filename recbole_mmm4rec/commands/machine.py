"""What is on this machine: Python, packages, GPUs, kernels, and which of them are known not to go together."""

from __future__ import annotations

import importlib
import platform
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from recbole_mmm4rec.base.installed import NEWER_RAY
from recbole_mmm4rec.compat import INSTALL_RECBOLE, RECBOLE_BROKEN_UP_TO, is_broken

PACKAGES = (
    "recbole-mmm4rec",
    "recbole",
    "torch",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "scipy",
    "setuptools",
    "numba",
    "triton",
    "mamba-ssm",
    "causal-conv1d",
    "sentence-transformers",
    "torchvision",
    "ray",
    "hyperopt",
    "matplotlib",
    "duckdb",
    "fastapi",
    "httptools",
    "uvicorn",
    "uvloop",
    "prometheus-client",
    "pydantic",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "faiss-cpu",
    "huggingface_hub",
)
"""Packages whose versions tell most."""

_NEEDED = ("torch", "numpy", "pandas", "pyarrow", "safetensors")


@dataclass(frozen=True)
class Problem:
    """Something that does not work together.

    Attributes:
        what: it is.
        way_out: a command to type, or what else helps.
        fatal: whether nothing can be trained with it.
    """

    what: str
    way_out: str
    fatal: bool = False


def versions() -> dict[str, str | None]:
    """The installed versions of :data:`PACKAGES`, None for what is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def python_and_system() -> str:
    """Python's version, its implementation and the system, in words."""
    return f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()} {platform.machine()})"


def gpus() -> tuple[list[str], str]:
    """The names of the GPUs that PyTorch can use, and why there are none."""
    import torch

    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())], ""
    if torch.version.cuda is None:
        return [], "this PyTorch is built for processors alone"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return [], f"PyTorch is built for CUDA {torch.version.cuda}: {str(error).split('. ')[0].strip()}"
    return [], f"PyTorch is built for CUDA {torch.version.cuda}, and CUDA_VISIBLE_DEVICES or the driver shows it no GPU"


def known_problems(found: Mapping[str, str | None]) -> list[Problem]:
    """Combinations that are known to be bad.

    Args:
        found: versions by package, as from :func:`versions`.
    """
    problems = [problem for combination, problem in _BAD if all(_lies(found, *bounds) for bounds in combination)]
    missing = [
        Problem(f"{name} is not installed", f"pip install {name}", fatal=True) for name in _NEEDED if not found[name]
    ]
    return [*_recbole(found["recbole"]), *missing, *problems, *_torchvision(found), *_broken_imports(found)]


# each combination: package, lowest version, and the first version that is good again
Bounds = tuple[str, tuple[int, ...], tuple[int, ...]]
_NEW = (10**6,)
_BAD: tuple[tuple[tuple[Bounds, ...], Problem], ...] = (
    (
        (("torch", (0,), (2, 6)),),
        Problem("PyTorch is older than 2.6, the oldest that is supported", "pip install -U torch", fatal=True),
    ),
    (
        (("pyarrow", (26,), _NEW), ("numpy", (0,), (2,))),
        Problem("pyarrow 26 refuses NumPy 1", "pip install 'pyarrow<26', or pip install -U numpy", fatal=True),
    ),
)


def _lies(found: Mapping[str, str | None], package: str, lowest: tuple[int, ...], good: tuple[int, ...]) -> bool:
    """Whether a package is installed in a version from ``lowest`` on and before ``good``."""
    text = found[package]
    return text is not None and lowest <= tuple(int(number) for number in re.findall(r"\d+", text)[:3]) < good


def _recbole(text: str | None) -> list[Problem]:
    if text is None:
        return [Problem("RecBole is not installed", INSTALL_RECBOLE, fatal=True)]
    if not is_broken(text):
        known = ".".join(map(str, RECBOLE_BROKEN_UP_TO))
        return [Problem(f"RecBole {text} is newer than {known}: it is neither repaired nor tested", INSTALL_RECBOLE)]
    return []


def _torchvision(found: Mapping[str, str | None]) -> list[Problem]:
    """A torchvision that was built for another PyTorch fails to import, and with it every image encoder."""
    if found["torchvision"] is None:
        return []
    for line in requires("torchvision") or ():
        wanted = re.fullmatch(r"torch\s*\(?==\s*([\d.]+)\)?", line.strip())
        if wanted and wanted[1] != (found["torch"] or "").partition("+")[0]:
            what = f"torchvision {found['torchvision']} was built for torch {wanted[1]}, and torch is {found['torch']}"
            return [
                Problem(f"image encoders: {what}", f"pip install torch=={wanted[1]}, or pip install -U torchvision")
            ]
    return []


_OPTIONAL = {
    "numba": ("numba", "training on a processor is slower", "pip install -U numba"),
    "ray": ("ray.tune", "tuning with ray", NEWER_RAY),
    "sentence-transformers": ("sentence_transformers", "text encoders", "pip install -U sentence-transformers"),
    "fastapi": ("fastapi", "the service", "pip install -U 'recbole-mmm4rec[serve]'"),
    "onnxruntime": ("onnxruntime", "the export to ONNX", "pip install -U 'recbole-mmm4rec[export]'"),
    "faiss-cpu": ("faiss", "the export of an index", "pip install -U 'recbole-mmm4rec[export]'"),
    "huggingface_hub": ("huggingface_hub", "model hubs", "pip install -U 'recbole-mmm4rec[hub]'"),
}
"""Package → the module that is asked for, what needs it, and what to do where it is there and cannot be imported."""


def _broken_imports(found: Mapping[str, str | None]) -> list[Problem]:
    problems = []
    for name in _NEEDED:
        if found[name] and (why := why_not_imported(name)):
            again = f"pip install --force-reinstall {name}"
            problems.append(Problem(f"{name} {found[name]} cannot be imported ({why})", again, fatal=True))
    for package, (module, use, way_out) in _OPTIONAL.items():
        if found[package] and (why := why_not_imported(module)):
            problems.append(Problem(f"{use}: {package} {found[package]} cannot be imported ({why})", way_out))
    return problems


def why_not_imported(module: str) -> str:
    """In words, cut at 200 characters; empty where it can be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # a package that does not fit its neighbours fails in many ways
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return ""
