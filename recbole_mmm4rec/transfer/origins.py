"""Whether a pre-training has seen the interactions that a training is asked about."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.origins import origins_of
from recbole_mmm4rec.settings.stage import is_pretraining

logger = logging.getLogger(__name__)
_HASH = re.compile("[0-9a-f]{64}")


def warn_of_shared(path: str, settings: Mapping[str, Any], config: Any) -> None:
    """Say that the pre-training ``path`` may have seen interactions of this data set, of its validation and test, too.

    Args:
        path: of the checkpoint; settings: those of its training; config: this training's.
    """
    there, folder = settings.get("dataset"), settings.get("data_path")
    if not isinstance(there, str) or not isinstance(folder, str) or is_pretraining(config):
        return  # a published checkpoint, or a pre-training that goes on with one of its own data
    here, places = config["dataset"], (Path(folder).parent.resolve(), Path(config["data_path"]).parent.resolve())
    try:
        shared = origins_of(places[0], there) & origins_of(places[1], here)
    except UserError:  # a damaged record tells nothing
        return
    if places[0] != places[1]:  # sets of the same name may be two
        shared = set(filter(_HASH.fullmatch, shared))
    if shared:
        logger.warning(
            "pretrained: %s was trained on %s, which may hold interactions of %s: what is validated and tested here "
            "may have been trained on there; pre-train without it",
            path,
            there,
            here,
        )
