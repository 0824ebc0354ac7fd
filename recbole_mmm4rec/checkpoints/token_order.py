"""Which token each id stands for, noted in the configuration, so that a checkpoint is not used with other ids.

RecBole numbers items in the order in which the files name them. With lines in another order, or other filters, the rows
of a checkpoint's tables belong to other items, and everything would be scored wrongly without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import wraps
from types import ModuleType
from typing import Any

import torch
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


def check_resumed(module: ModuleType) -> None:
    """Let ``resume_checkpoint`` refuse a checkpoint of other ids before it changes anything."""
    original = module.Trainer.resume_checkpoint

    @wraps(original)
    def resume_checkpoint(self: Any, resume_file: Any) -> None:
        saved = torch.load(resume_file, map_location="cpu", weights_only=False, mmap=True)["config"]
        check_token_order(
            saved[KEY], self.config[KEY] or {}, f"checkpoint {str(resume_file)!r}", users_matter(self.config)
        )
        original(self, resume_file)

    module.Trainer.resume_checkpoint = resume_checkpoint


def users_matter(config: Any) -> bool:
    """Whether a model's weights depend on the numbers of users; models of histories know no user."""
    return bool(config["MODEL_TYPE"] != ModelType.SEQUENTIAL)


def check_token_order(saved: Mapping[str, str] | None, present: Mapping[str, str], source: str, users: bool) -> None:
    """Refuse a checkpoint whose ids stand for other tokens than those of the data set at hand.

    Args:
        saved: the order that the checkpoint was trained with; None for a checkpoint without one, which is accepted.
        present: the order of the data set.
        source: the checkpoint's file, for the message.
        users: whether users count, too.

    Raises:
        UserError: naming the file and what differs.
    """
    for number, (field, now) in enumerate(present.items()):
        then = (saved or {}).get(field, now)
        if then == now or (number == 0 and not users):
            continue
        counts = [order.partition(":")[0] for order in (then, now)]
        difference = (
            f"{counts[0]} then, {counts[1]} now" if counts[0] != counts[1] else "the same number in another order"
        )
        raise UserError(
            f"{source}: the data set's '{field}' are not those that it was trained with ({difference}), so its weights "
            "would be read as other items'; restore the data files and settings of the training, or train again"
        )
