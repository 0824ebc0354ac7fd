"""The command line of ``run_recbole.py``: any RecBole model on any data set, with settings that are checked first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from recbole_mmm4rec.base.errors import LostProcessError, UserError, did_you_mean
from recbole_mmm4rec.run.command import INTERRUPTED
from recbole_mmm4rec.settings.keys import check_setting, read_settings
from recbole_mmm4rec.settings.models import model_names
from recbole_mmm4rec.settings.reading import literal, read_yaml
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts

DEFAULT_MODEL = "MMM4Rec"

_SHORT = {"-m": "--model", "-d": "--dataset"}
_WORDS = {"true": True, "false": False, "none": None, "null": None}

HELP = """\
usage: run_recbole.py --dataset NAME [--model NAME] [--config_files "A.yaml B.yaml"] [--KEY=VALUE ...]

Trains a RecBole model, tests it, and says where the result lies.

  -m, --model NAME        a model of RecBole or MMM4Rec, which is the default
  -d, --dataset NAME      a data set: the folder NAME in data_path (`python -m dataset_prep --help` makes one)
  --config_files FILES    YAML files with settings, separated by blanks; later files win
  --KEY=VALUE             any setting, also as --KEY VALUE; wins over the files.
                          Values are numbers, True, False, None, lists, dictionaries, or else plain text.
                          Often used: --data_path --epochs --train_batch_size --learning_rate --seed
                          --MAX_ITEM_LIST_LENGTH --checkpoint_dir --show_progress --allow_download
  --stage pretrain        MMM4Rec: train on merged shops, to start from later
  --pretrained FILE       MMM4Rec: start from a checkpoint; --epochs=0 only scores; --frozen, --learning_rates
  --baselines NAMES       models to train beside, separated by commas: with their own default sizes, on the same data,
                          split, candidates and metrics; one table shows all of them
  --nproc N               processes on this machine, one GPU each, or sharing the processor (default 1)
  --world_size N          processes on all machines (default: nproc)
  --ip, --port            address of the machine of the first process (localhost; 5678, or a free port on one machine)
  --group_offset N        number of this machine's first process (default 0)
  --resume=True           go on after the last finished epoch of the same run, where one was broken off
  -h, --help              this text

examples:
  python run_recbole.py --model=SASRec --dataset=ml-100k --epochs=5
  python run_recbole.py --dataset=ml-100k --data_path=dataset --config_files "tuned.yaml"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; ``sys.argv``'s by default.

    Returns:
        Exit status: 0; 2 after a mistake of the user's, 1 after the loss of one of several processes, 130 when
        interrupted, each told in one line on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP, end="")
        return 0
    try:
        result = _run(parse_arguments(arguments))
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # all of torchrun's processes make the same mistake
            print(f"error: {error}", file=sys.stderr)
        return 2
    except LostProcessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; {_after_a_break(parse_arguments(arguments))}", file=sys.stderr)
        return INTERRUPTED
    if result is not None:
        print(result)
    return 0


def _after_a_break(given: Mapping[str, str]) -> str:
    """What to do after an interruption: epochs are noted with ``resume``, by several processes and in pre-training."""
    if given.get("resume", "").lower() == "true" or given.get("stage") == "pretrain":
        return "the same command goes on after the last finished epoch"
    if given.get("nproc", "1") != "1" or "world_size" in given or "TORCHELASTIC_RESTART_COUNT" in os.environ:
        return "with --resume=True the same command goes on after the last finished epoch"
    return "a training with --resume=True can go on after such a break"


def parse_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Keys and values of a command line, as text.

    Args:
        arguments: ``--key=value``, or ``--key`` and ``value``; ``-m`` and ``-d`` stand for model and data set.

    Raises:
        UserError: for a stray argument, a key without a value, or a key given twice with different values.
    """
    found: dict[str, str] = {}
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        name = _SHORT.get(name, name)
        key = name.removeprefix("--")
        if not name.startswith("--") or not key:
            raise UserError(f"stray argument {argument!r}: settings are written --key=value")
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise UserError(f"--{key} has no value: write --{key}=value")
            value = waiting.pop(0)
        if found.setdefault(key, value) != value:
            raise UserError(f"--{key} is given twice, as {found[key]!r} and as {value!r}: keep one")
    return found


def parse_value(text: str) -> Any:
    """The value that a text on the command line stands for.

    Returns:
        A number, list, tuple, dictionary, quoted string, boolean or None; the text itself if it is none of those.
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return literal(text)
    except NameError:
        return text


