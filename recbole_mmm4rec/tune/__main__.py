"""``python -m recbole_mmm4rec.tune``: search settings of any RecBole model by its validation."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.command_line import Parser, ended, whole
from recbole_mmm4rec.base.command_names import called
from recbole_mmm4rec.base.errors import UserError, nearest
from recbole_mmm4rec.base.installed import check_installed
from recbole_mmm4rec.base.locks import alone

_EXAMPLES = """\
examples:
  %(prog)s --model MMM4Rec --dataset ml-100k --max-evals 30 --algo bayes
  %(prog)s --model SASRec --dataset shop --space mine.yaml --algo exhaustive --epochs=50
  %(prog)s --dataset shop --tool ray --asha --max-evals 100 --gpus-per-trial 0.5

Killed or interrupted, the same command goes on where it was. The test set is looked at with --test-best alone."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m recbole_mmm4rec.tune") -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; ``sys.argv``'s by default.
        prog: what the user has typed before them.

    Returns:
        0; 1 where no trial has a score or the last training failed; 2 after a user's mistake, told in one line; 130
        when interrupted, after everything has been written.
    """
    chosen, rest = _parser(prog).parse_known_args(list(sys.argv[1:] if argv is None else argv))
    return ended(lambda: _run(chosen, rest), prog=prog, terminable=True)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Search settings of any RecBole model, judged by its validation.",
        epilog=_EXAMPLES,
    )
    add = parser.add_argument
    add("-m", "--model", metavar="NAME", help="a model of RecBole (default: the config files', else MMM4Rec)")
    add("-d", "--dataset", metavar="NAME", help="a data set: the folder NAME in data_path")
    add("--space", metavar="FILE", help="what is searched, YAML or RecBole's format (default: properties/tune)")
    add("--tool", choices=("hyperopt", "ray"), default="hyperopt", help="one trial at a time, or several (%(default)s)")
    add("--algo", choices=("random", "bayes", "exhaustive"), default="random", help="how to choose (%(default)s)")
    add("--max-evals", type=whole, metavar="N", help="trials in all; without it an exhaustive search makes all")
    add("--search-seed", type=int, default=0, metavar="N", help="of the draws; --seed is the trainings' (%(default)s)")
    add("--out", type=Path, metavar="DIR", help="folder of everything that comes out (default: tune/MODEL-DATASET)")
    add("--config_files", default="", metavar="FILES", help="YAML files with fixed settings, separated by blanks")
    add("--retry-failed", action="store_true", help="try once more what failed before")
    add("--test-best", action="store_true", help="at the end train the best once more, keep it, and test it")
    ray = parser.add_argument_group("with --tool ray")
    ray.add_argument("--ray-address", metavar="ADDRESS", help="of a running cluster (default: one on this machine)")
    ray.add_argument("--cpus-per-trial", type=_share, metavar="X", help="share of a trial (default: 1)")
    ray.add_argument("--gpus-per-trial", type=_share, metavar="X", help="share of a trial, such as 0.5 (default: 0)")
    ray.add_argument("--max-concurrent", type=whole, metavar="N", help="trials at a time (default: as many as fit)")
    ray.add_argument("--asha", action="store_true", default=None, help="end trials early that are behind (ASHA)")
    ray.add_argument("--grace-epochs", type=whole, metavar="N", help="ASHA: epochs that each trial gets (default: 1)")
    ray.add_argument("--reduction", type=float, metavar="X", help="ASHA: one trial in X goes on (default: 4)")
    parser.add_argument_group("settings", "--KEY=VALUE: fixed, for all trials; wins over --config_files")
    return parser


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number, at least 0")
    return value


def _run(chosen: argparse.Namespace, rest: Sequence[str]) -> int:
    from recbole_mmm4rec.run.cli import DEFAULT_MODEL, parse_arguments, parse_value

    options = _ray_options(chosen)
    if chosen.search_seed < 0:
        raise UserError(f"--search-seed {chosen.search_seed}: it must be at least 0")
    if chosen.max_evals is None and chosen.algo != "exhaustive":
        raise UserError(
            f"--max-evals is missing: --algo {chosen.algo} has no end of its own; give the number of trials"
        )
    check_installed(("hyperopt", "matplotlib", "sklearn"), "tune")

    from recbole_mmm4rec.settings.packaged import packaged
    from recbole_mmm4rec.tune.space_files import read_space, space_file
    from recbole_mmm4rec.tune.study import make_study, named_model

    files = [packaged(file) for file in chosen.config_files.split()]
    model = chosen.model or named_model(files) or DEFAULT_MODEL
    _check_options(rest, vars(chosen), model)
    given = {key: parse_value(value) for key, value in parse_arguments(rest).items()}
    space = read_space(chosen.space or space_file(model))
    study = make_study(model, chosen.dataset, files, given, space)
    out = chosen.out or Path("tune") / f"{study.model}-{study.dataset}"
    with alone(out, "search"):
        return _search(chosen, options, study, out.resolve())


def _check_options(rest: Iterable[str], options: Mapping[str, Any], model: str) -> None:
    """Refuse what is nearly an option of this command: taken for a setting it would have no effect.

    Args:
        rest: arguments that are none of its options.
        options: their names, with low lines.
        model: whose settings are no mistakes.
    """
    from recbole_mmm4rec.settings.keys import known_keys

    for word in rest:
        key = word.partition("=")[0].removeprefix("--")
        if not word.startswith("--") or key in known_keys(model):
            continue
        hit = nearest(key.replace("-", "_"), options)
        if hit:
            spelt = hit if hit == "config_files" else hit.replace("_", "-")
            raise UserError(f"{word}: there is no such option; did you mean '--{spelt}'?")


def _ray_options(chosen: argparse.Namespace) -> Any:
    """The options of Ray, None for a search without it."""
    names = ("ray_address", "cpus_per_trial", "gpus_per_trial", "max_concurrent", "asha", "grace_epochs", "reduction")
    given = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    if chosen.tool != "ray":
        for name in given:
            raise UserError(f"--{name.replace('_', '-')} belongs to --tool ray; add that, or leave it out")
        return None
    for name in ("grace_epochs", "reduction"):
        if name in given and not chosen.asha:
            raise UserError(f"--{name.replace('_', '-')} belongs to --asha; add that, or leave it out")
    if not given.get("reduction", 4.0) > 1:
        raise UserError(f"--reduction {given['reduction']:g}: it must be above 1")
    if given.get("cpus_per_trial", 1.0) == 0:
        raise UserError("--cpus-per-trial 0: it must be above 0")
    if str(chosen.ray_address).startswith("ray://"):
        raise UserError(
            f"--ray-address {chosen.ray_address}: Ray's client cannot run this search; run it on a machine of the "
            "cluster, with the address of its head, such as 10.0.0.7:6379"
        )
    check_installed(("ray",), "tune")

    from recbole_mmm4rec.tune.ray_search import RayOptions

    return RayOptions(
        address=chosen.ray_address,
        cpus=given.get("cpus_per_trial", 1.0),
        gpus=given.get("gpus_per_trial", 0.0),
        most=chosen.max_concurrent,
        asha=bool(chosen.asha),
        grace_epochs=given.get("grace_epochs", 1),
        reduction=given.get("reduction", 4.0),
    )


def _search(chosen: argparse.Namespace, options: Any, study: Any, out: Path) -> int:
    from recbole_mmm4rec.tune.proposals import Proposals
    from recbole_mmm4rec.tune.ray_search import search_with_ray
    from recbole_mmm4rec.tune.report import write_results
    from recbole_mmm4rec.tune.search import Board, search_one_by_one
    from recbole_mmm4rec.tune.study import check_same, claim
    from recbole_mmm4rec.tune.trials import Trials

    check_same(study, out)
    trials = Trials(out / "trials.jsonl", study.space)
    again = [record["params"] for record in trials.failed()] if chosen.retry_failed else []
    proposals = Proposals(study.space, chosen.algo, chosen.search_seed, chosen.max_evals, trials, again)
    claim(study, out)
    board = Board(study, proposals, out)
    try:
        if options is None:
            search_one_by_one(board)
        else:
            search_with_ray(board, options)
    finally:
        board.close()
        trials = Trials(
            trials.path, study.space
        )  # as it is on disk: Ctrl-C may have come when the last line was just written
        leader = write_results(study, trials.all(), out)
    if leader is None:
        print(f"no trial has a score; {out / 'trials.csv'} says why", file=sys.stderr)
        return 1
    tested = _test(study, leader, out) if chosen.test_best else True
    if chosen.test_best:
        write_results(study, trials.all(), out)
    print(f"best {study.valid_metric} {leader['score']:.4f}, trial {leader['trial']}: {leader['params']}")
    print(f"written: {out / 'report.md'}")
    print(f"use it: {called('train')} --config_files {out / 'best.yaml'}")
    return 0 if tested else 1


def _test(study: Any, leader: Any, out: Path) -> bool:
    """Train the best once more and test it, unless that was done before."""
    from recbole_mmm4rec.base.files import whole_file
    from recbole_mmm4rec.tune.report import read_test
    from recbole_mmm4rec.tune.worker import Worker

    file = out / "test.json"
    before = read_test(file)
    if before is not None and before["trial"] == leader["trial"]:
        return True
    worker = Worker(out / "logs")
    try:
        found = worker.run("test", study.settings(leader["params"]), str(out / "saved"))
    finally:
        worker.close()
    if found["status"] == "failed":
        print(f"--test-best: the training failed: {found['error']}", file=sys.stderr)
        return False
    with whole_file(file, durable=True) as whole:
        whole.write(json.dumps({"trial": leader["trial"], **found}).encode())
    return True


if __name__ == "__main__":
    raise SystemExit(main())
