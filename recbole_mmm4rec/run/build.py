"""Build once: configuration, log, data, model and trainer of a run, for every command that needs them."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import recbole
import yaml
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.transform import construct_transform
from recbole.utils import EvaluatorType, ModelType, get_flops, get_model, get_trainer, init_logger, init_seed, set_color

from recbole_mmm4rec.base.atomic_files import read_header
from recbole_mmm4rec.base.command_names import called
from recbole_mmm4rec.base.errors import LostProcessError, UserError
from recbole_mmm4rec.base.files import writable_folder
from recbole_mmm4rec.data.ready_made import history_field
from recbole_mmm4rec.distributed import group
from recbole_mmm4rec.run.checks import check_labels, check_negatives, check_valid_metric
from recbole_mmm4rec.training.fast_cpu import speed_up

_REFUSALS = (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, SyntaxError)
_log_handlers: list[logging.Handler] = []


@dataclass
class Run:
    """Everything that a run needs, ready to train.

    Attributes:
        config: RecBole's configuration.
        dataset: the filtered data set.
        train, valid, test: the loaders.
        model: the model, on its device.
        trainer: the trainer of that model.
    """

    config: Any
    dataset: Any
    train: Any
    valid: Any
    test: Any
    model: Any
    trainer: Any


def make_config(
    model: Any = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
) -> Config:
    """RecBole's configuration, from the same arguments.

    Raises:
        UserError: for settings that RecBole refuses, in one line.
    """
    with refused():
        config = Config(
            model=model,
            dataset=dataset,
            config_file_list=list(config_file_list or ()),
            config_dict=dict(config_dict or {}),
        )
    check_valid_metric(config)
    check_negatives(config)
    if config["weight_decay"] is None:  # which RecBole's optimisers do not know
        config["weight_decay"] = 0.0
    if config["log_wandb"] and find_spec("wandb") is None:
        raise UserError("log_wandb=True: wandb is not installed; `pip install wandb`, or leave log_wandb out")
    return config


@contextmanager
def same_devices() -> Iterator[None]:
    """Undo what RecBole's configuration does to the list of GPUs, which processes started later need."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


Start = Callable[[Any, Any], Any]
"""A new model and its training loader → the loader to train with; the model's weights may be set."""


