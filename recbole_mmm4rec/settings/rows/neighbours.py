"""Settings of the neighbours (docs/model.md#neighbours).

What stood close together in training is added to the scores of any trained model; MMM4Rec-neighbours.yaml has it on.
"""

from __future__ import annotations

from recbole_mmm4rec.settings.kinds import number, optional, whole
from recbole_mmm4rec.settings.setting import Setting

ROWS = (
    Setting("neighbour_weight", optional(number(low=0)), "Of the neighbours beside a model's scores; 0: none.", 0),
    Setting("neighbour_window", whole(1), "Largest distance of two items in a history that counts as together.", 20),
    Setting(
        "neighbour_decay",
        number(above=0, high=1),
        "Weight of a history's item relative to the one after it.",
        0.9,
    ),
)
