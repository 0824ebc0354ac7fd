"""Repairs of RecBole, one small function each.

Every repair changes RecBole's own modules only; PyTorch, pandas and NumPy stay as they are for everybody else. (The
exception is :func:`~recbole_mmm4rec.compat.environment.alias_numpy_names`: it sets what RecBole itself sets, in time.)
All of them may go once the minimum version of RecBole is newer than :data:`RECBOLE_BROKEN_UP_TO` and its authors have
mended the cause; versions newer than that are left alone.
"""

from __future__ import annotations

import logging
import pkgutil
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

logger = logging.getLogger(__name__)

RECBOLE_BROKEN_UP_TO = (1, 2, 1)
"""The newest version of RecBole that is known to need the repairs."""

INSTALL_RECBOLE = "pip install --no-deps recbole==1.2.1"
"""Brings RecBole without its demands, which no Python from 3.12 on can meet; what it needs is among ours."""

_HERE = "recbole_mmm4rec.compat"

REPAIRS: dict[str, tuple[str, ...]] = {
    "recbole": (f"{_HERE}.environment:alias_numpy_names",),
    "recbole.utils.utils": (
        f"{_HERE}.config:name_unknown_models",
        f"{_HERE}.environment:survive_failed_profiling",
        f"{_HERE}.environment:make_folders_together",
    ),
    "recbole.utils.argument_list": (f"{_HERE}.caches:compare_data_files",),
    "recbole.config.configurator": (
        f"{_HERE}.config:read_literals",
        f"{_HERE}.config:explain_config_files",
        f"{_HERE}.config:settle_defaults",
        f"{_HERE}.config:prefer_prepared_ml_100k",
        f"{_HERE}.config:obey_use_gpu",
        f"{_HERE}.caches:fingerprint_data_files",
        f"{_HERE}.distributed:enter_group",
    ),
    "recbole.data.dataset.dataset": (
        f"{_HERE}.data:read_atomic_files",
        f"{_HERE}.data:name_unloaded_columns",
        f"{_HERE}.missing:fill_missing_values",
        f"{_HERE}.missing:leave_out_rows_without_ids",
        f"{_HERE}.data:sort_times_in_64_bits",
        f"{_HERE}.data:measure_sequences",
        f"{_HERE}.data:copy_read_only_columns",
        f"{_HERE}.data:finish_downloads",
        f"{_HERE}.caches:save_datasets_whole",
    ),
    "recbole.data.dataset.kg_dataset": (f"{_HERE}.data:measure_sequences",),
    "recbole.data.dataset.sequential_dataset": (
        f"{_HERE}.data:measure_sequences",
        f"{_HERE}.data:keep_times_between_users",
        f"{_HERE}.sequential:check_sequences",
        f"{_HERE}.sequential:use_ready_made_splits",
    ),
    "recbole.data.interaction": (f"{_HERE}.data:sort_tensors",),
    "recbole.data.dataloader.abstract_dataloader": (
        f"{_HERE}.loading:number_samples",
        f"{_HERE}.loading:shuffle_in_parts",
        f"{_HERE}.distributed:split_batches",
    ),
    "recbole.sampler.sampler": (f"{_HERE}.loading:share_empty_sets",),
    "recbole.data.utils": (
        f"{_HERE}.caches:remake_unreadable_datasets",
        f"{_HERE}.caches:save_dataloaders_whole",
        f"{_HERE}.caches:load_dataloaders_of_any_model",
    ),
    "recbole.trainer.trainer": (
        f"{_HERE}.training:use_current_amp",
        f"{_HERE}.training:build_nadam",
        f"{_HERE}.training:validate_models_that_only_count",
        f"{_HERE}.tensorboard:write_tensorboard_late",
        f"{_HERE}.epochs:train_in_steps",
        f"{_HERE}.distributed:train_jointly",
        f"{_HERE}.distributed:load_one_checkpoint",
    ),
    "recbole.trainer.hyper_tuning": (
        f"{_HERE}.config:read_literals",
        f"{_HERE}.tuning:draw_with_new_generator",
        f"{_HERE}.tuning:find_every_combination",
    ),
    "recbole.evaluator.collector": (
        f"{_HERE}.models:collect_numbers",
        f"{_HERE}.distributed:merge_evaluations",
    ),
    "recbole.evaluator.evaluator": (f"{_HERE}.distributed:evaluate_once",),
    "recbole.model.general_recommender.pop": (f"{_HERE}.models:count_every_interaction",),
    "recbole.model.knowledge_aware_recommender.kgat": (f"{_HERE}.models:attend_as_before",),
    "recbole.model.layers": (f"{_HERE}.models:embed_several_numbers",),
    "recbole.model.sequential_recommender.sasrecf": (f"{_HERE}.models:count_each_feature_once",),
    "recbole.model.sequential_recommender.sine": (f"{_HERE}.models:switch_anomaly_detection_off",),
} | {
    f"recbole.model.{name}": (f"{_HERE}.models:fill_sparse_matrices",)
    for name in (
        "general_recommender.gcmc",
        "general_recommender.lightgcn",
        "general_recommender.ncl",
        "general_recommender.ngcf",
        "general_recommender.spectralcf",
        "knowledge_aware_recommender.kgin",
        "knowledge_aware_recommender.mcclk",
    )
}
"""The repairs of each RecBole module, run right after the module has been executed."""

REPAIRS |= {
    f"recbole.model.general_recommender.{name}": (f"{_HERE}.models:keep_what_training_counts",)
    for name in ("multivae", "macridvae", "ract", "diffrec", "ldiffrec", "line")
}

DURING_IMPORT = {
    "recbole.quick_start.quick_start": f"{_HERE}.environment:stand_in_for_ray",
    "recbole.evaluator.metrics": f"{_HERE}.environment:put_off_sklearn",
}
"""What holds while a RecBole module is executed."""


def is_broken(version: str) -> bool:
    """Whether this version of RecBole is one that the repairs were written for."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3]) <= RECBOLE_BROKEN_UP_TO


def _applies() -> bool:
    version = str(getattr(sys.modules["recbole"], "__version__", "0"))
    if not is_broken(version):
        logger.debug("RecBole %s is newer than %s: it is left as it is", version, RECBOLE_BROKEN_UP_TO)
        return False
    return True


def repairs_of(module_name: str) -> tuple[str, ...]:
    """References ``"module:function"`` of the repairs of one RecBole module, none for a RecBole that needs none."""
    return REPAIRS[module_name] if module_name in REPAIRS and _applies() else ()


@contextmanager
def while_importing(module_name: str) -> Iterator[None]:
    """What must hold while a RecBole module is executed."""
    reference = DURING_IMPORT.get(module_name)
    context = pkgutil.resolve_name(reference)() if reference and _applies() else nullcontext()
    with context:
        yield
