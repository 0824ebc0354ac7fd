"""What runs after which module of RecBole.

Right after a module of RecBole has been executed, first its repairs run (``recbole_mmm4rec.compat.REPAIRS``, only for
versions of RecBole that need them), then its hooks, both in the order in which they are listed. A function that wraps a
method of RecBole's therefore runs outside of those that were listed before it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

Hook = Callable[[ModuleType], None]
"""A function that gets the module."""

_HERE = "recbole_mmm4rec.plugin"
_FILES = "recbole_mmm4rec.checkpoints.recbole_files"

HOOKS: dict[str, tuple[str, ...]] = {
    "recbole.utils.argument_list": (f"{_HERE}.offers:add_dataset_keys",),
    "recbole.config.configurator": (
        f"{_HERE}.configuration:add_default_settings",
        f"{_HERE}.configuration:refuse_unusable_values",
        f"{_HERE}.stages:settle_stages",  # outside the checks: the split of a pre-training is checked like any other
        "recbole_mmm4rec.scoring.beside:settle_settings",
    ),
    "recbole.data.utils": (
        "recbole_mmm4rec.checkpoints.token_order:note_token_order",
        f"{_HERE}.offers:offer_user_batches",
    ),
    "recbole.data.dataset.dataset": (f"{_HERE}.splits:split_by_protocol",),
    "recbole.sampler.sampler": (f"{_HERE}.splits:draw_trained_items",),
    "recbole.data.dataset": (f"{_HERE}.offers:offer_dataset", f"{_HERE}.offers:share_item_features"),
    "recbole.model.abstract_recommender": ("recbole_mmm4rec.scoring.beside:install",),
    "recbole.data.dataloader.general_dataloader": (f"{_HERE}.splits:rank_each_target",),
    "recbole.data.dataloader.abstract_dataloader": ("recbole_mmm4rec.scoring.beside:draw_negatives_alone",),
    "recbole.trainer": (f"{_HERE}.offers:offer_trainer",),
    "recbole.trainer.trainer": (
        f"{_FILES}:use_our_files",
        f"{_FILES}:name_our_files",
        "recbole_mmm4rec.training.installed:watch_trainers",
        "recbole_mmm4rec.training.installed:rank_in_one_order",
    ),
    "recbole.quick_start.quick_start": (f"{_HERE}.offers:replace_quick_start",),
    **{
        f"recbole.model.{name}": (f"{_FILES}:use_our_files",)
        for name in (
            "context_aware_recommender.kd_dagfm",
            "general_recommender.convncf",
            "general_recommender.nais",
            "general_recommender.neumf",
            "general_recommender.ract",
            "sequential_recommender.s3rec",
        )
    },
    "recbole.model.general_recommender.ldiffrec": (f"{_FILES}:read_arrays_alone",),
}
"""Module of RecBole to our hooks, as ``module:function``."""
