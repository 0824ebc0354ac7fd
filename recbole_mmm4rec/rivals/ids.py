"""The data set of models that know items by their ids alone."""

from __future__ import annotations

from recbole_mmm4rec.data.dataset import MMM4RecDataset


class IdsAlone(MMM4RecDataset):
    """Our data set without feature tables, which need not exist: exact time, views instead of copies."""

    uses_features = False
