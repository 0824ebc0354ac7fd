"""Which token each id stands for, noted in the configuration, so that a checkpoint is not used with other ids.

RecBole numbers items in the order in which the files name them. With lines in another order, or other filters, the rows
of a checkpoint's tables belong to other items, and everything would be scored wrongly without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from recbole.utils import ModelType

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compat.tools import replace_function

KEY = "token_order"
"""Config key: field to its number of tokens and their digest, ``"count:digest"``; checkpoints hold it with the rest."""


def token_order(dataset: Any) -> dict[str, str]:
    """What the ids of a data set stand for.

    Args:
        dataset: a RecBole data set with its ids mapped.

    Returns:
        For the fields of users and items, the number of tokens (without padding) and a digest of them in their order.
    """
    found = {}
    for field in (dataset.uid_field, dataset.iid_field):
        if field in dataset.field2id_token:
            tokens = dataset.field2id_token[field][1:].tolist()
            digest = hashlib.sha256("\0".join(map(str, tokens)).encode()).hexdigest()[:16]
            found[field] = f"{len(tokens)}:{digest}"
    return found


def note_token_order(module: ModuleType) -> None:
    """Let ``create_dataset`` write the order into the configuration, which trainers save with a checkpoint."""

    def make(original: Any) -> Any:
        def create_dataset(config: Any) -> Any:
            dataset = original(config)
            config[KEY] = token_order(dataset)
            return dataset

        return create_dataset

    replace_function(module.create_dataset, make)


def users_matter(config: Any) -> bool:
    """Whether a model's weights depend on the numbers of users; models of histories know no user."""
    return bool(config["MODEL_TYPE"] != ModelType.SEQUENTIAL)


def other_tokens(saved: Mapping[str, str] | None, present: Mapping[str, str], users: bool) -> str:
    """What is wrong with a checkpoint whose ids stand for other tokens than those of the data set at hand.

    Args:
        saved: the order that the checkpoint was trained with; None for a checkpoint without one, which is accepted.
        present: the order of the data set.
        users: whether users count, too.

    Returns:
        The problem in words; empty where there is none.
    """
    for number, (field, now) in enumerate(present.items()):
        then = (saved or {}).get(field, now)
        if then == now or (number == 0 and not users):
            continue
        counts = [order.partition(":")[0] for order in (then, now)]
        difference = (
            f"{counts[0]} then, {counts[1]} now" if counts[0] != counts[1] else "the same number in another order"
        )
        return (
            f"the data set's '{field}' are not those that it was trained with ({difference}), so its weights "
            "would be read as other items'; restore the data files and settings of the training, or train again"
        )
    return ""


def check_token_order(saved: Mapping[str, str] | None, config: Any, source: str) -> None:
    """Refuse a checkpoint with :func:`other_tokens`.

    Args:
        saved: the order that the checkpoint was trained with.
        config: RecBole's configuration, after its data set was made.
        source: the checkpoint's file, for the message.

    Raises:
        UserError: naming the file and what differs.
    """
    problem = other_tokens(saved, config[KEY] or {}, users_matter(config))
    if problem:
        raise UserError(f"{source}: {problem}")