def build(config: Config, *, count_flops: bool = True, start: Start | None = None) -> Run:
    """Data, model and trainer of a configuration.

    Args:
        config: the configuration; its seed decides every random number.
        count_flops: also write the model's floating-point operations to the log.
        start: changes what the training begins with.

    Raises:
        UserError: when the data set is missing or RecBole refuses it, when its model does the settings, or
            checkpoint_dir cannot be written to.
    """
    logger = logging.getLogger()
    writable_folder(config["checkpoint_dir"], f"checkpoint_dir={config['checkpoint_dir']!r}")
    dataset, (train, valid, test) = build_data(config)
    check_cut_offs(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = build_model(config, train)
    if start is not None:
        train = start(model, train)
    logger.info(model)
    speed_up(config, model)
    if count_flops and group.is_main():
        flops = get_flops(model, dataset, config["device"], logger, construct_transform(config))
        logger.info(set_color("FLOPs", "blue") + f": {flops}")
    with _refused_by_the_model(config):
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    if hasattr(trainer, "saved_model_file"):
        # RecBole names checkpoints by the second: runs started together would load each other's best model
        path = Path(trainer.saved_model_file)
        trainer.saved_model_file = group.same(str(path.with_name(f"{path.stem}-{secrets.token_hex(3)}{path.suffix}")))
    return Run(config, dataset, train, valid, test, model, trainer)


def build_data(config: Config) -> tuple[Any, tuple[Any, Any, Any]]:
    """The filtered data set and its training, validation and test loaders.

    Raises:
        UserError: when the data set is missing or RecBole refuses it.
    """
    check_data_files(config)
    init_seed(config["seed"], config["reproducibility"])
    with refused((ValueError, NotImplementedError)):
        dataset = create_dataset(config)
        check_labels(config, dataset)
        logging.getLogger().info(dataset)
        return dataset, data_preparation(config, dataset)


def check_cut_offs(config: Config, dataset: Any) -> None:
    """Refuse lists that are longer than what they are chosen from.

    Raises:
        UserError: ``topk`` asks for more items than the data set has.
    """
    if config["eval_type"] == EvaluatorType.RANKING and max(config["topk"]) >= dataset.item_num:
        raise UserError(
            f"topk={config['topk']}: data set {config['dataset']!r} has only {dataset.item_num - 1} candidate items; "
            "set topk to less"
        )


def build_model(config: Config, train: Any) -> Any:
    """The model of a configuration, with initial weights, on the configured device.

    Raises:
        UserError: a model of RecBole cannot be made of these settings.
    """
    with _refused_by_the_model(config):
        return get_model(config["model"])(config, train._dataset).to(config["device"])


@contextmanager
def _refused_by_the_model(config: Config) -> Iterator[None]:
    """Turn what RecBole's models say of their settings into one line; those from elsewhere keep their tracebacks."""
    try:
        yield
    except (*_REFUSALS, ZeroDivisionError, AssertionError, ImportError) as error:
        stock = get_model(config["model"]).__module__.startswith("recbole.model.")
        if not stock or isinstance(error, (UserError, LostProcessError)) or "memory" in str(error):
            raise
        logging.getLogger(__name__).debug("refused by the model", exc_info=True)
        told = f"it knows no {one_line(error)!r}" if isinstance(error, KeyError) else one_line(error)
        raise UserError(f"{config['model']} cannot be made of these settings: {told}") from error


def start_log(config: Config) -> str | None:
    """Open RecBole's log of a run, ``./log/<model>/…``, and close the one of the run before.

    Returns:
        Path of the log file; None where the caller's own logging is in place, which RecBole leaves alone, and on all
        but one of several processes.

    Raises:
        UserError: there is no folder to write it to.
    """
    logger = logging.getLogger()
    if not group.is_main():
        logging.basicConfig(level=logging.ERROR, format=f"process {group.rank()}: %(message)s")
        return None
    while _log_handlers:
        handler = _log_handlers.pop()
        logger.removeHandler(handler)
        handler.close()
    before = list(logger.handlers)
    folder = Path("log", str(config["model"]))
    writable_folder(folder, f"the log goes to {str(folder)!r} in {os.getcwd()!r}")
    init_logger(config)
    _log_handlers.extend(handler for handler in logger.handlers if handler not in before)
    files = [handler for handler in _log_handlers if isinstance(handler, logging.FileHandler)]
    for file in files:
        file.handleError = partial(_give_up, file)  # type: ignore[method-assign]
    return os.path.relpath(files[0].baseFilename) if files else None


def _give_up(file: logging.FileHandler, record: logging.LogRecord) -> None:
    """A log that cannot be written, for example to a full disk, is told of once, and the run goes on without."""
    error = sys.exc_info()[1]
    logging.getLogger().removeHandler(file)
    print(f"warning: {file.baseFilename} cannot be written, nothing more is: {error}", file=sys.stderr)


def check_data_files(config: Config) -> None:
    """Refuse a data set that is not there, instead of starting a download.

    Raises:
        UserError: naming the folder that was looked for and the ways to get one.
    """
    folder, name, parts = Path(config["data_path"]), config["dataset"], config["benchmark_filename"]
    files = [folder / f"{name}.inter"] if parts is None else [folder / f"{name}.{part}.inter" for part in parts]
    missing = [file for file in files if not file.is_file()]
    if not missing:
        for file in files:
            _check_columns(config, file)
        return
    if config["allow_download"] and not folder.exists():
        return
    way_out = f"`{called('prep')} --help` lists the commands that make one; data_path is the folder above it"
    if _can_download(config):
        way_out += f"; RecBole can download {name!r}: --allow_download=True"
    raise UserError(f"dataset={name!r}: there is no file {str(missing[0])!r}; {way_out}")


def _check_columns(config: Config, file: Path) -> None:
    """Refuse an interaction file, or a choice of its columns, without users, items or the time to order by."""
    header = read_header(file, config["field_separator"], config["encoding"] or "utf-8")
    chosen = (config["load_col"] or {"inter": "*"}).get("inter", [])
    left_out = (config["unload_col"] or {}).get("inter", [])
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", *(["TIME_FIELD"] if _orders_by_time(config, header) else [])):
        column = config[key]
        if column and column not in header:
            raise UserError(f"{str(file)!r} has no column {column!r} ({key}); it has {', '.join(header)}")
        if column and (column in left_out or (chosen != "*" and column not in chosen)):
            setting = "unload_col" if column in left_out else "load_col"
            raise UserError(f"{setting}={config[setting]} leaves out the column {column!r} ({key}) of {str(file)!r}")


def _orders_by_time(config: Config, header: Mapping[str, str]) -> bool:
    """Whether the order of a file's interactions counts: not of ready-made splits, but where they lack histories."""
    if config["benchmark_filename"] is None:
        return bool(config["eval_args"]["order"] == "TO")
    return config["MODEL_TYPE"] == ModelType.SEQUENTIAL and history_field(config) not in header


def _can_download(config: Config) -> bool:
    urls = Path(recbole.__path__[0]) / "properties" / "dataset" / "url.yaml"
    return config["dataset"] in yaml.safe_load(urls.read_text(encoding="utf-8"))


@contextmanager
def refused(kinds: tuple[type[Exception], ...] = _REFUSALS) -> Iterator[None]:
    """Turn RecBole's complaint about settings or data into a mistake of the user's, in one line."""
    try:
        yield
    except (UserError, LostProcessError):
        raise
    except kinds as error:
        logging.getLogger(__name__).debug("refused by RecBole", exc_info=True)
        raise UserError(one_line(error)) from error


def one_line(error: Exception) -> str:
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(text).split()) or type(error).__name__
