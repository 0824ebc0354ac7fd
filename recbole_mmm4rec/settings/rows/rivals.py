"""Settings of rivals alone (docs/rivals.md); those that they share with MMM4Rec stand with its own."""

from __future__ import annotations

from recbole_mmm4rec.settings.homes import RIVALS
from recbole_mmm4rec.settings.kinds import number, optional, size, whole, word
from recbole_mmm4rec.settings.setting import Counts, Setting

_UNISREC = ("UniSRec",)

ROWS = (
    Setting("loss_type", word("CE"), "The cross-entropy over all items.", models=tuple(RIVALS)),
    Setting(
        "inner_size",
        optional(size(1)),
        "Width inside the feed-forward layers; None: 4 D.",
        counts=Counts.SHAPE,
        models=("TiM4Rec",),
    ),
    Setting("n_exps", whole(1), "K, experts of the adaptor.", counts=Counts.SHAPE, models=_UNISREC),
    Setting(
        "adaptor_dropout_prob",
        number(low=0, below=1),
        "Dropout of the features before each expert.",
        models=_UNISREC,
    ),
    Setting("n_layers", whole(1), "Layers of the Transformer.", counts=Counts.SHAPE, models=_UNISREC),
    Setting("n_heads", whole(1), "Heads of each; a divisor of D.", counts=Counts.SHAPE, models=_UNISREC),
    Setting("hidden_dropout_prob", number(low=0, below=1), "Dropout outside attention.", models=_UNISREC),
    Setting("attn_dropout_prob", number(low=0, below=1), "Dropout of attention.", models=_UNISREC),
    Setting(
        "hidden_act",
        word("gelu", "relu", "swish", "tanh", "sigmoid"),
        "Inside the feed-forward layers.",
        counts=Counts.SHAPE,
        models=_UNISREC,
    ),
    Setting("layer_norm_eps", number(above=0), "eps of every LayerNorm.", counts=Counts.SHAPE, models=_UNISREC),
    Setting("initializer_range", number(above=0), "Deviation of the initial weights.", models=_UNISREC),
    Setting("lambda", number(low=0), "pretrain: weight of the contrast of sequences with sequences.", models=_UNISREC),
    Setting(
        "item_drop_ratio",
        number(low=0, below=1),
        "pretrain: share of the items that the other view of a sequence lacks.",
        models=_UNISREC,
    ),
)
