"""Settings of validation and test."""

from __future__ import annotations

from functools import partial
from typing import Any

from recbole_mmm4rec.settings.kinds import Kind, is_names, is_whole, number, of, optional, switch, text, whole, word
from recbole_mmm4rec.settings.setting import Counts, Setting

_shared = partial(Setting, counts=Counts.PROTOCOL | Counts.FIXED)


def _is_cut_offs(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(is_whole(k) and k > 0 for k in values)


_EVAL_ARGS = Kind(
    lambda value: isinstance(value, dict),
    "a mapping such as {'split': {'LS': 'valid_and_test'}, 'order': 'TO', 'group_by': 'user', 'mode': 'full'}",
    "mapping",
)
_METRICS = of(
    lambda value: (isinstance(value, str) and value != "") or (is_names(value) and len(value) > 0),
    "a list of names such as ['Hit', 'NDCG']",
    "list of names",
)

ROWS = (
    _shared("metrics", _METRICS, "RecBole's metrics.", ["Hit", "NDCG", "MRR"]),
    _shared(
        "topk",
        of(_is_cut_offs, "a list of whole numbers, at least 1, such as [10, 20]", "list of int"),
        "Cut-offs.",
        [10, 20],
    ),
    _shared("valid_metric", text("Hit@10"), "Decides early stopping and the checkpoint that is kept.", "Hit@10"),
    Setting(
        "eval_batch_size",
        whole(1),
        "Users of an evaluation batch.",
        4096,
        Counts.PROTOCOL | Counts.RESUMED,
    ),
    Setting(
        "evaluate_first",
        optional(word("auto", flag=True)),
        "Validate before the first epoch, too, where epochs are validated; auto: with pretrained, or epochs: 0.",
        "auto",
    ),
    Setting(
        "eval_args",
        _EVAL_ARGS,
        "Split, order, grouping and candidates of the evaluation. Beside RecBole's splits `{global_time: [8, 1, 1]}`, "
        "`{cold_items: [8, 1, 1]}` and `{cold_users: [8, 1, 1]}`, with `order: TO`. Of sequential models: split "
        "`{LS: valid_and_test}`, order TO, mode full; who sets some of it names the split, too.",
        counts=Counts.DATA | Counts.PROTOCOL | Counts.FIXED,
    ),
    _shared("eval_step", whole(0), "Epochs between two validations; 0: none."),
    _shared("repeatable", switch(), "Whether items of the history are ranked, too; True of sequential models."),
    Setting(
        "metric_decimal_place",
        whole(0),
        "Digits of metrics.",
        counts=Counts.PROTOCOL | Counts.FIXED | Counts.RESUMED,
    ),
    Setting(
        "tail_ratio",
        optional(number(low=0)),
        "TailPercentage: which items are the tail.",
        counts=Counts.PROTOCOL | Counts.FIXED,
    ),
    *(
        Setting(
            name,
            of(lambda value: True, "", "computed"),
            "Made of other settings.",
            counts=Counts.COMPUTED | Counts.FIXED,
            instead=instead,
        )
        for name, instead in {
            "eval_type": "metrics decides it",
            "valid_metric_bigger": "valid_metric decides it",
            "valid_neg_sample_args": "write eval_args with split, order and mode: {valid: uni100, test: full}",
            "test_neg_sample_args": "write eval_args with split, order and mode: {valid: full, test: uni100}",
        }.items()
    ),
)
