"""The command line of ``run_recbole.py``: any RecBole model on any data set, with settings that are checked first."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_mmm4rec.base.command_line import Parser, ended
from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.settings.keys import check_setting, read_settings
from recbole_mmm4rec.settings.models import model_names
from recbole_mmm4rec.settings.packaged import packaged
from recbole_mmm4rec.settings.reading import literal, read_yaml
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts

DEFAULT_MODEL = "MMM4Rec"

_SHORT = {"-m": "--model", "-d": "--dataset"}
_WORDS = {"true": True, "false": False, "none": None, "null": None}

_EXAMPLES = """\
examples:
  %(prog)s --model=SASRec --dataset=ml-100k --epochs=5
  %(prog)s --dataset=ml-100k --data_path=dataset --config_files "tuned.yaml"
"""


def main(argv: Sequence[str] | None = None, prog: str = "python run_recbole.py") -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; ``sys.argv``'s by default.
        prog: what the user has typed before them.

    Returns:
        Exit status: 0; 2 after a mistake of the user's, 1 after the loss of one of several processes, 130 when
        interrupted, each told in one line on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in ("-h", "--help") for argument in arguments):
        _parser(prog).print_help()
        return 0
    return ended(
        lambda: _told(parse_arguments(arguments)),
        lambda: _after_a_break(prog, arguments),
        prog=prog,
        terminable="RANK" not in os.environ,  # torchrun ends its processes with SIGTERM, and has told why
    )


def _parser(prog: str) -> Parser:
    """The help. What it names is read as all other settings are, by :func:`parse_arguments`."""
    parser = Parser(
        prog=prog,
        usage='%(prog)s --dataset NAME [--model NAME] [--config_files "A.yaml B.yaml"] [--KEY=VALUE ...]',
        description="Train a RecBole model, test it, and say where the result lies.",
        epilog=_EXAMPLES,
    )
    add = parser.add_argument
    add("-m", "--model", metavar="NAME", help=(
        "a model of RecBole, MMM4Rec (the default), Neighbours (counts alone), or a rival (docs/rivals.md)"
    ))  # fmt: skip
    add("-d", "--dataset", metavar="NAME", help="a data set: the folder NAME in data_path (`mmm4rec prep` makes one)")
    add("--config_files", metavar="FILES", help="YAML files with settings, separated by blanks; later files win")
    add("--baselines", metavar="NAMES", help=(
        "models to train beside, separated by commas: with their own default sizes, on the same data, split, "
        "candidates and metrics; one table shows all of them"
    ))  # fmt: skip
    add("--neighbour_weight", metavar="W", help=(
        "beside the scores of a sequential model, W times what other users took together (default: 0)"
    ))  # fmt: skip
    add("--resume", metavar="True", help="go on where the same run was broken off, inside an epoch, too")
    ours = parser.add_argument_group("MMM4Rec")
    ours.add_argument("--stage", metavar="pretrain", help="train on merged shops, to start from later")
    ours.add_argument("--pretrained", metavar="FILE", help=(
        "start from a checkpoint; --epochs=0 only scores; see --frozen, --learning_rates"
    ))  # fmt: skip
    several = parser.add_argument_group("several processes")
    add = several.add_argument
    add("--nproc", metavar="N", help="processes on this machine, one GPU each, or sharing the processor (default: 1)")
    add("--world_size", metavar="N", help="processes on all machines (default: nproc)")
    add("--ip", metavar="HOST", help="address of the machine of the first process (default: localhost)")
    add("--port", metavar="N", help="its port (default: 5678, or a free one where all are on one machine)")
    add("--group_offset", metavar="N", help="number of this machine's first process (default: 0)")
    parser.add_argument_group("settings", (
        "--KEY=VALUE, also --KEY VALUE: any setting; wins over the files. Values are numbers, True, False, None,\n"
        "lists, dictionaries, or else plain text. Often used: --data_path --epochs --train_batch_size\n"
        "--learning_rate --seed --MAX_ITEM_LIST_LENGTH --checkpoint_dir --show_progress --allow_download"
    ))  # fmt: skip
    return parser


def _after_a_break(prog: str, arguments: Sequence[str]) -> str:
    """What to type after an interruption, and from where the training then goes on."""
    given = parse_arguments(list(arguments))
    pretrains = given.get("stage") == "pretrain" and "resume" not in given
    goes_on = pretrains or given.get("resume", "").lower() == "true"
    kept = arguments if goes_on else [*_without("--resume", arguments), "--resume=True"]
    command = shlex.join([*prog.split(), *kept])
    keeping = sys.modules.get("recbole_mmm4rec.training.keeping")
    file, best = getattr(keeping, "noted", None), getattr(keeping, "trained", None)
    several = given.get("nproc", "1") != "1" or "world_size" in given or "TORCHELASTIC_RESTART_COUNT" in os.environ
    if file is not None:
        return f"a checkpoint is in {str(file)!r}; go on with: {command}"
    if goes_on or several:
        return f"go on after the last checkpoint with: {command}"
    if best is not None:
        return f"it was trained, and not tested to the end; the model is in {str(best)!r}"
    return f"nothing was trained that could be kept; begin with: {command}"


def _without(option: str, arguments: Sequence[str]) -> list[str]:
    """Arguments without an option, which may stand before its value or be joined with it."""
    left: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == option and waiting:
            waiting.pop(0)
        elif not argument.startswith(f"{option}="):
            left.append(argument)
    return left


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
            key, value = next(reversed(found.items()), ("", ""))
            if value[:1] in ("[", "{") and not value.endswith(("]", "}")):  # a shell has cut it at a blank
                raise UserError(f'--{key}={value}: a list or mapping with blanks needs quotes: "--{key}={value} …"')
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


def _told(raw: dict[str, str]) -> int:
    result = _run(raw)
    if result is not None:
        print(result)
    return 0


def _run(raw: dict[str, str]) -> str | None:
    """Check the arguments, run, and make the text that is shown at the end."""
    files = [packaged(file) for file in raw.pop("config_files", "").split()]
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
    from recbole_mmm4rec.scoring.beside import named

    given = {**in_files, **settings}
    launch = {key: given[key] for key in names(Counts.LAUNCH) if key in given}
    settings = {key: value for key, value in settings.items() if key not in launch}
    launch |= {key: str(launch[key]) for key in ("ip", "port") if key in launch}
    if baselines:
        check_comparable(baselines, _config_of(model, str(dataset), files, settings))
    shielded = {key: _shielded(value) for key, value in settings.items()}
    result = quick_start.run(model, str(dataset), config_file_list=files, config_dict=dict(shielded), **launch)
    others = run_baselines(baselines, model, str(dataset), files, shielded) if result and baselines else {}
    return None if result is None else summary(named(model, {**in_files, **settings}), str(dataset), result, others)


def _config_of(model: str, dataset: str, files: Sequence[str], settings: Mapping[str, Any]) -> Any:
    """RecBole's configuration of the run."""
    from recbole_mmm4rec.run.build import make_config, same_devices

    with same_devices():
        return make_config(model, dataset, files, {key: _shielded(value) for key, value in settings.items()})


