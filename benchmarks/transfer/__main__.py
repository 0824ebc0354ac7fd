"""How much pre-training brings to another shop, against the amount of source data.

    python -m benchmarks.transfer --data dataset --target scientific --sources office ml-100k --out build/transfer

MMM4Rec, the network alone (`neighbour_weight: 0`), text only, one layer, is pre-trained on nothing, on growing shares
of the first source's users, and on that source merged with each further one. Every kept checkpoint is scored on the
target without training; the last one of each source is fine-tuned with the settings of a training from scratch. For the
largest source there are variants: no ID tables, a tenth of the learning rate for what was transferred, earlier
checkpoints.

OUT/runs.jsonl has a line a finished run, on disk before the next one begins. Killed or interrupted, the same command
does what is missing; a run that was cut off is trained anew, so that no figure depends on the interruption. Other data,
settings or versions begin anew. OUT/table.md, curves.svg and curves.png come at the end; --report writes them of what
is there (matplotlib needed). Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.results_log import RunLog, made_with
from benchmarks.standing import standing_in
from benchmarks.suite import say
from benchmarks.transfer.plan import Checkpoints, Run, plan
from benchmarks.transfer.plot import draw
from benchmarks.transfer.report import Found, report
from benchmarks.transfer.sets import prepare_sources, set_hashes
from dataset_prep.files.set_files import SetFiles
from recbole_mmm4rec.base.command_line import Parser, command
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import writable_folder
from recbole_mmm4rec.run.quick_start import run_recbole
from recbole_mmm4rec.settings.reading import read_yaml
from recbole_mmm4rec.settings.results import results_of

COMMON: dict[str, Any] = {
    "modalities": ["text"],
    "neighbour_weight": 0,
    "num_layers": 1,
    "valid_metric": "Hit@10",
    "resume": False,
    "show_progress": sys.stderr.isatty(),
    "state": "WARNING",
}
NEVER = 1_000_000  # epochs without a better result


def settings_of(run: Run, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """A run's settings.

    Args:
        run: any run.
        out: the folder that holds ``sets`` and ``saved``.
        options: the user's, for all runs; ``epochs`` and ``stopping_step`` among them are those of the target.
    """
    settings = {**COMMON, **options, "data_path": str(out / "sets"), "seed": run.seed}
    settings["checkpoint_dir"] = str(out / "saved" / "now")
    if run.kind == "pretrain":
        once = {"stage": "pretrain", "epochs": run.after, "stopping_step": NEVER, "pretrain_checkpoint_every": 1}
        return settings | once
    settings |= {"is_modality_bias": run.ids, "evaluate_first": True}
    if run.after:
        settings["pretrained"] = str(checkpoint_of(run.source, run.seed, run.after, out))
        if run.rate != 1:
            settings["learning_rates"] = {**(settings.get("learning_rates") or {}), "transferred": run.rate}
    return settings | {"epochs": 0} if run.kind == "zero-shot" else settings


def checkpoint_of(source: str, seed: int, after: int, out: Path) -> Path:
    """Where the checkpoint of a pre-training after so many epochs is kept."""
    return out / "saved" / f"{source}-seed{seed}-epoch{after:04d}.safetensors"


def carry_out(run: Run, target: str, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train or score, and keep a pre-training's checkpoints.

    Args:
        run: any run.
        target: name of the set to transfer to.
        out, options: see :func:`settings_of`.

    Returns:
        ``run``; ``history`` (epoch, result and seconds of each validation); ``best_epoch``; ``valid`` and ``test``,
        metric to value of that epoch.
    """
    now = out / "saved" / "now"
    shutil.rmtree(now, ignore_errors=True)
    with standing_in(out):  # RecBole's logs go where it stands
        name = run.source if run.kind == "pretrain" else target
        result = run_recbole("MMM4Rec", name, config_dict=settings_of(run, out, options))
    for after in run.keep:
        Path(result["epoch_checkpoints"][after - 1]).replace(checkpoint_of(run.source, run.seed, after, out))
    shutil.rmtree(now, ignore_errors=True)
    history = [
        {"epoch": entry.epoch, "result": entry.result, "seconds": round(entry.train_seconds, 2)}
        for entry in result["valid_history"]
    ]
    test = {metric: float(value) for metric, value in (result["test_result"] or {}).items()}
    return {
        "run": asdict(run),
        "history": history,
        "best_epoch": result["best_epoch"],
        "valid": next((entry["result"] for entry in history if entry["epoch"] == result["best_epoch"]), {}),
        "test": test,
    }


