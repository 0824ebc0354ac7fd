"""Keys that stand in other people's files: of the published program, of older versions, of other programs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

_NOTHING = "it brought nothing on any data set (docs/results.md) and is gone; leave it out"

REMOVED = {
    **dict.fromkeys(
        (
            "whitening",
            "adapter_experts",
            "cosine_scores",
            "dropout_start",
            "temperature_start",
            "schedule_epochs",
            "contrastive_epochs",
            "id_dropout",
        ),
        _NOTHING,
    ),
    "chunk_size": "the block length of the scan has no effect on results and is chosen by itself; leave it out",
}
"""Settings that MMM4Rec once had, and what to say to whoever still sets them."""

PUBLISHED = {
    "max_len": "MAX_ITEM_LIST_LENGTH",
    "batch_size": "train_batch_size",
    "Epoch": "epochs",
    "optimizer_lr": "learning_rate",
    "stop_epoch": "stopping_step",
    "top_k": "topk",
    "pretrain_checkpoint": "pretrained",
    "checkpoint": "resume: True",
    "save_step": "pretrain_checkpoint_every",
    "in_batch_loss": "loss_type: in_batch",
    "is_scheduler": "lr_schedule",
    "dataset_path": "data_path and dataset",
    "text_embed_path": "feature_path",
    "vision_embed_path": "feature_path",
    "large_file_mode": "features_in: mapped",
    "is_pbar": "show_progress",
}
"""Keys of the published program's configuration that are called otherwise here."""

WITHOUT_EFFECT = (
    *("logger", "model_compile", "float32_precise", "is_linecache", "is_kai_ming_init", "metrics_table_displays"),
    *("light_save", "return_scores", "item_num", "feature_dim"),
)
"""Keys of the published program's configuration that have no counterpart here."""

_OF_A_PUBLISHED_FILE = 3
"""So many of its keys make a file one of the published program."""

_SPLIT = "eval_args, such as {'split': {'LS': 'valid_and_test'}, 'order': 'TO', 'group_by': 'user', 'mode': 'full'}"
OLDER = {
    "lr": "learning_rate",
    "batch_size": "train_batch_size",
    "config_file": "config_files",
    "neg_sampling": "train_neg_sample_args",
    "training_neg_sample_num": "train_neg_sample_args",
    **dict.fromkeys(("eval_setting", "group_by_user", "split_ratio", "leave_one_num", "real_time_process"), _SPLIT),
    **dict.fromkeys(("min_user_inter_num", "max_user_inter_num"), "user_inter_num_interval, such as [5,inf)"),
    **dict.fromkeys(("min_item_inter_num", "max_item_inter_num"), "item_inter_num_interval, such as [5,inf)"),
    **dict.fromkeys(
        ("lowest_val", "highest_val", "equal_val", "not_equal_val"), "val_interval, such as {'rating': '[3,inf)'}"
    ),
}
"""Keys that RecBole 1.2.1 takes without using them, most of them of its older versions, and what is used."""


def without_removed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that an older version has kept, without those that are gone and were off."""
    return {key: value for key, value in settings.items() if value or key not in REMOVED}


def told(key: str, ours: bool) -> str | None:
    """What to say about a key that stands for another; None where there is nothing to say.

    Args:
        key: one that the model does not know.
        ours: whether the model is one of ours.
    """
    if ours and key in REMOVED:
        return REMOVED[key]
    name = (PUBLISHED.get(key) if ours else None) or OLDER.get(key)
    if name is not None:
        return (
            f"unknown key {key!r}; did you mean {name.partition(',')[0]!r}?"
            if name.isidentifier()
            else (f"{key!r} is not used; write {name}")
        )
    return None


def published_file(keys: Iterable[str], known: Collection[str]) -> str | None:
    """What to say to whoever brings a configuration of the published program; None for any other file.

    Args:
        keys: of the file.
        known: keys of ours.
    """
    foreign = [key for key in keys if key not in known]
    renamed = [key for key in foreign if key in PUBLISHED]
    if len(renamed) < _OF_A_PUBLISHED_FILE:
        return None
    told = ", ".join(f"{key} is {PUBLISHED[key]}" for key in renamed)
    idle = [key for key in foreign if key in (*WITHOUT_EFFECT, *REMOVED)]
    left_out = f"; leave out what has no counterpart: {', '.join(idle)}" if idle else ""
    return f"this is a configuration of the published program; here {told}{left_out}"
