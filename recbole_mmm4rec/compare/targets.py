"""Who is asked for what under a protocol: targets with the length of their history and how popular they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from recbole.utils import ModelType, get_model

from recbole_mmm4rec.base.tied_times import FILE, order_of_ties, tied_share
from recbole_mmm4rec.data.protocols import (
    LEAVE_ONE_OUT,
    LEAVE_ONE_OUT_OF_TWO,
    TEST,
    TRAIN,
    assign,
    split_of,
    time_numbers,
)


@dataclass(frozen=True)
class Targets:
    """The targets of the test, in the order of user tokens, those of a user in the order of time.

    Attributes:
        history: int64 (T,), interactions of the user before the target, however many a model reads.
        popularity: int64 (T,), interactions with the target in training, each user's first among them.
        mark: of users and targets, as the runs note it.
        counts: what :meth:`~recbole_mmm4rec.data.protocols.Assignment.counts` gives; empty where that is not known.
        tied: share of the interactions that share their time with the one before.
        order_of_ties: what orders those, as the set's preparation notes it.
        trained_until: the time of the last interaction in training; None where that is not known.
    """

    history: np.ndarray
    popularity: np.ndarray
    mark: str
    counts: Mapping[str, int] = field(default_factory=dict)
    tied: float = 0.0
    order_of_ties: str = FILE
    trained_until: float | None = None


def targets_of(dataset: Any, models: Iterable[str] = ()) -> Targets:
    """The targets of a data set as its configuration splits it.

    Args:
        dataset: RecBole's, after its filters and before it is built.
        models: those that are tested; where none of them is a sequential one, users of two interactions are, too.

    Raises:
        UserError: the split leaves a part empty.
    """
    kinds = {get_model(model).type == ModelType.SEQUENTIAL for model in models}
    left_out = LEAVE_ONE_OUT_OF_TWO if kinds == {False} else LEAVE_ONE_OUT
    name, shares = split_of(dataset.config) or (left_out, ())
    found = assign(dataset, name, shares)
    frame = dataset.inter_feat
    items = frame[dataset.iid_field].to_numpy()[found.rows]
    begins = np.flatnonzero(np.append(True, found.users[1:] != found.users[:-1]))
    place = np.arange(len(items)) - np.repeat(begins, np.diff(np.append(begins, len(items))))
    counted = found.part == TRAIN
    if name in (LEAVE_ONE_OUT, LEAVE_ONE_OUT_OF_TWO):
        counted &= np.bincount(found.users)[found.users] > 1  # as :func:`.training_popularity` counts
    popularity = np.bincount(items[counted], minlength=dataset.item_num)
    asked = np.flatnonzero(found.targets == TEST)
    users = dataset.id2token(dataset.uid_field, found.users[asked]).astype(str)
    order = np.argsort(users, kind="stable")
    asked, users = asked[order], users[order]
    tokens = dataset.id2token(dataset.iid_field, items[asked]).astype(str)
    times = time_numbers(frame[dataset.time_field].to_numpy()[found.rows])
    tied, trained = tied_share(found.users, times), times[found.part == TRAIN]
    until = float(trained.max()) if len(trained) else None
    order_in_ties = order_of_ties(Path(dataset.config["data_path"]) / f"{dataset.config['dataset']}.prep.json")
    mark = mark_of(users, tokens)
    return Targets(place[asked], popularity[items[asked]], mark, found.counts(), tied, order_in_ties, until)


def mark_of(users: Sequence[str] | np.ndarray, targets: Sequence[str] | np.ndarray) -> str:
    """The hash of users and their targets, sorted by user; what differs in it never stands in one table."""
    pairs = "\n".join(f"{user}\t{item}" for user, item in zip(users, targets, strict=True))
    return hashlib.sha256(pairs.encode()).hexdigest()[:16]
