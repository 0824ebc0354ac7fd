"""What must stand before anything is imported, and fixtures that several folders use."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from recbole_mmm4rec.base import openmp

# Triton reads this once, at its import: with it mamba-ssm's kernels run on the CPU, in Triton's interpreter.
os.environ["TRITON_INTERPRET"] = "1"
os.environ["MAMBA_DETERMINISTIC"] = "1"  # one tile size for each kernel instead of trying them all
# Tests stand in a folder of their own, and so do the processes that they start.
_PATHS = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _PATHS))
# A shell starts what it puts into the background with SIGINT ignored, and so would be what a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors this small lose more to handing over than they win
settings.register_profile("any machine", deadline=None)  # how long an example takes says nothing
settings.load_profile("any machine")
openmp.rest_soon()  # what a test does with two threads shall not wait awake


# files that take minutes, each by one process: begun last, they would leave the others idle
_LONG = ("test_distributed_launch.py", "test_tune_command.py", "test_tune_ray.py")
# files that say nothing about a version of Python or of a package: rooms and pages of this repository, its wheel (which
# CI tries on the newest Python anyway), a page in a browser
_PINNED = ("test_rooms.py", "test_pages.py", "test_packaging.py", "test_page.py")
# rooms that compute, and call little of any package but PyTorch, NumPy and RecBole: what other versions of these do to
# them shows in the trainings, exports and services of the other rooms; `make table` runs these, too
_COMPUTING = ("network", "losses", "training", "transfer", "rivals", "compare", "benchmarks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; mark what needs mamba-ssm's kernels, and what tells nothing of a Python."""
    for item in items:
        if "interpreter" in getattr(item, "fixturenames", ()):
            item.add_marker("kernels")
        if item.path.name in _PINNED or set(_COMPUTING) & set(item.path.relative_to(item.config.rootpath).parts):
            item.add_marker("pinned")
        if item.path.name in _LONG[:2] or "kill" in item.path.stem.split("_"):
            item.add_marker("long")
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--new-processes``: no test copies its process where a user's command would begin a new one."""
    parser.addoption("--new-processes", action="store_true", help="begin every process anew; slower")


@pytest.fixture(scope="module")
def forked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Processes of this Python that a module starts are copies of this one (tests/helpers/forking.py)."""
    import forking

    with pytest.MonkeyPatch.context() as patch:
        if not request.config.getoption("--new-processes"):
            patch.setattr(subprocess, "Popen", forking.Forked)
            patch.setattr(multiprocessing, "get_context", forking.context)
        yield


@pytest.fixture(scope="session", autouse=True)
def _elsewhere_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Logs that RecBole writes where it stands do not land in the repository."""
    before = os.getcwd()
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))  # nor a key in the user's own folder
    os.chdir(tmp_path_factory.mktemp("standing"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def kiosk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny shop (``dataset/``), and what one training has left (``model/``, ``checkpoint``); read only.

    Made once for a whole test run, also where several processes share it.
    """
    from model_shop import trained_once

    base = tmp_path_factory.getbasetemp()
    return trained_once((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once")


@pytest.fixture(scope="session")
def model_folder(kiosk: Path) -> Path:
    """A model folder with texts, pictures, time and neighbours; nobody writes to it."""
    return (kiosk / "model").resolve()


@pytest.fixture
def folder_copy(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of :func:`model_folder` that a test may change."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and checkpoints go to the test's own folder, and RecBole sees no command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run_recbole.py"])


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mamba-ssm's kernels, run by Triton's interpreter, ask for a GPU where there is none."""
    monkeypatch.setattr("torch.cuda.device", lambda *_: contextlib.nullcontext())
    properties = types.SimpleNamespace(multi_processor_count=1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda *_: properties)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a Ray cluster of two processors."""
    from ray.cluster_utils import Cluster

    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield str(running.address)
    finally:
        running.shutdown()
