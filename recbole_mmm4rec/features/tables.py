"""Feature stores as tables in the order of RecBole's internal item ids."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_mmm4rec.base.atomic_files import read_header, read_item_column
from recbole_mmm4rec.base.command_names import prepare
from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.features.manifest import MODALITIES, Manifest
from recbole_mmm4rec.features.store import FeatureStore, options_of
from recbole_mmm4rec.features.writer import aside, first_three
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable
from recbole_mmm4rec.settings.reading import name_list

logger = logging.getLogger(__name__)

MAPPED_ABOVE = 512 * 2**20
"""Bytes of a modality's table, as stored, above which ``features_in: auto`` leaves it on disk."""


@dataclass(frozen=True)
class FeatureSource:
    """Where a data set's feature stores lie.

    Attributes:
        dataset: the data set's name.
        folder: the folder with one store for each modality, by default ``DATASET_DIR/features``.
        item_file: ``NAME.item``, whose texts the embeddings must have been made from; it need not exist.
        features_in: where the tables are kept, memory, mapped (left on disk), or auto, as the size says.
        separator: what stands between the fields of ``NAME.item``.
        encoding: of that file.
        item_field: its column of items.
    """

    dataset: str
    folder: Path
    item_file: Path
    features_in: str = "auto"
    separator: str = "\t"
    encoding: str = "utf-8"
    item_field: str = "item_id"

    @classmethod
    def of(cls, config: Any) -> FeatureSource:
        """From RecBole's ``dataset``, ``data_path`` and further keys of a configuration."""
        dataset_dir = Path(config["data_path"])
        name = str(config["dataset"])
        folder = Path(config["feature_path"]) if config["feature_path"] else dataset_dir / "features"
        layout = config["field_separator"] or "\t", config["encoding"] or "utf-8", config["ITEM_ID_FIELD"]
        return cls(name, folder, dataset_dir / f"{name}.item", config["features_in"] or "auto", *layout)

    def found(self) -> list[str]:
        """The modalities that have a store, text first.

        Raises:
            UserError: the folder may not be looked into.
        """
        try:
            return [m for m in MODALITIES if (self.folder / m).exists() or aside(self.folder / m).exists()]
        except PermissionError as error:
            raise UserError(f"{self.folder}: cannot be read ({error.strerror})") from None

    def open(self, modality: str) -> FeatureStore:
        """Open a store and make sure that it belongs to this data set as it is now.

        Args:
            modality: "text" or "image".

        Raises:
            UserError: the store is damaged or of another data set, or the texts changed since it was made.
        """
        store = FeatureStore.open(self.folder / modality)
        column = str(store.manifest.settings.get("column", "text"))
        foreign = store.manifest.dataset != self.dataset
        if modality == "text" and store.manifest.input_hash is not None and self._has_column(column):
            try:
                store.check_inputs(
                    *read_item_column(self.item_file, column, self.separator, self.encoding, self.item_field)
                )
            except UserError:
                if not foreign:
                    raise
            else:
                return store  # the same texts: a data set may have been renamed
        if foreign:
            # Item numbers of two data sets often coincide, so matching tokens alone prove nothing.
            made = options_of(store.manifest)
            way_out = f"make it with `{self.command(*made)}`" if made else "bring its vectors with `prep vectors`"
            raise UserError(
                f"{store.path}: a store of data set '{store.manifest.dataset}', not '{self.dataset}'; point "
                f"feature_path at the right one, or {way_out}"
            )
        return store

    def _has_column(self, column: str) -> bool:
        if not self.item_file.is_file():
            return False
        return {self.item_field, column} <= set(read_header(self.item_file, self.separator, self.encoding))

    def command(self, *options: str) -> str:
        """The command that makes a store, by default the text store."""
        root = self.item_file.parent.parent
        if root.name == "dataset_example":  # inside RecBole's package, no place for a user's files
            there = Path("dataset", self.dataset)
            return f"{prepare('recbole', there)} && {prepare('embed', there, *options)}"
        return prepare("embed", root / self.dataset, *options)


def choose_modalities(wanted: Any, source: FeatureSource) -> list[str]:
    """Which modalities to load.

    Args:
        wanted: value of the key ``modalities``: None or "auto" for every store found, a name, or a list of names.
        source: where the stores lie.

    Returns:
        Names of modalities, text before image.

    Raises:
        UserError: no store at all, a name that is no modality, or a named one without a store.
    """
    found = source.found()
    if wanted is None or wanted == "auto":
        if not found:
            raise UserError(f"no feature store in {source.folder}; make one with `{source.command()}`")
        return found
    names = name_list(wanted)
    if not isinstance(names, (list, tuple)) or not names:
        raise UserError(f"modalities: {wanted!r} is neither 'auto' nor a list such as [text] or [text, image]")
    for name in names:
        if name not in MODALITIES:
            hint = did_you_mean(str(name), MODALITIES)
            raise UserError(f"modalities: {name!r} is none of 'auto', {', '.join(MODALITIES)}{hint}")
        if name not in found:
            there = ", ".join(found) or "none"
            way_out = f"make it with `{source.command()}`" if name == "text" else "leave it out of modalities"
            raise UserError(f"modalities: no {name} store in {source.folder} (found: {there}); {way_out}")
    return [name for name in MODALITIES if name in names]


