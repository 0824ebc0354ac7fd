"""``mmm4rec doctor``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from shop import REPOSITORY

from recbole_mmm4rec import compat
from recbole_mmm4rec.commands import doctor, machine, self_test
from recbole_mmm4rec.compat.table import all_repairs, apply_all

GOOD = dict.fromkeys(machine.PACKAGES) | {
    "recbole": "1.2.1",
    "torch": "2.14.1",
    "numpy": "2.5.5",
    "pandas": "3.1.1",
    "pyarrow": "26.0.1",
    "safetensors": "0.8.0",
}


def test_the_report_as_json_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert report["scan"]["cpu"]["backend"] in ("numba", "torch")
    passed = {outcome["backend"] for outcome in report["self_test"] if outcome["passed"]}
    assert {"torch", "recurrence", report["scan"]["cpu"]["backend"]} <= passed
    assert all(repair["applied"] for repair in report["repairs"])
    assert report["ok"] is True


def test_the_report_for_a_person_names_repairs_issues_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--no-self-test"]) == 0
    text = capsys.readouterr().out
    assert "Order interactions by their time stamps before those lose their last digits. (#2204 #1653)" in text
    assert "scan on cpu" in text
    assert "Self-test" not in text


def test_every_repair_is_in_the_table_and_says_what_it_does() -> None:
    repairs = all_repairs()
    named = {reference.partition(":")[2] for references in compat.REPAIRS.values() for reference in references}
    assert named | {"stand_in_for_ray", "put_off_sklearn"} <= {repair.name for repair in repairs}
    assert all(repair.what.endswith(".") and repair.modules for repair in repairs)
    assert ("fill_sparse_matrices", (2034,)) in {(repair.name, repair.issues) for repair in repairs}
    assert apply_all() == {}


def test_a_repair_that_cannot_be_applied_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compat.REPAIRS, "recbole.no_such_module", compat.REPAIRS["recbole.sampler.sampler"])
    report = doctor.examine(self_test=False)
    assert report["ok"] is False
    (problem,) = (one for one in report["problems"] if "recbole.no_such_module" in one["what"])
    assert problem["fatal"]
    assert [one["name"] for one in report["repairs"] if not one["applied"]] == ["share_empty_sets"]
    assert "NOT APPLIED" in doctor.as_text(report)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"recbole": None}, "RecBole is not installed"),
        ({"recbole": "1.3.0"}, "RecBole 1.3.0 is newer than 1.2.1"),
        ({"torch": "2.5.1"}, "PyTorch is older than 2.6"),
        ({"torch": None}, "torch is not installed"),
        ({"numpy": "1.26.4"}, "pyarrow 26 refuses NumPy 1"),
    ],
)
def test_bad_combinations_are_known(changes: dict[str, str | None], what: str) -> None:
    assert machine.known_problems(GOOD) == []
    (problem,) = machine.known_problems({**GOOD, **changes})
    assert problem.what.startswith(what)
    assert "pip install" in problem.way_out


def test_a_torchvision_for_another_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "requires", lambda name: ["numpy", "torch==2.14.1"])
    assert machine.known_problems({**GOOD, "torchvision": "0.29.1"}) == []
    (problem,) = machine.known_problems({**GOOD, "torchvision": "0.29.1", "torch": "2.13.0+cpu"})
    assert "built for torch 2.14.1, and torch is 2.13.0" in problem.what


def refuse(monkeypatch: pytest.MonkeyPatch, module: str, error: Exception) -> None:
    """Let a module that is there not be imported."""
    real = machine.importlib.import_module

    def imported(name: str) -> Any:
        if name == module:
            raise error
        return real(name)

    monkeypatch.setattr(machine.importlib, "import_module", imported)


def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "numba", ImportError("Numba needs NumPy 2.4 or less"))
    (problem,) = machine.known_problems({**GOOD, "numba": "0.61.0"})
    assert problem.what.endswith("numba 0.61.0 cannot be imported (ImportError: Numba needs NumPy 2.4 or less)")
    assert not problem.fatal


def test_a_pytorch_that_cannot_be_imported_is_told_and_nothing_of_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = OSError("libcudart.so.12: cannot open shared object file: No such file or directory")
    refuse(monkeypatch, "torch", missing)
    assert doctor.main(["--no-self-test"]) == 1
    told = capsys.readouterr().out
    assert "cannot be imported (OSError: libcudart.so.12: cannot open shared object file" in told
    assert "pip install --force-reinstall torch" in told
    assert "scan on" not in told


def test_every_package_of_an_extra_that_runs_is_told() -> None:
    """What users install for a purpose of theirs; developers' tools are none of the report's business."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for extra in ("serve", "export", "hub"):
        (line,) = re.findall(rf"^{extra} = \[(.*)\]$", text, re.MULTILINE)
        assert set(re.findall(r'"([\w-]+)', line)) <= set(machine.PACKAGES), extra


def test_wrong_numbers_fail_the_self_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight of the published network is changed by a thousandth."""
    golden = self_test.golden_folder()
    config, tensors = self_test.read_golden(golden)
    name = next(name for name in tensors if name.startswith("model.") and name.endswith("in_proj.weight"))
    tensors[name] = tensors[name] * 1.001
    monkeypatch.setattr(self_test, "BACKENDS", ("torch",))
    monkeypatch.setattr(self_test, "read_golden", lambda folder: (config, tensors))
    (outcome,) = self_test.run_self_test(("cpu",))
    assert outcome.passed is False
    assert outcome.scores is not None
    assert outcome.scores > 1e-5


def test_a_backend_that_ends_with_an_error_fails_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "network_from_published", lambda *_: 1 / 0)
    outcomes = self_test.run_self_test(("cpu",))
    assert {outcome.why for outcome in outcomes if outcome.passed is False} == {"ZeroDivisionError: division by zero"}
