"""Settings of the data: which files and columns are read, what is filtered, what an id is."""

from __future__ import annotations

from functools import partial
from typing import Any

from recbole_mmm4rec.settings.kinds import (
    encoding,
    intervals,
    is_intervals,
    is_names,
    is_number,
    is_whole,
    mapping,
    names,
    of,
    optional,
    switch,
    text,
    typed_names,
    whole,
    word,
)
from recbole_mmm4rec.settings.setting import Counts, Setting

_row = partial(Setting, counts=Counts.DATA)
# what all models of a comparison must share, and what would make trials of a search incomparable
_SHARED = Counts.DATA | Counts.PROTOCOL | Counts.FIXED
_shared = partial(Setting, counts=_SHARED)


def _is_columns(value: Any) -> bool:
    return value == "*" or is_names(value)


def _is_kept(value: Any) -> bool:
    return is_names(value) or (isinstance(value, str) and is_intervals(value))


def _is_discretization(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("method") in ("ED", "LD")
        and (value["method"] == "LD" or (is_whole(value.get("bucket")) and value["bucket"] > 0))
    )


ROWS = (
    Setting(
        "MAX_ITEM_LIST_LENGTH",
        whole(1),
        "L, positions of a history, at least K.",
        20,
        Counts.DATA | Counts.SHAPE | Counts.PROTOCOL,
    ),
    _shared(
        "load_col",
        optional(mapping(_is_columns, "{'inter': ['user_id', 'item_id', 'timestamp']}")),
        "Columns of the atomic files; time stamps in seconds.",
        {"inter": ["user_id", "item_id", "timestamp"]},
    ),
    Setting(
        "modalities",
        optional(typed_names("[text, image]")),
        "Feature stores to use: auto (all there are), text, image.",
        "auto",
        Counts.DATA | Counts.SHAPE,
        ours=True,
        models=("UniSRec",),
    ),
    Setting(
        "feature_path",
        optional(text("dataset/shop/features")),
        "Folder of the feature stores; by default DATASET/features.",
        None,
        Counts.DATA | Counts.PROTOCOL | Counts.RESUMED,
    ),
    Setting(
        "features_in",
        optional(word("auto", "memory", "mapped")),
        "Feature tables: in memory, left on disk, or auto: left above 512 MiB a table.",
        "auto",
        Counts.DATA | Counts.RESUMED,
    ),
    _shared(
        "candidates",
        optional(word("interactions", "all")),
        "Items that are ranked: those that occur, or also those of the item file.",
        "interactions",
    ),
    _row("selected_features", optional(typed_names("[text, category]")), "Item features of RecBole's feature models."),
    _shared("field_separator", text("'\\t'"), "Between the columns of atomic files."),
    _shared("seq_separator", text("' '"), "Between the values of a sequence."),
    _shared("encoding", optional(encoding()), "Of atomic files."),
    _shared("USER_ID_FIELD", text("user_id"), "Column of the users."),
    _shared("ITEM_ID_FIELD", text("item_id"), "Column of the items."),
    _row("RATING_FIELD", optional(text("rating")), "Column of the ratings."),
    _shared("TIME_FIELD", text("timestamp"), "Column of the times."),
    _row("LABEL_FIELD", optional(text("label")), "Column of the labels."),
    _row("NEG_PREFIX", text("neg_"), "Of the columns of sampled negatives."),
    _shared("LIST_SUFFIX", text("_list"), "Of columns that hold a history."),
    _shared("ITEM_LIST_LENGTH_FIELD", text("item_length"), "Column of the lengths of histories."),
    _row("POSITION_FIELD", text("position_id"), "Column of the positions in histories."),
    _row("HEAD_ENTITY_ID_FIELD", text("head_id"), "Knowledge graph: column of the heads."),
    _row("TAIL_ENTITY_ID_FIELD", text("tail_id"), "Knowledge graph: column of the tails."),
    _row("RELATION_ID_FIELD", text("relation_id"), "Knowledge graph: column of the relations."),
    _row("ENTITY_ID_FIELD", text("entity_id"), "Knowledge graph: column of the entities."),
    _row("kg_reverse_r", switch(), "Knowledge graph: whether each relation is also read backwards."),
    _row("entity_kg_num_interval", optional(intervals()), "Knowledge graph: triples of an entity that stays."),
    _row("relation_kg_num_interval", optional(intervals()), "Knowledge graph: triples of a relation that stays."),
    _row(
        "seq_len",
        optional(mapping(lambda length: is_whole(length) and length > 0, "{'genres': 5}")),
        "Longest sequence of a column.",
    ),
    _shared("unload_col", optional(mapping(is_names, "{'item': ['price']}")), "Columns that are not read."),
    _shared("unused_col", optional(mapping(is_names, "{'inter': ['timestamp']}")), "Columns that no batch holds."),
    _row(
        "additional_feat_suffix",
        optional(
            of(
                lambda value: (isinstance(value, str) and value != "") or is_names(value),
                "a list of names such as ['feat']",
                "list of names",
            )
        ),
        "Endings of further files.",
    ),
    _row("numerical_features", names("['price']"), "Columns of numbers that models embed."),
    _shared(
        "threshold",
        optional(
            of(
                lambda value: (
                    isinstance(value, dict)
                    and len(value) == 1
                    and all(isinstance(key, str) and is_number(part) for key, part in value.items())
                ),
                "a mapping of one column to a number such as {'rating': 3}",
                "mapping",
            )
        ),
        "From which value of a column on the label is 1.",
    ),
    _shared("rm_dup_inter", optional(word("first", "last")), "Which of a user's interactions with one item stays."),
    _shared(
        "val_interval",
        optional(mapping(_is_kept, "{'rating': '[3,inf)'}")),
        "Values that stay: intervals of a column of numbers, a list of names of another.",
    ),
    _shared("filter_inter_by_user_or_item", switch(), "Whether interactions without a row of user or item file go."),
    _shared("user_inter_num_interval", optional(intervals()), "Interactions of a user that stays."),
    _shared("item_inter_num_interval", optional(intervals()), "Interactions of an item that stays."),
    _row("alias_of_user_id", optional(names("['friend_id']")), "Columns that hold users, too."),
    _shared("alias_of_item_id", optional(names("['item_id_list']")), "Columns that hold items, too."),
    _row("alias_of_entity_id", optional(names("['entity_id']")), "Columns that hold entities, too."),
    _row("alias_of_relation_id", optional(names("['relation_id']")), "Columns that hold relations, too."),
    _row(
        "preload_weight",
        optional(mapping(lambda name: isinstance(name, str) and name != "", "{'feat_id': 'feat_vec'}")),
        "Column of ids to column of vectors that models begin with.",
    ),
    _row("normalize_field", optional(names("['rating']")), "Columns that are scaled to 0 … 1."),
    _shared("normalize_all", optional(switch()), "Whether every column of numbers is scaled to 0 … 1."),
    _row(
        "discretization",
        optional(mapping(_is_discretization, "{'price': {'method': 'ED', 'bucket': 10}}")),
        "How columns of numbers are cut into buckets.",
    ),
    _shared(
        "benchmark_filename",
        optional(names("['train', 'valid', 'test']", count=3)),
        "Endings of ready-made parts, training, validation and test, in place of a split.",
    ),
)
