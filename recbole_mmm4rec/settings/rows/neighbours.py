"""Settings of the neighbours: what stood close together in training, added to the scores of a trained model."""

from __future__ import annotations

from functools import partial

from recbole_mmm4rec.settings.kinds import number, optional, whole
from recbole_mmm4rec.settings.setting import Setting

_row = partial(Setting, ours=True)

ROWS = (
    _row(
        "neighbour_weight", optional(number(low=0)), "Of the neighbours beside the network; 0: the paper's model.", 3.0
    ),
    _row("neighbour_window", whole(1), "Largest distance of two items in a history that counts as together.", 20),
    _row(
        "neighbour_decay",
        number(above=0, high=1),
        "Weight of a history's item relative to the one after it.",
        0.9,
    ),
)
