"""Settings of the training."""

from __future__ import annotations

from functools import partial
from typing import Any

from recbole_mmm4rec.settings.kinds import is_number, is_whole, number, of, optional, switch, whole, word
from recbole_mmm4rec.settings.setting import Counts, Setting

_row = partial(Setting, ours=True)

_CLIPPING = ("max_norm", "norm_type", "foreach")  # what is not finite is told by nan_policy, or left out by the scaler
_NEGATIVES = ("distribution", "sample_num", "alpha", "dynamic", "candidate_num")
_TRANSFORMS = ("mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq")


def _is_clipping(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= set(_CLIPPING)
        and is_number(value.get("max_norm"))
        and value["max_norm"] > 0
        and is_number(value.get("norm_type", 2))
    )


def _are_negatives(given: dict[str, Any]) -> bool:
    if not given.keys() <= set(_NEGATIVES):
        return False
    filled = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0, **given}
    if filled["distribution"] not in ("uniform", "popularity"):
        return True  # RecBole tells of it
    counts = [filled["sample_num"], *([filled["candidate_num"]] if filled["dynamic"] else [])]
    return is_number(filled["alpha"]) and all(is_whole(count) and count > 0 for count in counts)


ROWS = (
    _row(
        "loss_type",
        word("CE", "sampled", "in_batch"),
        "CE (all items), sampled (estimated from a few), in_batch (the labels of the batch).",
        "CE",
    ),
    _row(
        "label_smoothing",
        optional(number(low=0, below=1)),
        "CE, sampled: share of the target spread over all items; 0: the paper.",
        0.1,
    ),
    _row(
        "loss_chunk",
        optional(
            of(
                lambda value: value == "auto" or (is_whole(value) and value >= 0),
                "auto or a whole number, at least 0",
                "auto or int ≥ 0",
            )
        ),
        "CE: items scored at once; 0: all; auto: all up to B * I = 2^25.",
        "auto",
    ),
    _row("sampled_uniform", whole(0), "sampled: candidates of a batch that are drawn from all items alike.", 1024),
    _row(
        "sampled_in_batch",
        optional(switch()),
        "sampled: the labels of the batch are candidates, too, corrected by their popularity.",
        True,
    ),
    _row(
        "mask_false_negatives",
        optional(switch()),
        "in_batch: leave out columns that hold the row's own label (published: kept).",
        False,
    ),
    Setting(
        "train_neg_sample_args",
        of(
            lambda value: value in (None, "None") or (isinstance(value, dict) and _are_negatives(value)),
            "a mapping such as {'distribution': 'uniform', 'sample_num': 1}, with whole numbers, at least 1, or None",
            "mapping",
        ),
        "None: the losses of MMM4Rec need no sampled negatives.",
        None,
    ),
    Setting("epochs", whole(0), "Upper limit; early stopping usually ends a training long before.", 100),
    Setting(
        "stopping_step",
        whole(0),
        "More evaluations in a row below the best valid_metric end the training.",
        10,
        Counts.PROTOCOL | Counts.RESUMED,
    ),
    Setting("train_batch_size", whole(1), "Samples of a batch.", 1024),
    _row(
        "train_unit",
        optional(word("prefix", "user")),
        "prefix: samples of any users in a batch; user: all prefixes of a history together, which share work.",
        "prefix",
    ),
    _row(
        "accumulation_steps",
        optional(whole(1)),
        "Batches of one optimiser step; in_batch, sampled: candidates per batch.",
        1,
    ),
    _row("learner", word("adam", "adamw", "nadam", any_case=True), "The optimiser.", "nadam"),
    Setting(
        "learner",
        word("adam", "adamw", "nadam", "sgd", "adagrad", "rmsprop", any_case=True),
        "The optimiser; RecBole takes adam for a name that it does not know.",
    ),
    Setting("learning_rate", number(above=0), "Step size.", 3e-4),
    Setting("weight_decay", optional(number(low=0)), "Weight decay.", 0.01),
    _row(
        "decoupled_weight_decay",
        switch(),
        "NAdam takes the decay off the weights, as AdamW does, not into the gradient.",
        True,
    ),
    _row("decay_norms", switch(), "Whether A_log, D_skip, dt_bias, norms and biases decay, too.", False),
    _row(
        "row_wise_ids",
        optional(word("auto", flag=True)),
        "Steps move only the ID rows in use; auto: with sampled and in_batch.",
        "auto",
    ),
    Setting(
        "clip_grad_norm",
        optional(of(_is_clipping, "arguments of clip_grad_norm_ such as {'max_norm': 5}", "mapping")),
        "Arguments of clip_grad_norm_, such as {'max_norm': 5}.",
        None,
    ),
    _row(
        "lr_schedule",
        optional(word("constant", "linear", "cosine")),
        "After the warm-up; linear and cosine go down to lr_floor at the last epoch.",
        "constant",
    ),
    _row("warmup_steps", optional(whole(0)), "Optimiser steps of linear warm-up.", 0),
    _row("lr_floor", optional(number(low=0, high=1)), "Share of learning_rate left at the end of the schedule.", 0.0),
    Setting("enable_amp", switch(), "Mixed precision in training; of MMM4Rec in evaluation, too.", False),
    _row("amp_dtype", optional(word("bfloat16", "float16")), "float16 comes with a gradient scaler.", "bfloat16"),
    _row(
        "cuda_graphs",
        optional(word("auto", flag=True)),
        "GPU: steps as CUDA graphs (needs CE, mamba_ssm); auto: where possible.",
        "auto",
    ),
    Setting(
        "fast_cpu",
        optional(switch()),
        "RecBole's own models on a processor: cheaper dropout masks (others than PyTorch's) and GELU.",
        False,
        Counts.PROTOCOL,
    ),
    _row(
        "weight_average",
        optional(number(low=0, below=1)),
        "Validate and keep an average of the weights that forgets 1 - this at a step; 0: off.",
        0.0,
    ),
    Setting(
        "nan_policy",
        optional(word("stop", "skip")),
        "A loss that is not finite: stop, or skip the batch as long as all parameters are finite.",
        "stop",
        Counts.RESUMED | Counts.FIXED,
    ),
    Setting("seed", whole(0, 2**32 - 1), "Of all random numbers.", counts=Counts.COMMAND | Counts.FIXED),
    Setting("reproducibility", switch(), "Whether kernels are deterministic.", counts=Counts.COMMAND),
    Setting("shuffle", switch(), "Whether training samples are shuffled before each epoch."),
    Setting("enable_scaler", switch(), "RecBole's gradient scaler, for float16; MMM4Rec's comes with amp_dtype."),
    Setting("require_pow", switch(), "EmbLoss: power instead of norm."),
    Setting(
        "reg_weight",
        optional(of(lambda value: is_number(value) or isinstance(value, list), "a number", "float")),
        "Weight of a model's own regularisation.",
    ),
    Setting("double_tower", optional(switch()), "Context-aware models: one tower each for users and items."),
    Setting("transform", optional(word(*_TRANSFORMS)), "RecBole's augmentation of histories in batches."),
    *(
        Setting(name, optional(number()), f"transform: {what}; models have settings of that name, too.")
        for name, what in {
            "mask_ratio": "share of a history that mask_itemseq masks",
            "ft_ratio": "share of samples of which mask_itemseq masks the last item alone",
            "eta": "share of a history that crop_itemseq keeps",
            "beta": "share of a history that reorder_itemseq reorders",
        }.items()
    ),
)
