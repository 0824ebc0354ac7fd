"""Feature stores for RecBole's own sequential models, so that comparisons rest on the same vectors.

``SASRecF``, ``FDSA`` and ``GRU4RecF`` name item features in the key ``selected_features``. A name there that is a
modality with a feature store, and no loaded column of ``NAME.item``, becomes a vector feature: a float_seq field of
the item features, (I + 1, F), which the model's feature layer maps to its embedding size with one linear map without
bias. So does a column of numbers, one (``float``) or several (``float_seq``) for each item, that is not among
``numerical_features``. RecBole's layer for these fields (``model/layers.py``, ``ContextSeqEmbAbstractLayer``) ignores
them, and the model then ends in a wrong shape (RUCAIBox/RecBole issue 2196); of several ``numerical_features`` it
multiplies every number with one and the same embedding and averages them, so that of a vector only its mean is left.

The vectors of a store are read when the model asks for the item features (``get_item_feature``). They are no part of
``item_feat``, which RecBole joins into every batch and pickles with the data set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.model.layers import ContextSeqEmbAbstractLayer
from recbole.utils import FeatureSource as Source
from recbole.utils import FeatureType
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.data.candidates import remap_items
from recbole_mmm4rec.features.tables import FeatureSource, note_absent, read_table
from recbole_mmm4rec.settings.reading import name_list


def install_stock_item_features() -> None:
    """Teach RecBole's sequential data set and its feature layer to use feature stores; a second call does nothing.

    Every sequential data set also follows the key ``candidates`` from then on.
    """
    if getattr(SequentialDataset, "_mmm4rec_item_features", False):
        return
    SequentialDataset._mmm4rec_item_features = True
    SequentialDataset._remap_ID_all = _remap_ID_all
    SequentialDataset.get_item_feature = _get_item_feature
    SequentialDataset.get_preload_weight = _get_preload_weight
    layer = ContextSeqEmbAbstractLayer
    layer.get_fields_name_dim = _counting_vectors(layer.get_fields_name_dim)
    layer.get_embedding = _projecting_vectors(layer.get_embedding)
    layer.embed_input_fields = _embedding_vectors(layer.embed_input_fields)


def register_vector_features(dataset: Any) -> None:
    """Make fields of the modalities that ``selected_features`` names, and refuse names that are no item feature.

    Args:
        dataset: a RecBole data set with its ids mapped.

    Raises:
        UserError: a selected feature is neither a loaded column of items nor a modality with a store.
    """
    source = FeatureSource.of(dataset.config)
    dataset.vector_features, dataset.stored_features = [], []
    dataset.config["selected_features"] = name_list(dataset.config["selected_features"])
    for name in dataset.config["selected_features"] or []:
        if dataset.item_feat is not None and name in dataset.item_feat:
            is_number = dataset.field2type[name] in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
            if is_number and name not in dataset.config["numerical_features"]:
                dataset.vector_features.append(name)
            continue
        if name not in source.found():
            columns = [] if dataset.item_feat is None else list(dataset.item_feat)
            raise UserError(
                f"selected_features: '{name}' is neither a loaded column of {source.item_file} "
                f"({', '.join(columns) or 'none is loaded'}) nor a feature store in {source.folder} "
                f"({', '.join(source.found()) or 'none is there'}); load it with load_col, or `{source.command()}`"
            )
        # Models count a float_seq field as that many features; the vector is embedded as one.
        dataset.set_field_property(name, FeatureType.FLOAT_SEQ, Source.ITEM, 1)
        dataset.vector_features.append(name)
        dataset.stored_features.append(name)
        note_absent(source.open(name), item_tokens(dataset))


def vectors_of(dataset: Any, modality: str) -> np.ndarray:
    """A modality's vectors in the order of a data set's item ids.

    Args:
        dataset: a RecBole data set with its ids mapped.
        modality: "text" or "image".

    Returns:
        (I + 1, F) float32; row 0 and the rows of items without a vector are zeros.

    Raises:
        UserError: the store is missing, damaged, or of other items.
    """
    store = FeatureSource.of(dataset.config).open(modality)
    return read_table(store, item_tokens(dataset))[0]


def item_tokens(dataset: Any) -> list[str]:
    """The I item tokens of a data set with its ids mapped, in the order of the ids from 1."""
    tokens: list[str] = dataset.field2id_token[dataset.iid_field][1:].tolist()
    return tokens


def _remap_ID_all(self: Any) -> None:
    remap_items(self, super(SequentialDataset, self)._remap_ID_all)
    register_vector_features(self)


def _get_item_feature(self: Any) -> Interaction:
    features = super(SequentialDataset, self).get_item_feature()
    names = getattr(self, "stored_features", [])
    if not names:
        return features
    vectors = {name: torch.from_numpy(vectors_of(self, name)) for name in names}
    return Interaction({**features.interaction, **vectors})


def _get_preload_weight(self: Any, field: str) -> np.ndarray:
    if field not in self._preloaded_weight and field in FeatureSource.of(self.config).found():
        return vectors_of(self, field)
    weight: np.ndarray = super(SequentialDataset, self).get_preload_weight(field)
    return weight


def _vector_fields(layer: Any, kind: str) -> list[str]:
    """Vector features among the layer's fields of ``kind``, "user" or "item"."""
    known = getattr(layer.dataset, "vector_features", [])
    return [field for field in layer.field_names[kind] if kind == "item" and field in known]


def _counting_vectors(original: Callable[[Any], None]) -> Callable[[Any], None]:
    def get_fields_name_dim(self: Any) -> None:
        original(self)
        for kind in self.types:
            self.num_feature_field[kind] += len(_vector_fields(self, kind))

    return get_fields_name_dim


def _projecting_vectors(original: Callable[[Any], None]) -> Callable[[Any], None]:
    def get_embedding(self: Any) -> None:
        original(self)
        fields = [field for kind in self.types for field in _vector_fields(self, kind)]
        if fields:
            widths = {field: self.item_feat[field].shape[1:].numel() for field in fields}
            self.vector_projection = nn.ModuleDict(
                {field: nn.Linear(width, self.embedding_size, bias=False) for field, width in widths.items()}
            ).to(self.device)

    return get_embedding


def _embedding_vectors(original: Callable[..., Any]) -> Callable[..., Any]:
    def embed_input_fields(self: Any, user_idx: Tensor | None, item_idx: Tensor) -> Any:
        sparse, dense = original(self, user_idx, item_idx)
        for kind in self.types:
            fields = _vector_fields(self, kind)
            if not fields:
                continue
            # Items recur within a batch: each is projected once, and no (B, L, F) tensor is made.
            items, place = torch.unique(item_idx, return_inverse=True)
            tables = {field: self.item_feat[field][items].reshape(len(items), -1) for field in fields}  # (distinct, F)
            vectors = [self.vector_projection[field](tables[field])[place] for field in fields]
            parts = [torch.stack(vectors, dim=-2)]  # (B, L, fields, D)
            if dense[kind] is not None:
                parts.insert(0, dense[kind])
            dense[kind] = torch.cat(parts, dim=-2)
        return sparse, dense

    return embed_input_fields
