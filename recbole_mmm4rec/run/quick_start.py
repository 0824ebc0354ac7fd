"""Run, load and tune any RecBole model, ours among them."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.utils import get_environment, init_seed, set_color

from recbole_mmm4rec.base import openmp
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.checkpoints.token_order import KEY, check_token_order
from recbole_mmm4rec.distributed import group, launch
from recbole_mmm4rec.run.build import Start, build, build_data, build_model, check_data_files, make_config, start_log
from recbole_mmm4rec.run.folder import wants_folder, write_model_folder
from recbole_mmm4rec.run.measured import Ranks, measured, watch
from recbole_mmm4rec.run.settings_again import config_again
from recbole_mmm4rec.training.history import best_epoch


def run_recbole(
    model: Any = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    queue: Any = None,
    start: Start | None = None,
) -> dict[str, Any]:
    """Train and test one model on one data set.

    Args:
        model: name or class of the model.
        dataset: name of the data set, a folder in ``data_path``.
        config_file_list: YAML files, later ones win.
        config_dict: settings, which win over the files.
        saved: keep the best model in ``checkpoint_dir`` and test that one.
        queue: where process 0 of several puts the result.
        start: see :func:`~.build.build`.

    Returns:
        ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result`` as RecBole's function of
        that name; ``valid_history``, a list of :class:`~.training.history.Validation`; ``best_epoch``, 0 for the
        model before training; ``saved_model_file``, ``model_folder`` (of MMM4Rec), ``log_file`` and
        ``tensorboard_dir``: paths, or None where nothing was written; of a pre-training also ``epoch_checkpoints``,
        files by epoch, and ``next_command``.

    Raises:
        UserError: for settings or data that cannot be used.
    """
    config = make_config(model, dataset, config_file_list, config_dict)
    check_data_files(config)
    log_file = start_log(config)
    logger = logging.getLogger()
    logger.info(sys.orig_argv)
    logger.info(config)
    if config["device"].type == "cpu":
        logger.info(set_color("Threads", "blue") + f": {torch.get_num_threads()}, waiting: {openmp.told()}")

    run = build(config, start=start)
    show_progress = config["show_progress"]
    best_score, best_result = run.trainer.fit(run.train, run.valid, saved=saved, show_progress=show_progress)
    if saved:
        _check_saved(run)
    ranks = watch(run) if saved and wants_folder(config) else None
    test_result = run.trainer.evaluate(run.test, load_best_model=saved, show_progress=show_progress)
    folder = None if ranks is None else _model_folder(run, ranks, best_result, test_result)
    environment = get_environment(config)
    logger.info("The running environment of this training is as follows:\n" + environment.draw())
    logger.info(set_color("best valid ", "yellow") + f": {best_result}")
    logger.info(set_color("test result", "yellow") + f": {test_result}")

    keeping = run.trainer.training.at("keeping")
    result = {
        "best_valid_score": best_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_result,
        "test_result": test_result,
        "valid_history": run.trainer.valid_history,
        "best_epoch": best_epoch(run.trainer),
        "saved_model_file": run.trainer.saved_model_file if saved else None,
        "model_folder": folder,
        **keeping.results(config),
        "log_file": log_file,
        "tensorboard_dir": getattr(getattr(run.trainer, "tensorboard", None), "log_dir", None),
    }
    keeping.forget()
    if queue is not None and group.is_main():
        queue.put(result)
    group.leave()
    return result


def run(
    model: Any,
    dataset: str | None,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    nproc: int = 1,
    world_size: int = -1,
    ip: str = "localhost",
    port: str | None = None,
    group_offset: int = 0,
) -> dict[str, Any] | None:
    """Train and test in one process, in several that are started here, or in those that ``torchrun`` has started.

    Args:
        model, dataset, config_file_list, config_dict, saved: as for :func:`run_recbole`.
        nproc: processes on this machine.
        world_size: processes on all machines; -1 for ``nproc``.
        ip: address of the machine of process 0.
        port: its port; by default 5678, or a free one where all processes are on this machine.
        group_offset: number of the first process on this machine.

    Returns:
        The result of :func:`run_recbole`; None where process 0 is not of those that were started here.

    Raises:
        UserError: for settings or data that cannot be used.
        LostProcessError: one of the processes ended before its time.
    """
    place = launch.from_environment(nproc, world_size, ip, port, group_offset)
    if place is not None:
        result = run_recbole(model, dataset, config_file_list, {**(config_dict or {}), **place}, saved)
        return result if int(place["local_rank"]) + int(place["offset"]) == 0 else None
    if nproc == 1 and world_size <= 0 and group_offset == 0 and launch.is_here(ip):
        return run_recbole(model, dataset, config_file_list, config_dict, saved)
    place = launch.placement(nproc, world_size, ip, port, group_offset)
    arguments = (model, dataset, config_file_list, {**(config_dict or {}), **place}, saved)
    finished: dict[str, Any] | None = launch.start(_run_rank, arguments, place)
    return finished


def _run_rank(
    rank: int,
    model: Any,
    dataset: str | None,
    config_file_list: Sequence[str] | None,
    config_dict: dict[str, Any],
    saved: bool,
    queue: Any,
) -> None:
    """One process of several; being of this package, it makes the spawned process import the plug-in."""
    sys.argv = sys.argv[:1]  # RecBole would read the command line once more, and differently
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the process that has started this one tells the user
    launch.share_cores(config_dict["nproc"])
    try:
        run_recbole(model, dataset, config_file_list, {**config_dict, "local_rank": rank}, saved, queue)
    except UserError as error:
        queue.put(error)
        raise SystemExit(2) from None


def objective_function(
    config_dict: dict[str, Any] | None = None,
    config_file_list: Sequence[str] | None = None,
    saved: bool = True,
) -> dict[str, Any] | None:
    """Train once with given settings, for ``HyperTuning`` and for ray tune.

    Inside a ray tune trial the result is reported instead of returned, because ray takes a returned dictionary for a
    second report. Reported are the validation metrics under their names, by which trials are to be chosen, and the
    test metrics with the prefix ``test_``.

    Args:
        config_dict: settings, ``model`` and ``dataset`` among them unless a file has them.
        config_file_list: YAML files.
        saved: keep the best model and test that one.

    Returns:
        ``model``, ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result``; None inside
        a ray tune trial.
    """
    config = make_config(config_file_list=config_file_list, config_dict=config_dict)
    check_data_files(config)
    start_log(config)
    logging.basicConfig(level=logging.ERROR)
    run = build(config, count_flops=False)
    best_score, best_result = run.trainer.fit(run.train, run.valid, verbose=False, saved=saved)
    if saved:
        _check_saved(run)
    test_result = run.trainer.evaluate(run.test, load_best_model=saved)
    if _in_ray_trial():
        from ray import tune

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # RecBole allows no ray that has the new name
            tune.report(**best_result, **{f"test_{name}": value for name, value in test_result.items()})
        return None
    return {
        "model": config["model"],
        "best_valid_score": best_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_result,
        "test_result": test_result,
    }


def load_data_and_model(model_file: str | Path) -> tuple[Config, Any, Any, Any, Any, Any]:
    """What a checkpoint was trained on and the model it holds; nothing that the file holds is run.

    Args:
        model_file: a checkpoint of ours, or a ``.pth`` of a RecBole trainer.

    Returns:
        Configuration, model, data set, training, validation and test loaders.

    Raises:
        UserError: when the file is missing or is not such a checkpoint, its data set cannot be used or numbers its
            items in another way than the checkpoint, or its settings come out otherwise.
    """
    checkpoint = read(model_file)
    if not {"config", "state_dict"} <= checkpoint.keys() or not isinstance(checkpoint["config"], dict):
        raise UserError(f"model file {str(model_file)!r} is not a checkpoint of a RecBole trainer")
    trained_with = checkpoint["config"].get(KEY)
    config = config_again(checkpoint["config"], f"model file {str(model_file)!r}")
    start_log(config)
    logging.getLogger().info(config)
    dataset, (train, valid, test) = build_data(config)
    check_token_order(trained_with, config, f"model file {str(model_file)!r}")
    init_seed(config["seed"], config["reproducibility"])
    model = build_model(config, train)
    try:
        model.load_state_dict(checkpoint["state_dict"])
        model.load_other_parameter(checkpoint.get("other_parameter"))
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:  # PyTorch's, and each model's own
        named = f"model file {str(model_file)!r}"
        raise UserError(f"{named} holds other weights than {config['model']} has here: {error}") from None
    return config, model, dataset, train, valid, test


def _model_folder(run: Any, ranks: Ranks, best_result: Any, test_result: Any) -> str | None:
    """Write the model folder of a tested run, on process 0, beside its checkpoint."""
    metrics = measured(run, ranks, best_result, test_result)
    if not group.is_main():
        return None
    try:
        folder = write_model_folder(run, Path(run.trainer.saved_model_file).with_suffix(""), metrics)
    except UserError as error:  # the training's own result must not be lost
        run.trainer.logger.warning(f"no model folder: {error}")
        return None
    run.trainer.logger.info(set_color("Model folder", "blue") + f": {folder}")
    return folder


def _check_saved(run: Any) -> None:
    """Refuse to test a training of which no model was kept: RecBole keeps one where a validation is better than before.

    Raises:
        UserError: no validation gave a number.
    """
    # process 0 writes and reads it; other machines need not see the file
    kept = group.same(Path(run.trainer.saved_model_file).is_file())
    if getattr(run.trainer, "valid_history", None) and not kept:
        raise UserError(
            f"valid_metric={run.config['valid_metric']}: no validation gave a number, so that no model is the best; "
            "look at what is validated on (AUC needs both labels there), or choose another valid_metric"
        )


def _in_ray_trial() -> bool:
    session = sys.modules.get("ray.tune.trainable.session")
    return session is not None and getattr(session, "_session", None) is not None
