"""Settings of rivals alone (docs/rivals.md); those that they share with MMM4Rec stand with its own."""

from __future__ import annotations

from recbole_mmm4rec.settings.homes import RIVALS
from recbole_mmm4rec.settings.kinds import word
from recbole_mmm4rec.settings.setting import Setting

ROWS = (Setting("loss_type", word("CE"), "The cross-entropy over all items.", models=tuple(RIVALS)),)
