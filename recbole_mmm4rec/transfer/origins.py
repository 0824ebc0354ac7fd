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
STARTED_FROM = "started_from"
"""The key of a configuration under which a checkpoint tells what it has seen before its own data."""
_HASH = re.compile("[0-9a-f]{64}")


def note_origins(path: str, settings: Mapping[str, Any], config: Any) -> None:
    """Note what a start has seen, for whatever starts from this training, and warn where it may be what is tested here.

    Args:
        path: of the checkpoint; settings: those of its training; config: this training's, which gets
            :data:`STARTED_FROM`: the hashes of the data that the checkpoint, and what it started from itself, has seen,
            as far as they still lie where they were.
    """
    told = settings.get(STARTED_FROM)
    listed = told if isinstance(told, (list, tuple)) else ()
    earlier = {one for one in listed if isinstance(one, str) and _HASH.fullmatch(one)}
    there, folder = settings.get("dataset"), settings.get("data_path")
    known = isinstance(there, str) and isinstance(folder, str)  # not of a published checkpoint
    place, own = Path(str(folder) if known else "").parent.resolve(), Path(config["data_path"]).parent.resolve()
    seen = _origins(place, there) if known else set()
    config[STARTED_FROM] = sorted(earlier.union(filter(_HASH.fullmatch, seen)))
    if is_pretraining(config):
        return  # which goes on with one of its own data
    here = _origins(own, config["dataset"])
    shared = seen & here
    if place != own:  # sets of the same name may be two
        shared = set(filter(_HASH.fullmatch, shared))
    if shared or earlier & here:
        logger.warning(
            "pretrained: %s %s may hold interactions of %s: what is validated and tested here "
            "may have been trained on there; pre-train without it",
            path,
            f"was trained on {there}, which" if shared else "itself started from a training on data that",
            config["dataset"],
        )


def _origins(folder: Path, name: Any) -> set[str]:
    """Where a set comes from, as far as that is known: a damaged record tells nothing."""
    try:
        return origins_of(folder, str(name))
    except UserError:
        return set()
