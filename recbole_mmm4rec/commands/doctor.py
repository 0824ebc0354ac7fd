"""``mmm4rec doctor``: what is installed here, what works, why not, and what to do about it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recbole_mmm4rec.base.command_line import Parser, ended

if TYPE_CHECKING:
    from recbole_mmm4rec.commands.machine import Problem


def main(argv: Sequence[str] | None = None, prog: str = "mmm4rec doctor") -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; ``sys.argv``'s by default.
        prog: what the user has typed before them.

    Returns:
        0 where a model can be trained and every backend that runs here computes what it should; 1 otherwise.
    """
    parser = Parser(
        prog=prog,
        description="Tell what is installed here, what works, why not, and what to do about it: a report of a fault "
        "begins with it.",
    )
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.add_argument("--no-self-test", action="store_true", help="leave out the backends' comparison (seconds)")
    chosen = parser.parse_args(argv)
    return ended(lambda: _run(chosen.json, not chosen.no_self_test), lambda: "nothing was written")


def _run(as_json: bool, self_test: bool) -> int:
    report = examine(self_test)
    print(json.dumps(report, indent=1) if as_json else as_text(report))
    return 0 if report["ok"] else 1


def examine(self_test: bool = True) -> dict[str, Any]:
    """Everything that the command tells, as JSON has it.

    Args:
        self_test: whether to compare the backends with the golden tensors.
    """
    from recbole_mmm4rec.commands.machine import known_problems, python_and_system, versions, why_not_imported

    found = versions()
    problems = known_problems(found)
    report: dict[str, Any] = {"python": python_and_system(), "packages": found}
    sound = all(found[name] and not why_not_imported(name) for name in ("torch", "numpy"))
    if sound:
        report |= _backends(self_test and bool(found["safetensors"]))
    if sound and found["recbole"]:
        repairs, failed = _repairs(found["recbole"])
        report["repairs"] = repairs
        problems += failed
    report["problems"] = [dataclasses.asdict(problem) for problem in problems]
    wrong = any(outcome["passed"] is False for outcome in report.get("self_test", ()))
    report["ok"] = not wrong and not any(problem.fatal for problem in problems)
    return report


def _backends(self_test: bool) -> dict[str, Any]:
    """GPUs, the scan that a run would take on each kind of device, and how every backend did."""
    from recbole_mmm4rec.commands.machine import gpus
    from recbole_mmm4rec.commands.self_test import run_self_test
    from recbole_mmm4rec.network.ops.choice import backend_and_reason

    names, why_not = gpus()
    devices = ("cuda", "cpu") if names else ("cpu",)
    scans = {device: backend_and_reason("auto", device) for device in devices}
    return {
        "gpus": names,
        "no_gpu": why_not,
        "scan": {device: {"backend": backend, "why": why} for device, (backend, why) in scans.items()},
        "self_test": [dataclasses.asdict(outcome) for outcome in run_self_test(devices)] if self_test else [],
    }


def _repairs(recbole: str) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The repairs as they apply to this RecBole, and what could not be repaired."""
    from recbole_mmm4rec.commands.machine import Problem
    from recbole_mmm4rec.compat import is_broken
    from recbole_mmm4rec.compat.table import all_repairs, apply_all

    if not is_broken(recbole):
        return [], []
    failed = apply_all()
    repairs = [
        {**dataclasses.asdict(repair), "applied": not failed.keys() & set(repair.modules)} for repair in all_repairs()
    ]
    problems = [
        Problem(f"{module} cannot be imported and repaired ({why})", "pip install -U recbole-mmm4rec", fatal=True)
        for module, why in failed.items()
    ]
    return repairs, problems


def as_text(report: Mapping[str, Any]) -> str:
    """The report for a person: :func:`examine`'s, a block a subject."""
    packages = report["packages"]
    lines = [_row("Python", report["python"])]
    lines += [_row(name, version) for name, version in packages.items() if version]
    lines.append(_row("not installed", ", ".join(name for name, version in packages.items() if not version) or "none"))
    if "gpus" in report:
        lines += ["", _row("GPU", ", ".join(report["gpus"]) or f"none: {report['no_gpu']}")]
        lines += [_row(f"scan on {on}", f"{scan['backend']} ({scan['why']})") for on, scan in report["scan"].items()]
    if report.get("repairs"):
        lines += ["", f"RecBole's repairs, {len(report['repairs'])}, with its public issues where there are any"]
        lines += [_repair_row(repair) for repair in report["repairs"]]
    if report.get("self_test"):
        lines += ["", "Self-test: the published program's scores and gradients, relative errors"]
        lines += [_test_row(outcome) for outcome in report["self_test"]]
    lines += ["", "Problems" if report["problems"] else "No problem found."]
    lines += [f"  {problem['what']}\n    way out: {problem['way_out']}" for problem in report["problems"]]
    if not report["ok"]:
        lines.append("Something is broken: no result from here should be believed.")
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    return f"{name:<22}{text}"


def _repair_row(repair: Mapping[str, Any]) -> str:
    issues = " ".join(f"#{number}" for number in repair["issues"])
    return f"  {'' if repair['applied'] else 'NOT APPLIED: '}{repair['what']}{f' ({issues})' if issues else ''}"


def _test_row(outcome: Mapping[str, Any]) -> str:
    name = f"  {outcome['backend']} on {outcome['device']}"
    if outcome["passed"] is None:
        return _row(name, f"does not run here: {outcome['why']}")
    verdict = "passed" if outcome["passed"] else "FAILED"
    if outcome["scores"] is None:
        return _row(name, f"{verdict}: {outcome['why']}")
    errors = f"scores {outcome['scores']:.0e}, gradients {outcome['gradients']:.0e}"
    return _row(name, f"{verdict} ({errors}, {outcome['seconds']:.1f} s)")
