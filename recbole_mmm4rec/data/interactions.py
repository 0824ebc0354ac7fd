"""Checks of interactions, which make a mistake in their files one clear line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_mmm4rec.base.atomic_files import line_of, read_header, require_columns
from recbole_mmm4rec.base.command_names import called
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.ready_made import has_histories, history_field

_TIME_LIMIT = 2.0**62  # inside int64, whatever the unit


def require_files(folder: Path, names: Sequence[str], dataset: str) -> None:
    """Refuse a data set whose folder or interaction files are missing.

    Args:
        folder: the data set's folder.
        names: file names that must lie in it.
        dataset: the data set's name, for the message.

    Raises:
        UserError: a folder or file is missing; says what was looked for and which commands make one.
    """
    way_out = (
        f"set data_path to the folder that holds '{dataset}', or prepare it: "
        f"`{called('prep')} table --interactions FILE --items FILE --name {dataset}` (`{called('prep')} --help` lists "
        "the other sources)"
    )
    if not folder.is_dir():
        raise UserError(f"data set '{dataset}': no folder {folder}; {way_out}")
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"data set '{dataset}': no file {folder / name}; {way_out}")


def require_interactions(dataset: Any, path: Path, time: bool) -> None:
    """Refuse a file of interactions without the columns that sequences are made of.

    Args:
        dataset: a sequential data set.
        path: the file.
        time: whether it needs time stamps.

    Raises:
        UserError: a column is missing or of another type; lists the columns that are there.
    """
    config = dataset.config
    header = read_header(path, config["field_separator"], config["encoding"] or "utf-8")
    wanted = {dataset.uid_field: "token", dataset.iid_field: "token"}
    if config["benchmark_filename"] is not None and history_field(config) in header:
        wanted[history_field(config)] = "token_seq"
    elif time:
        wanted[dataset.time_field] = "float"
    require_columns(path, header, wanted)


def check_repeated_users(dataset: Any) -> None:
    """Refuse interactions of which no history can be made.

    Args:
        dataset: a sequential data set with its ids mapped.

    Raises:
        UserError: no user has two interactions.
    """
    if has_histories(dataset) or np.bincount(dataset.inter_feat[dataset.uid_field])[1:].max(initial=0) >= 2:
        return
    raise UserError(
        f"data set '{dataset.dataset_name}': no user has two interactions, so there is no history to learn from; "
        "use data with repeated users, or loosen user_inter_num_interval and val_interval"
    )


def check_parts(dataset: Any, parts: Sequence[Any]) -> None:
    """Refuse a split that leaves nothing to train on, or nothing to leave out.

    Args:
        dataset: the data set that was split.
        parts: training, validation and test.

    Raises:
        UserError: naming the sizes of the parts, and what decides them.
    """
    sizes = [len(part) for part in parts]
    counts = ", ".join(map(str, sizes))
    if dataset.benchmark_filename_list is not None:
        if sizes[0] == 0:
            raise UserError(
                f"benchmark_filename={dataset.benchmark_filename_list}: no sample is left to train on (samples: "
                f"{counts}); the first interaction of a user has no history"
            )
    elif sizes[0] == 0:
        raise UserError(
            f"data set '{dataset.dataset_name}': the split leaves nothing to train on (samples: {counts}); change "
            "eval_args['split']"
        )
    elif sum(sizes[1:]) == 0 and "LS" in dataset.config["eval_args"]["split"]:
        pretraining = dataset.config["stage"] == "pretrain"  # which tests nothing, and splits by its own key
        held_out, way_out = ("validate", "pretrain_on: all") if pretraining else ("test", "another eval_args['split']")
        raise UserError(
            f"data set '{dataset.dataset_name}': no user has three interactions, so leaving one out leaves nothing "
            f"to train or nothing to {held_out} on; use longer histories or {way_out}"
        )


def check_times(frame: pd.DataFrame, user_field: str, time_field: str, path: Path, encoding: str, gaps: bool) -> None:
    """Refuse time stamps by which interactions cannot be ordered, or from which no gap between them can be computed.

    Args:
        frame: interactions in the order of the file.
        user_field: column of users.
        time_field: column of time stamps, float64 seconds.
        path: the file, for the message.
        encoding: of the file.
        gaps: whether a model looks at the gaps; it may then leave them out.

    Raises:
        UserError: a time stamp is missing, not finite or, with ``gaps``, negative; names line, user and value.
    """
    times = frame[time_field].to_numpy(dtype=np.float64)
    for wrong, word in ((~np.isfinite(times), "not a finite number"), (gaps & (times < 0), "negative")):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            value = "missing" if np.isnan(times[row]) else f"{times[row]:.17g}"
            user, line = frame[user_field].iloc[row], line_of(path, row, encoding)
            way_out = "mend it, or set is_time: False to leave time gaps out of the model"
            raise UserError(
                f"{path} line {line}: {time_field} of user '{user}' is {word}: {value}; "
                f"{way_out if gaps else 'mend it: histories are ordered by it'}"
            )


def check_time_passes(times: np.ndarray, path: Path) -> None:
    """Refuse interactions that all happened at once.

    Args:
        times: float64 (R,).
        path: the file, for the message.

    Raises:
        UserError: all time stamps are equal.
    """
    if len(times) > 1 and (times == times[0]).all():
        raise UserError(
            f"{path}: all {len(times)} time stamps are {times[0]:.17g}, so no interaction comes before another; "
            "set is_time: False to take the order of the file, or prepare the data with --time-from-order"
        )


def whole_seconds(times: np.ndarray) -> np.ndarray:
    """Time stamps as int64, fractions cut off: exact where float32, RecBole's choice, has steps of 128 s.

    Args:
        times: float64 (R,), finite or infinite; NaN counts as the earliest.

    Returns:
        int64 (R,).
    """
    bounded = np.nan_to_num(times, nan=-_TIME_LIMIT, posinf=_TIME_LIMIT, neginf=-_TIME_LIMIT)
    np.floor(np.clip(bounded, -_TIME_LIMIT, _TIME_LIMIT, out=bounded), out=bounded)
    return bounded.astype(np.int64)
