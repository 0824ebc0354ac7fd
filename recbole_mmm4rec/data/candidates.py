"""Which items get an internal id: the same for every sequential model, or no comparison would be fair.

RecBole gives an id to every line of ``NAME.item`` when that file is loaded, and none of them when it is not; an item
that nobody ever took then counts as a candidate for one model and not for the next. The key ``candidates`` decides:
``interactions`` (default), only items that occur in interactions; ``all``, all items of ``NAME.item`` or, without that
file, of the feature stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from recbole.utils import FeatureType

from recbole_mmm4rec.base.atomic_files import read_header, require_columns
from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.data.columns import read_columns
from recbole_mmm4rec.features.tables import FeatureSource

CHOICES = ("interactions", "all")


def candidate_choice(config: Any) -> str:
    """The value of the key ``candidates``.

    Raises:
        UserError: it is neither "interactions" nor "all".
    """
    choice = config["candidates"] or "interactions"
    if choice not in CHOICES:
        hint = did_you_mean(str(choice), CHOICES)
        raise UserError(f"candidates: {choice!r} is neither 'interactions' nor 'all'{hint}")
    return str(choice)


def remap_items(dataset: Any, remap: Callable[[], None]) -> None:
    """Give internal ids to tokens so that item ids follow the key ``candidates``.

    Args:
        dataset: a RecBole data set whose features are still data frames of tokens.
        remap: RecBole's own ``_remap_ID_all``.
    """
    choice = candidate_choice(dataset.config)
    if choice == "interactions":
        _drop_unused_items(dataset)
    remap()
    if choice == "all":
        _add_tokens(dataset, _all_items(dataset))


def _drop_unused_items(dataset: Any) -> None:
    """Leave rows of item features out whose item occurs in no interaction."""
    if dataset.feat_name_list == ["inter_feat"]:
        return
    fields = [field for field in dataset.alias["item_id"] if field in dataset.inter_feat]
    used: set[str] = set()
    for field in fields:
        values = dataset.inter_feat[field]
        is_list = dataset.field2type[field] == FeatureType.TOKEN_SEQ
        used.update(np.concatenate(values.to_list()) if is_list else values.unique())
    for name in dataset.feat_name_list:
        feat = getattr(dataset, name)
        for field in dataset.alias["item_id"]:
            if name == "inter_feat" or field not in feat or dataset.field2type[field] != FeatureType.TOKEN:
                continue
            feat = feat[feat[field].isin(used)].reset_index(drop=True)
            setattr(dataset, name, feat)


def _all_items(dataset: Any) -> Iterable[str]:
    """Tokens of all items: of ``NAME.item`` or, where it does not exist, of the feature stores."""
    source = FeatureSource.of(dataset.config)
    if not source.item_file.is_file():
        return [token for modality in source.found() for token in source.open(modality).items]
    header = read_header(source.item_file, source.separator, source.encoding)
    require_columns(source.item_file, header, {dataset.iid_field: "token"})
    column = read_columns(source.item_file, header, [dataset.iid_field], source.separator, source.encoding)
    tokens: list[str] = column[dataset.iid_field].dropna().to_list()
    return tokens


def _add_tokens(dataset: Any, tokens: Iterable[str]) -> None:
    """Give ids after the last one to the tokens that have none yet, in their order."""
    known = dataset.field2token_id[dataset.iid_field]
    fresh = [token for token in dict.fromkeys(tokens) if token not in known]
    if not fresh:
        return
    extended = np.array([*dataset.field2id_token[dataset.iid_field], *fresh])
    token_id = {token: number for number, token in enumerate(extended)}
    for field in dataset.alias["item_id"]:
        dataset.field2id_token[field] = extended
        dataset.field2token_id[field] = token_id