def missing(runs: Sequence[Run], log: RunLog, out: Path) -> Iterator[Run]:
    """The runs that are not finished, and pre-trainings whose checkpoints somebody still needs and has removed."""
    todo = [run for run in runs if run.kind != "pretrain" and ("transfer", run.name) not in log.found]
    needed = {(run.source, run.seed) for run in todo if run.after and not _is_kept(run, out)}
    for run in runs:
        lost = run.kind == "pretrain" and (run.source, run.seed) in needed
        if lost or ("transfer", run.name) not in log.found:
            yield run


def _is_kept(run: Run, out: Path) -> bool:
    return checkpoint_of(run.source, run.seed, run.after, out).is_file()


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, write table and plot; status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    out = arguments.out.resolve()
    writable_folder(out, f"--out {arguments.out}")
    single, merged, shares = (
        tuple(sorted(set(given))) for given in (arguments.checkpoints, arguments.merged_checkpoints, arguments.shares)
    )
    options = {
        "stopping_step": arguments.patience,
        **(read_yaml(arguments.settings, "--settings") if arguments.settings else {}),
    }
    sources = prepare_sources(arguments.data, arguments.target, arguments.sources, shares, out / "sets")
    runs = plan(sources, Checkpoints(single, merged), arguments.seeds)
    hashes = set_hashes([SetFiles(name, out / "sets" / name) for name in (arguments.target, *arguments.sources)])
    where, file = machine.stamp("cpu"), out / "runs.jsonl"
    run = {key: where[key] for key in ("hardware", "software")}
    run |= {"results": results_of("MMM4Rec", options), "settings": options, "hashes": hashes}
    if arguments.report:
        made = made_with(file)
        for key in ("settings", "hashes"):
            if made is None or made.get(key) != run[key]:
                there = "is not there" if made is None else f"has other {key}: {made.get(key)}, not {run[key]}"
                raise UserError(f"--report: {file} {there}; give the options and the data that it was made with")
        run, where = made, {**where, **{key: made[key] for key in ("hardware", "software")}}
    log = RunLog(file, run)
    todo = [] if arguments.report else list(missing(runs, log, out))
    for number, run in enumerate(todo, len(runs) - len(todo) + 1):
        say(f"{number} of {len(runs)}: {run.name}")
        log.add("transfer", run.name, where, carry_out(run, arguments.target, out, options))
    found = [Found(**log.found["transfer", run.name]["result"]) for run in runs if ("transfer", run.name) in log.found]
    users = len({user for user, _, _ in SetFiles(arguments.target, out / "sets" / arguments.target).interactions()})
    text = report(found, sources, users, f"{where['hardware']}; {where['software']}; {where['date']}")
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    draw(found, sources, out / "curves")
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.transfer", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("dataset"), metavar="PATH", help="folder of the data sets (%(default)s)")
    add("--target", required=True, metavar="SET", help="the shop to transfer to")
    add("--sources", required=True, nargs="+", metavar="SET", help="the first in shares, then with each further one")
    add("--out", type=Path, default=machine.ROOT / "build" / "transfer", help="folder of all that comes out")
    add("--seeds", type=int, nargs="+", default=[2020], metavar="N", help="(%(default)s)")
    shares = {"type": _from(1, 100), "nargs": "+", "metavar": "PER_CENT"}
    add("--shares", default=[25, 50, 100], help="of the first source's users (%(default)s)", **shares)
    epochs = {"type": _from(1), "nargs": "+", "metavar": "EPOCHS"}
    add("--checkpoints", default=[2, 5, 10], help="of pre-training; the last is its length (%(default)s)", **epochs)
    add("--merged-checkpoints", default=[2], help="the same for merged sources (%(default)s)", **epochs)
    add("--patience", type=_from(0), default=4, metavar="N", help="stopping_step on the target (%(default)s)")
    add("--settings", type=Path, metavar="FILE", help="further settings of all runs (YAML)")
    add("--report", action="store_true", help="run nothing, write table and plot of what is there")
    return parser


def _from(low: int, high: int | None = None) -> Any:
    """A whole number in a range, for argparse."""

    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
            end = "" if high is None else f" to {high}"
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low}{end}")
        return int(text)

    return whole


if __name__ == "__main__":
    sys.exit(main())