def _run(raw: dict[str, str]) -> str | None:
    """Check the arguments, run, and make the text that is shown at the end."""
    files = raw.pop("config_files", "").split()
    in_files = {key: value for file in files for key, value in read_yaml(file).items()}
    model = raw.pop("model", None) or str(in_files.get("model") or DEFAULT_MODEL)
    dataset = raw.pop("dataset", None) or in_files.get("dataset")
    baselines = [name for name in raw.pop("baselines", "").replace(",", " ").split() if name != model]
    for key, name in (("model", model), *(("baselines", name) for name in baselines)):
        if name not in model_names():
            raise UserError(f"--{key}={name}: there is no such model{did_you_mean(name, model_names())}")
    settings = {key: parse_value(value) for key, value in raw.items()}
    for key, value in settings.items():
        check_setting(key, value, model, f"--{key}={raw[key]}")
    for file in files:
        read_settings(file, model)
    if not dataset:
        raise UserError("--dataset is missing: give the name of a data set, the folder of that name in data_path")

    from recbole_mmm4rec.run import quick_start
    from recbole_mmm4rec.run.baselines import check_comparable, run_baselines

    launch = {key: settings.pop(key) for key in names(Counts.LAUNCH) if key in settings}
    launch |= {key: str(launch[key]) for key in ("ip", "port") if key in launch}
    if baselines:
        check_comparable(baselines, _config_of(model, str(dataset), files, settings))
    shielded = {key: _shielded(value) for key, value in settings.items()}
    with _hidden_arguments():
        result = quick_start.run(model, str(dataset), config_file_list=files, config_dict=dict(shielded), **launch)
        others = run_baselines(baselines, model, str(dataset), files, shielded) if result and baselines else {}
    return None if result is None else summary(model, str(dataset), result, others)


def _config_of(model: str, dataset: str, files: Sequence[str], settings: Mapping[str, Any]) -> Any:
    """RecBole's configuration of the run."""
    from recbole_mmm4rec.run.build import make_config, same_devices

    with same_devices(), _hidden_arguments():
        return make_config(model, dataset, files, {key: _shielded(value) for key, value in settings.items()})


def _shielded(value: Any) -> Any:
    """A string that RecBole would read as something else, quoted: it reads every string of a dictionary once more."""
    return repr(value) if isinstance(value, str) and parse_value(value) != value else value


@contextmanager
def _hidden_arguments() -> Iterator[None]:
    """Hide the command line from RecBole, which would read it once more, and differently."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def summary(
    model: str, dataset: str, result: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """The text shown at the end of a run: metrics, where everything lies, and what to type next.

    Args:
        model: name of the model.
        dataset: name of the data set.
        result: what :func:`recbole_mmm4rec.run.quick_start.run_recbole` returns.
        others: the same of the baselines, by name.
    """
    from recbole_mmm4rec.run.baselines import table

    lines = ["", f"{model} on {dataset}", "", table({model: result, **(others or {})}), ""]
    places = {
        "Model": result["saved_model_file"],
        "Log": result["log_file"],
        "TensorBoard": result["tensorboard_dir"],
    }
    lines += [f"{name:<12}{place}" for name, place in places.items() if place]
    by_epoch = result.get("epoch_checkpoints") or []
    lines += [f"{'By epoch' if at == 0 else '':<12}{file}" for at, file in enumerate(by_epoch)]
    if result["tensorboard_dir"]:
        lines += ["", "Look at the training", f"  tensorboard --logdir {result['tensorboard_dir']}"]
    if result.get("next_command"):
        lines += ["Fine-tune from it, or from another of its checkpoints", f"  {result['next_command']}"]
    elif result["saved_model_file"]:
        lines += [
            "Use the model again",
            "  from recbole_mmm4rec.run.quick_start import load_data_and_model",
            f'  config, model, dataset, train, valid, test = load_data_and_model("{result["saved_model_file"]}")',
        ]
    return "\n".join(lines)
