"""Settings of the network.

Axes: L positions, D width, E = expand * D, P head width, H = E / P heads, N state, G groups, K convolution.
"""

from __future__ import annotations

from functools import partial

from recbole_mmm4rec.settings.kinds import number, size, switch, word
from recbole_mmm4rec.settings.setting import Counts, Setting

_row = partial(Setting, ours=True)
_SHAPE = Counts.SHAPE
_MAMBAS = ("Mamba4Rec", "TiM4Rec")
_TIM = ("TiM4Rec",)
_UNI = ("UniSRec",)

ROWS = (
    _row("hidden_size", size(1), "D, width of user and item vectors.", 256, _SHAPE, models=(*_MAMBAS, *_UNI)),
    _row("inner_size", size(1), "Width inside the feed-forward layers.", 256, _SHAPE, models=_UNI),
    _row("num_layers", size(1), "TiSSD and Cross-SSD layers.", 1, _SHAPE, models=_MAMBAS),
    _row("d_state", size(1), "N, state size of a head.", 64, _SHAPE, models=_MAMBAS),
    _row("n_groups", size(1), "G, heads of a group share B and C; a divisor of H.", 8, _SHAPE),
    _row("head_dim", size(1), "P, width of a head; a divisor of E.", 64, _SHAPE, models=_TIM),
    _row("expand", size(1), "E / D.", 2, _SHAPE, models=_MAMBAS),
    _row(
        "d_conv",
        size(1),
        "K, width of the causal convolutions, at most L (causal-conv1d takes 2 … 4).",
        4,
        _SHAPE,
        models=_MAMBAS,
    ),
    _row(
        "norm_eps",
        number(above=0),
        "eps of every LayerNorm and RMSNorm.",
        1e-12,
        _SHAPE | Counts.MEANING,
        models=_TIM,
    ),
    _row("embedding_drop_prob", number(low=0, below=1), "Dropout of the input item vectors.", 0.4),
    _row("dropout_prob", number(low=0, below=1), "Dropout inside the layers.", 0.4, models=_MAMBAS),
    _row("time_dropout_prob", number(low=0, below=1), "Dropout of the time signals.", 0.4, models=_TIM),
    _row("is_ffn", switch(), "A feed-forward layer after each block.", True, _SHAPE, models=_TIM),
    _row(
        "is_time",
        switch(),
        "Time gaps scale the step size and pass the Fourier filter.",
        True,
        _SHAPE | Counts.DATA,
        models=_TIM,
    ),
    _row(
        "p2p_residual",
        switch(),
        "The time gate has one value per position instead of one per row.",
        False,
        _SHAPE,
        models=_TIM,
    ),
    _row(
        "time_padding",
        word("masked", "zero_stamp"),
        "Gap at padded positions: 0, or minus the last stamp, as published.",
        "masked",
        _SHAPE | Counts.MEANING,
        models=_TIM,
    ),
    _row(
        "d_skip",
        word("scaled", "mamba"),
        "Skip of the scan: D * delta * x, as published, or D * x.",
        "scaled",
        _SHAPE,
    ),
    _row(
        "ablation",
        word("none", "filter", "sharing", "alignment", "cross"),
        "Part of the cross layers that is left out, to see what it brings; none: the paper.",
        "none",
        _SHAPE,
    ),
    _row(
        "is_modality_bias",
        switch(),
        'Trainable ID tables on top of the features (the paper\'s "with ID").',
        True,
        models=_UNI,
    ),
    _row(
        "item_mm_fusion",
        word("static", "dynamic_shared", "dynamic_instance"),
        "How the logits of the modalities are joined.",
        "static",
        _SHAPE | Counts.MEANING,
    ),
    _row("temperature", number(above=0), "Divides the scores.", 0.8, _SHAPE | Counts.MEANING, models=_UNI),
    _row(
        "ssd_backend",
        word("auto", "torch", "numba", "mamba_ssm", "recurrence"),
        "Scan: numba (compiled loops, processor), mamba_ssm (GPU kernels), recurrence (slow, for checks).",
        "auto",
        models=_TIM,
    ),
)
