"""Trials side by side with Ray, on this machine or a cluster, bad ones ended early (ASHA, arXiv 1810.05934)."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.installed import way_to_ray
from recbole_mmm4rec.tune.search import Board
from recbole_mmm4rec.tune.study import Study


@dataclass(frozen=True)
class RayOptions:
    """How Ray runs trials.

    Attributes:
        address: of a running cluster; None starts Ray on this machine and ends it afterwards.
        cpus, gpus: share of a trial, which may be a fraction.
        most: trials at a time; None for as many as there is room for.
        asha: end trials early that are behind others after as many epochs.
        grace_epochs: epochs that every trial gets.
        reduction: of the trials that get so far, one in this many goes on.
    """

    address: str | None
    cpus: float
    gpus: float
    most: int | None
    asha: bool
    grace_epochs: int
    reduction: float


def search_with_ray(board: Board, options: RayOptions) -> None:
    """Train trials side by side until there are no more.

    Raises:
        UserError: no Ray, no cluster, or one that has not the room for a single trial.
    """
    storage = board.out / "ray"
    ray = _connect(options.address)
    try:
        _check_room(ray, options)
        _tune(board, options, storage)
    finally:
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)  # Ray's own copies of what trials.jsonl holds


def _connect(address: str | None) -> Any:
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the bar shows what happens; Ray prints tables over it
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no second set of result files
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # a trial stands where the command does
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the search at once; records are on disk
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            import ray
            import ray.tune
    except (ImportError, AttributeError) as error:  # absent, or without pkg_resources or names that NumPy 2 dropped
        raise UserError(f"--tool ray: ray cannot be imported ({error}): {way_to_ray(error)}") from None
    try:
        if address:
            _knock(address)
        dashboard = None if address else False
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=dashboard)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise UserError(
            f"--ray-address {address}: no Ray cluster there ({text}); start one with 'ray start --head'"
        ) from None
    return ray


def _knock(address: str) -> None:
    """Fails within seconds where nobody listens; Ray itself would try for minutes."""
    import socket

    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _check_room(ray: Any, options: RayOptions) -> None:
    """Ray would wait for ever for a processor or GPU that the cluster does not have."""
    most = {
        kind: max(node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]) for kind in ("CPU", "GPU")
    }
    for kind, wanted, option in (("CPU", options.cpus, "--cpus-per-trial"), ("GPU", options.gpus, "--gpus-per-trial")):
        if wanted > most[kind]:
            raise UserError(f"{option} {wanted:g}: no machine of the cluster has more than {most[kind]:g}; take less")


def _tune(board: Board, options: RayOptions, storage: Path) -> None:
    from ray import tune

    study = board.study
    scheduler = _asha(board, options) if options.asha else None
    trainable = tune.with_resources(run_trial, {"cpu": options.cpus, "gpu": options.gpus})
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric="now",
            mode="max" if study.bigger else "min",
            search_alg=_classes().Searcher(board, options),
            scheduler=scheduler,
            num_samples=-1,  # until the searcher says that it has finished
            max_concurrent_trials=options.most,
            reuse_actors=False,  # Ray loses the next trial where one that it ended is still in its epoch
            **({"chdir_to_trial_dir": False} if _is_old(tune) else {}),
        ),
        run_config=_run_config(name="trials", storage_path=str(storage), callbacks=[_classes().Recorder(board)]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner.fit()


def _is_old(tune: Any) -> bool:
    """Whether this Ray is one of RecBole's, up to 2.6.3, which has settings of a run and reports in ``ray.air``."""
    return not hasattr(tune, "RunConfig")


def _run_config(**given: Any) -> Any:
    """Ray's settings of a run, with nothing printed and no copies of result files between machines."""
    from ray import tune

    if _is_old(tune):
        from ray import air

        return air.RunConfig(sync_config=tune.SyncConfig(syncer=None), verbose=0, **given)
    return tune.RunConfig(verbose=0, **given)


def _report(found: dict[str, Any]) -> None:
    """Tell Ray what a trial has reached."""
    from ray import tune

    if _is_old(tune):
        from ray.air import session

        session.report(found)
    else:
        tune.report(found)


def _asha(board: Board, options: RayOptions) -> Any:
    """ASHA that knows what earlier trials of this search had reached, also those of a command that was killed."""
    from ray.tune.schedulers import ASHAScheduler

    study = board.study
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric="now",
        mode="max" if study.bigger else "min",
        max_t=max(study.epochs, options.grace_epochs),
        grace_period=options.grace_epochs,
        reduction_factor=options.reduction,
        stop_last_trials=False,  # a trial that has all its epochs was not ended early
    )
    for record in board.records.all():
        earlier = SimpleNamespace(trial_id=f"earlier-{record['trial']}")
        scheduler.on_trial_add(None, earlier)
        for epoch, score in record.get("history", []):
            scheduler.on_trial_result(None, earlier, {"epoch": epoch, "now": score})
    # the class keeps its metric; TuneConfig wants to be the only one that names it
    scheduler._metric = scheduler._mode = None
    return scheduler


