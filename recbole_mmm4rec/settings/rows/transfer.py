"""Settings of pre-training and transfer (docs/transfer.md)."""

from __future__ import annotations

from functools import partial

from recbole_mmm4rec.settings.kinds import is_number, mapping, number, of, optional, typed_names, whole, word
from recbole_mmm4rec.settings.setting import Counts, Setting

_row = partial(Setting, ours=True)
_UNI = ("UniSRec",)

ROWS = (
    Setting(
        "stage",
        optional(word("train", "pretrain")),
        "pretrain: the defaults of MODEL-pretrain.yaml come on top.",
        "train",
        Counts.ELSEWHERE | Counts.FIXED,
    ),
    _row(
        "pretrain_on",
        word("all_but_last", "all"),
        "pretrain: each user's last item validates, or nothing is held out.",
        "all_but_last",
        models=_UNI,
    ),
    _row(
        "pretrain_checkpoint_every",
        whole(0),
        "pretrain: epochs between checkpoints that are kept; 0: none.",
        5,
        Counts.RESUMED,
        models=_UNI,
    ),
    Setting(
        "resume",
        optional(word("auto", flag=True)),
        "Go on where the same run was broken off; auto: in pretrain, and on several processes.",
        "auto",
        Counts.FIXED | Counts.RESUMED,
    ),
    Setting(
        "checkpoint_every_minutes",
        optional(number(low=0)),
        "With resume, in pretrain, on several processes: minutes between checkpoints inside an epoch; 0: none.",
        5,
        Counts.FIXED | Counts.RESUMED,
    ),
    Setting(
        "pretrained",
        optional(of(lambda value: isinstance(value, str) and value != "", "the path of a checkpoint", "text")),
        "A checkpoint to start from: one of ours, or a published .ckpt.",
        None,
        Counts.ELSEWHERE,
    ),
    _row("pretrained_layers", optional(whole(1)), "Take only the first layers of it.", None),
    _row(
        "frozen",
        optional(typed_names("[ssd, cross]")),
        "Parameters that stay as they are: adapters, ids, ssd, transferred, layers.0, …",
        None,
        models=_UNI,
    ),
    _row("unfreeze_after", optional(whole(0)), "Epochs after which all parameters are trained; 0, None: never.", None),
    _row(
        "learning_rates",
        optional(mapping(lambda rate: is_number(rate) and rate > 0, "{'transferred': 0.1} with factors above 0")),
        "Factors of learning_rate by the names of frozen; the last that fits wins.",
        None,
    ),
)