def _shielded(value: Any) -> Any:
    """A string that RecBole would read as something else, quoted: it reads every string of a dictionary once more."""
    return repr(value) if isinstance(value, str) and parse_value(value) != value else value


def summary(
    model: str, dataset: str, result: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """The text shown at the end of a run: metrics, where everything lies, and what to type next.

    Args:
        model: what the run is called.
        dataset: name of the data set.
        result: what :func:`recbole_mmm4rec.run.quick_start.run_recbole` returns.
        others: the same of the baselines, by name.
    """
    from recbole_mmm4rec.model_folder.read import popular_items
    from recbole_mmm4rec.run.baselines import table

    lines = ["", f"{model} on {dataset}", "", table({model: result, **(others or {})}), ""]
    places = {
        "Model": result["saved_model_file"],
        "Folder": result.get("model_folder"),
        "Log": result["log_file"],
        "TensorBoard": result["tensorboard_dir"],
    }
    lines += [f"{name:<12}{place}" for name, place in places.items() if place]
    by_epoch = result.get("epoch_checkpoints") or []
    lines += [f"{'By epoch' if at == 0 else '':<12}{file}" for at, file in enumerate(by_epoch)]
    if result["tensorboard_dir"]:
        lines += ["", "Look at the training", f"  tensorboard --logdir {result['tensorboard_dir']}"]
    if result.get("model_folder"):
        history = " ".join(popular_items(result["model_folder"], 2))
        lines += ["Recommend from it", f"  mmm4rec recommend {result['model_folder']} --history {shlex.quote(history)}"]
    if result.get("next_command"):
        lines += ["Fine-tune from it, or from another of its checkpoints", f"  {result['next_command']}"]
    elif result["saved_model_file"]:
        lines += [
            "Use the model again",
            "  from recbole_mmm4rec.run.quick_start import load_data_and_model",
            f'  config, model, dataset, train, valid, test = load_data_and_model("{result["saved_model_file"]}")',
        ]
    return "\n".join(lines)