def run_trial(order: dict[str, Any]) -> None:
    """One trial inside a Ray worker; importing this function's module makes the worker import the plug-in.

    Args:
        order: ``settings`` of the trial, ``folder`` to stand in, ``cpus`` and ``gpus`` of its share, and ``worst``, the
            score of a trial that has none.
    """
    import torch

    from recbole_mmm4rec.tune.trial import attempt

    sys.argv = sys.argv[:1]  # RecBole would read Ray's arguments as settings
    with contextlib.suppress(OSError):  # another machine may not have it; then paths must be absolute
        os.chdir(order["folder"])
    if order["cpus"] >= 1:
        torch.set_num_threads(int(order["cpus"]))
    # RecBole sets CUDA_VISIBLE_DEVICES to gpu_id: this trial's GPUs are those that Ray has left visible to it
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "") if order["gpus"] else ""
    history: list[list[float]] = []

    def told(epoch: int, score: float, valid: dict[str, float]) -> None:
        history.append([epoch, score])
        _report({"epoch": epoch, "now": score, "valid": valid})

    found = attempt({**order["settings"], "gpu_id": gpu}, told)
    last = history[-1] if history else [0, found.get("score", order["worst"])]
    _report({"epoch": last[0], "now": last[1], "found": found})


@cache
def _classes() -> Any:
    """Our searcher and recorder, whose bases exist only where Ray does."""
    from ray import tune
    from ray.tune.search import Searcher

    class Unsaved:
        """Not written into Ray's own snapshots: everything that a search needs to go on stands in trials.jsonl."""

        def __getstate__(self) -> dict[str, Any]:
            return {}

    class ProposalSearcher(Unsaved, Searcher):
        """Hands the search's combinations to Ray, each once."""

        def __init__(self, board: Board, options: RayOptions) -> None:
            super().__init__(metric="now", mode="max" if board.study.bigger else "min")
            self.board = board
            self.rest = {
                "folder": os.getcwd(),
                "cpus": options.cpus,
                "gpus": options.gpus,
                "worst": float("-inf") if board.study.bigger else float("inf"),
            }

        def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
            """Ray asks whether the searcher takes these; ours needs neither."""
            return True

        def suggest(self, trial_id: str) -> Any:
            params = self.board.proposals.next()
            if params is None:
                return Searcher.FINISHED
            return {"params": params, "settings": self.board.study.settings(params), **self.rest}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """What came of it is taken on record by the callback."""

        def save(self, checkpoint_path: str) -> None:
            """Ray wants to see a file; see :class:`Unsaved`."""
            Path(checkpoint_path).touch()

    class TrialRecorder(Unsaved, tune.Callback):
        """Takes every trial on record when it ends, one that ASHA has ended as well."""

        def __init__(self, board: Board) -> None:
            self.board = board
            self.reports: dict[str, list[dict[str, Any]]] = {}
            self.found: dict[str, dict[str, Any]] = {}

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            if "found" in result:
                self.found[trial.trial_id] = result["found"]
            else:
                self.reports.setdefault(trial.trial_id, []).append(
                    {key: result[key] for key in ("epoch", "now", "valid", "time_total_s")}
                )

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._end(trial, None)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            told = Path(trial.error_file).read_text(encoding="utf-8").split() if trial.error_file else ["it was lost"]
            self._end(trial, f"Ray: {' '.join(told)[-300:]}")

        def _end(self, trial: Any, error: str | None) -> None:
            reports = self.reports.pop(trial.trial_id, [])
            found = self.found.pop(trial.trial_id, None)
            if found is None and error is None and reports:
                found = _of_reports(reports, self.board.study)
            elif found is None:
                seconds = reports[-1]["time_total_s"] if reports else 0.0
                found = {"status": "failed", "error": error or "it ended without a result", "seconds": seconds}
            self.board.add(trial.config["params"], found)

    return SimpleNamespace(Searcher=ProposalSearcher, Recorder=TrialRecorder)


def _of_reports(reports: list[dict[str, Any]], study: Study) -> dict[str, Any]:
    """What a trial that ASHA has ended had reached; it also ends one that has all its epochs and is behind others."""
    bigger = study.bigger
    sign = 1 if bigger else -1
    top = max(reports, key=lambda report: (sign * report["now"], report["epoch"]))
    return {
        "status": "done" if reports[-1]["epoch"] >= study.epochs else "stopped",
        "error": "",
        "score": top["now"],
        "bigger": bigger,
        "valid": top["valid"],
        "best_epoch": top["epoch"],
        "epochs": reports[-1]["epoch"],
        "history": [[report["epoch"], report["now"]] for report in reports],
        "seconds": round(reports[-1]["time_total_s"], 3),
    }
