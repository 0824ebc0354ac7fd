"""MMM4Rec, a multi-modal Mamba for sequential recommendation, as a plug-in of RecBole.

Importing this package is enough: RecBole then knows the model ``MMM4Rec`` with its data set, its trainer and its
default settings, and its known defects are repaired. The import itself is light: neither PyTorch nor RecBole is loaded.
The public names are those of docs/api.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.openmp import rest_soon
from recbole_mmm4rec.plugin.finder import register

if TYPE_CHECKING:
    from recbole_mmm4rec.data.dataset import MMM4RecDataset
    from recbole_mmm4rec.features import FeatureStore, store_path, write_store
    from recbole_mmm4rec.model import MMM4Rec
    from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
    from recbole_mmm4rec.recommend.explanation import Explanation, Gap, PastItem
    from recbole_mmm4rec.recommend.recommender import Recommender
    from recbole_mmm4rec.recommend.results import Recommendations, Recommended
    from recbole_mmm4rec.run.quick_start import load_data_and_model, objective_function, run_recbole
    from recbole_mmm4rec.training.trainer import MMM4RecTrainer
    from recbole_mmm4rec.transfer.published import network_from_published

__version__ = "0.1.0"

__all__ = [
    "Explanation",
    "FeatureStore",
    "Gap",
    "MMM4Rec",
    "MMM4RecDataset",
    "MMM4RecNetwork",
    "MMM4RecTrainer",
    "NetworkConfig",
    "PastItem",
    "Recommendations",
    "Recommended",
    "Recommender",
    "UserError",
    "__version__",
    "load_data_and_model",
    "network_from_published",
    "objective_function",
    "run_recbole",
    "store_path",
    "write_store",
]

_HOMES = {
    "Explanation": "recommend.explanation",
    "FeatureStore": "features",
    "Gap": "recommend.explanation",
    "MMM4Rec": "model",
    "MMM4RecDataset": "data.dataset",
    "MMM4RecNetwork": "network",
    "MMM4RecTrainer": "training.trainer",
    "NetworkConfig": "network",
    "PastItem": "recommend.explanation",
    "Recommendations": "recommend.results",
    "Recommended": "recommend.results",
    "Recommender": "recommend.recommender",
    "load_data_and_model": "run.quick_start",
    "network_from_published": "transfer.published",
    "objective_function": "run.quick_start",
    "run_recbole": "run.quick_start",
    "store_path": "features",
    "write_store": "features",
}


def __getattr__(name: str) -> Any:
    """A public name, whose module is imported when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


rest_soon()
register()
