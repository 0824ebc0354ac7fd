"""Settings of the machine: where a run happens, what it shows and where it writes."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from recbole_mmm4rec.settings.kinds import is_whole, of, optional, switch, text, whole, word
from recbole_mmm4rec.settings.setting import Counts, Setting

_row = partial(Setting, counts=Counts.RESUMED | Counts.FIXED)
_each_run = partial(Setting, counts=Counts.RESUMED | Counts.FIXED | Counts.COMMAND)
_launch = partial(Setting, counts=Counts.RESUMED | Counts.FIXED | Counts.LAUNCH)
_computed = partial(Setting, kind=of(lambda value: True, "", "computed"), about="Where this process stands.")
_NAMED = Counts.ELSEWHERE | Counts.FIXED


def _is_gpus(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"[\w-]*(\s*,\s*[\w-]+)*", value.strip()) is not None
    return (is_whole(value) and value >= 0) or (isinstance(value, tuple) and all(is_whole(one) for one in value))


_ADDRESS = of(lambda value: isinstance(value, (str, int)) and not isinstance(value, bool), "an address", "text")
_FILES = of(lambda value: isinstance(value, (str, list)), "names of YAML files, separated by blanks", "text")

ROWS = (
    Setting("model", text("MMM4Rec"), "A model of RecBole or of this package.", counts=_NAMED),
    Setting("dataset", text("ml-100k"), "A data set: the folder of that name in data_path.", counts=_NAMED),
    Setting("config_files", _FILES, "YAML files with settings; later ones win.", counts=_NAMED),
    Setting("allow_download", switch(), "Whether RecBole may download a data set that it knows.", counts=Counts.FIXED),
    _each_run("data_path", text("dataset"), "The folder above the data sets."),
    _each_run("checkpoint_dir", text("saved"), "Folder of the checkpoints."),
    Setting(
        "model_folder",
        switch(),
        "Whether a training ends with a model folder in checkpoint_dir, to recommend from.",
        True,
        Counts.RESUMED | Counts.FIXED | Counts.COMMAND,
        ours=True,
    ),
    _each_run("show_progress", switch(), "Progress bars."),
    _each_run(
        "state", optional(word("debug", "info", "warning", "error", "critical", any_case=True)), "Level of the log."
    ),
    _each_run("worker", whole(0), "Processes that make batches."),
    _each_run("use_gpu", switch(), "False: train on the processor."),
    _each_run(
        "gpu_id",
        of(_is_gpus, "the number of a GPU such as 0, or several such as '0,1'", "int or text"),
        "The GPUs that are used.",
    ),
    Setting(
        "save_pth",
        optional(switch()),
        "The best model once more as stock RecBole's .pth, a pickle.",
        False,
        Counts.RESUMED | Counts.FIXED,
    ),
    _row("save_dataset", switch(), "Whether the filtered data set is kept, for the next run of the same user."),
    _row("dataset_save_path", optional(text("saved/shop.pth")), "The kept data set."),
    _row("save_dataloaders", switch(), "Whether the loaders are kept, for the next run of the same user."),
    _row("dataloaders_save_path", optional(text("saved/shop-loaders.pth")), "The kept loaders."),
    _row("log_wandb", switch(), "Whether Weights & Biases logs the run."),
    _row("wandb_project", text("recbole"), "The project there."),
    _row("loss_decimal_place", whole(0), "Digits of losses."),
    _launch("nproc", whole(1), "Processes on this machine, one GPU each, or sharing the processor."),
    _launch("world_size", whole(-1), "Processes on all machines; -1: nproc."),
    _launch("ip", _ADDRESS, "Address of the machine of the first process."),
    _launch("port", _ADDRESS, "Port there."),
    Setting(
        "group_offset",
        whole(0),
        "Number of this machine's first process.",
        counts=Counts.FIXED | Counts.LAUNCH,
    ),
    _computed(
        "device",
        about="RecBole chooses it.",
        counts=Counts.RESUMED | Counts.COMPUTED | Counts.FIXED,
        instead="write use_gpu=False for the processor, or gpu_id=1 for the second GPU",
    ),
    *(
        _computed(
            name, counts=Counts.RESUMED | Counts.COMPUTED | Counts.FIXED, instead="nproc and world_size decide it"
        )
        for name in ("local_rank", "offset", "single_spec", "launched")
    ),
    *(
        _computed(name, about="What the model is.", counts=Counts.COMPUTED | Counts.FIXED, instead="model decides it")
        for name in ("MODEL_TYPE", "MODEL_INPUT_TYPE")
    ),
    *(
        _computed(name, about="What the data are.", counts=Counts.COMPUTED | Counts.FIXED, instead="the data decide it")
        for name in ("token_order", "feature_encoders", "data_fingerprint")
    ),
    _computed(
        "started_from",
        about="What a start has seen.",
        counts=Counts.RESUMED | Counts.COMPUTED | Counts.FIXED,
        instead="pretrained decides it",
    ),
)