def note_absent(store: FeatureStore, tokens: Sequence[str]) -> None:
    """Say how many items a store lacks, which count as items without a text or an image; nothing where it has all.

    Data sets hold interactions with items that no row of ``NAME.item`` describes, and histories padded with an id of
    their own: no command can make vectors for these.

    Args:
        store: the modality's store.
        tokens: the I item tokens.

    Raises:
        UserError: the store has none of the items, so that it is the store of others.
    """
    lacking = [tokens[place] for place in np.flatnonzero(store.find_rows(tokens) < 0)]
    if lacking and len(lacking) == len(tokens):
        raise UserError(
            f"{store.path}: none of the {len(tokens)} items with interactions is in it: their ids are like "
            f"{first_three(lacking)}, those of the store like {first_three(store.items)}; write the ids alike"
        )
    if lacking:
        logger.warning(
            "%s: %d of %d items are not in it and count as items without %s, first %s",
            *(store.path, len(lacking), len(tokens), store.manifest.modality, first_three(lacking)),
        )


def read_table(
    store: FeatureStore, tokens: Sequence[str], dtype: type[np.generic] | np.dtype = np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """A store in the order of internal ids, with the padding row in front.

    Args:
        store: the modality's store.
        tokens: the I item tokens, in the order of internal ids from 1.
        dtype: of the table.

    Returns:
        (I + 1, F) of ``dtype``, zeros for padding and for items without a vector, and (I + 1,) bool, False for these.

    Raises:
        UserError: a needed row with NaN or infinite values.
    """
    rows = store.find_rows(tokens)
    table = np.zeros((len(tokens) + 1, store.manifest.dim), dtype=dtype)
    store.read(rows, table[1:])
    present = _present(store, rows)
    table[~present] = 0
    return table, present


def map_table(store: FeatureStore, tokens: Sequence[str]) -> tuple[FrozenTable, np.ndarray]:
    """What :func:`read_table` gives, without a copy: the mapped file and the row of each item.

    Raises:
        UserError: as :func:`read_table`; the numbers are read once, piece by piece, for that.
    """
    rows = store.find_rows(tokens)
    store.read(rows)
    present = _present(store, rows)
    index = np.where(present, np.concatenate([[0], rows]), -1)
    return FrozenTable.of_array(store.table, index, finite=True), present


def _present(store: FeatureStore, rows: np.ndarray) -> np.ndarray:
    """Which of the padding and the items have a vector, (I + 1,) bool."""
    return np.concatenate([[False], store.present[rows] & (rows >= 0)])


class FeatureTables:
    """The frozen tables of a data set; a pickle holds where they came from, never the numbers.

    Unpickling reads the stores again and refuses them when they moved or changed, because a saved data set or
    checkpoint would otherwise go on with other vectors than it was made with.

    Args:
        source: where the stores lie.
        modalities: which to load.
        tokens: item tokens in the order of internal ids, ``[PAD]`` first.

    Attributes:
        features: modality to (I + 1, F), of the store's dtype; row 0 and the rows of absent items are zeros. In
            memory a tensor, else a mapped table, as ``features_in`` of the source says.
        present: modality to (I + 1,) bool; False at row 0 and where the item has no text or image.
        manifests: modality to what the store says about itself.
    """

    def __init__(self, source: FeatureSource, modalities: Sequence[str], tokens: np.ndarray) -> None:
        self.source = source
        self.tokens = tokens
        self.manifests: dict[str, Manifest] = {}
        self._read(modalities)

    def _read(self, modalities: Sequence[str]) -> None:
        self.features: dict[str, Tensor | FrozenTable] = {}
        self.present: dict[str, Tensor] = {}
        for modality in modalities:
            store = self.source.open(modality)
            if self.manifests.setdefault(modality, store.manifest) != store.manifest:
                raise UserError(
                    f"{store.path}: the store changed since the data set was saved; delete the saved data set or "
                    "checkpoint, or put the old store back"
                )
            tokens = self.tokens[1:].tolist()
            note_absent(store, tokens)
            if self._mapped(store):
                self.features[modality], present = map_table(store, tokens)
            else:
                table, present = read_table(store, tokens, store.table.dtype)
                self.features[modality] = torch.from_numpy(table)
            self.present[modality] = torch.from_numpy(present)

    def _mapped(self, store: FeatureStore) -> bool:
        if self.source.features_in != "auto":
            return self.source.features_in == "mapped"
        return len(self.tokens) * store.manifest.dim * store.table.itemsize > MAPPED_ABOVE

    def array(self, modality: str) -> np.ndarray:
        """A modality's table in memory, (I + 1, F) float32."""
        table = self.features[modality]
        return table.numpy() if isinstance(table, FrozenTable) else table.float().numpy()

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "tokens": self.tokens, "manifests": self.manifests}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.manifests = copy.copy(self.manifests)
        self._read(list(self.manifests))

    def __deepcopy__(self, memo: dict[int, Any]) -> FeatureTables:
        return self  # nobody writes to the tables
