"""`python -m benchmarks`: run the measurements, print their tables and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, page, results_log, suite

INTERRUPTED = 130
STATE = machine.STATE


class StopError(Exception):
    """The run ends here with this exit code; what it says was said."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was chosen.

    Returns:
        0; 1 where a measurement failed; 2 for a user's mistake; 130 when interrupted.
    """
    chosen = _parse(arguments)
    if chosen.contract:
        from benchmarks import contract

        print(contract.__doc__)
        return 0
    options = suite.Options(**{field.name: getattr(chosen, field.name) for field in dataclasses.fields(suite.Options)})
    stamp = machine.stamp(options.device)
    identity = {
        "suites": chosen.only,
        "options": dataclasses.asdict(options),
        "machine": {key: stamp[key] for key in ("hardware", "software")},
    }
    log = results_log.RunLog(STATE / f"{'quick' if options.quick else 'run'}.{options.device}.jsonl", identity)
    if log.found:
        say(f"going on after {len(log.found)} measurements of an interrupted run ({log.path}; delete it to begin anew)")
    begin = time.monotonic()
    try:
        failed = [cell for name in chosen.only for cell in run_suite(name, options, log, stamp, chosen.results)]
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where it was")
        return INTERRUPTED
    except StopError as stop:
        return int(str(stop))
    log.finish()
    if not options.quick or chosen.out:
        out = chosen.out or machine.ROOT / "docs" / "benchmarks.md"
        out.write_text(page.page(chosen.results, machine.ROOT / "benchmarks" / "by_hand.md"), encoding="utf-8")
        say(f"written: {out}")
    say(f"{(time.monotonic() - begin) / 60:.1f} minutes" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run_suite(
    name: str, options: suite.Options, log: results_log.RunLog, stamp: dict[str, str], results: Path
) -> list[str]:
    """Run what is left of a suite, print its table and publish its results.

    Returns:
        the cells that failed.

    Raises:
        StopError: a user's mistake.
    """
    found = suite.load(name)
    cells = found.cells(options)
    for number, cell in enumerate(cells):
        if (name, cell) in log.found:
            continue
        say(f"{name} {number + 1}/{len(cells)}: {cell}")
        log.add(name, cell, stamp, run_cell(name, cell, options))
    entries = [log.found[name, cell] for cell in cells]
    results_log.publish(results, name, options.device, entries)
    print(page.section(name, options.device, entries), flush=True)
    return [f"{name}: {entry['cell']}" for entry in entries if "failed" in entry["result"]]


def run_cell(name: str, cell: str, options: suite.Options) -> Any:
    """One measurement in a fresh process; ``{"failed": why}`` where it broke.

    Raises:
        StopError: the process complained about a user's mistake.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        job = [name, cell, json.dumps(dataclasses.asdict(options)), str(result)]
        code = _run_to_its_end([sys.executable, "-m", "benchmarks.cell", *job])
        if code == 2:
            raise StopError("2")
        if code:
            return {"failed": f"exit {code}"}
        return json.loads(result.read_text(encoding="utf-8"))


def _run_to_its_end(command: list[str]) -> int:
    """Run a command; if we are interrupted, end it together with everything that it has started."""
    with subprocess.Popen(command, cwd=machine.ROOT, start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    defaults = suite.Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    names = ", ".join(suite.SUITES)
    add("--only", nargs="+", metavar="NAME", help=f"suites to run (default: all): {names}")
    add("--device", choices=("cpu", "cuda"), default=defaults.device, help="default: %(default)s")
    add("--quick", action="store_true", help="few repetitions; publishes nothing, writes the page only with --out")
    add("--against", default=defaults.against, metavar="PATH", help="another implementation for the steps")
    add("--contract", action="store_true", help="print what a file for --against has to offer")
    add("--data-path", default=defaults.data_path, help='folder above the data set "scientific" (default: %(default)s)')
    add("--max-seconds", type=float, default=defaults.max_seconds, help="training of each peer (default: %(default)s)")
    add("--rectools-python", default=defaults.rectools_python, metavar="PATH", help="Python that has RecTools")
    add("--results", type=Path, help="folder of finished results (default: benchmarks/results)")
    add("--out", type=Path, help="the page (default: docs/benchmarks.md)")
    chosen = parser.parse_args(arguments)
    possible = tuple(suite.SUITES) if chosen.device == "cpu" else suite.ON_A_GPU
    chosen.only = chosen.only or list(possible)
    for name in chosen.only:
        if name not in possible:
            parser.error(f"--only {name}: on {chosen.device} there are {', '.join(possible)}")
    if not Path(chosen.against).is_file():
        parser.error(f"--against {chosen.against}: there is no such Python file")
    if chosen.max_seconds <= 0:
        parser.error(f"--max-seconds must be above 0, not {chosen.max_seconds}")
    for name in ("results", "out"):
        given = getattr(chosen, name)
        why = None if given is None else machine.unwritable(given)
        if why:
            parser.error(f"--{name} {given}: nothing can be written there ({why})")
    if chosen.against != defaults.against:
        _check_contract(parser, Path(chosen.against))
    for name in ("against", "data_path"):
        setattr(chosen, name, str(Path(getattr(chosen, name)).resolve()))
    chosen.results = chosen.results or (STATE / "quick" if chosen.quick else machine.ROOT / "benchmarks" / "results")
    return chosen


def _check_contract(parser: argparse.ArgumentParser, path: Path) -> None:
    """Find out before the first measurement that a file does not offer what it has to."""
    from benchmarks import contract
    from recbole_mmm4rec.base.errors import UserError

    try:
        contract.load(path)
    except UserError as error:
        parser.error(str(error))


def say(text: str) -> None:
    """Progress, on the error stream."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
