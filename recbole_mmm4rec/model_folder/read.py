"""Reading a model folder: checked against its manifest, mapped where it is large, and nothing in it is run."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder import layout
from recbole_mmm4rec.model_folder.contents import Contents
from recbole_mmm4rec.model_folder.manifest import check_file, read_manifest
from recbole_mmm4rec.model_folder.tensors import read_tensors
from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
from recbole_mmm4rec.network.items import ItemSide
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable

if TYPE_CHECKING:
    from recbole_mmm4rec.scoring.neighbours import Counts

T = TypeVar("T")

MAPPED_ABOVE = 64 * 2**20
"""Bytes of a tensor above which it stays on disk; a smaller one is copied into memory."""


class Folder:
    """A model folder whose files are all there; each is read, and its hash looked at, when it is asked for.

    Attributes:
        path: where it lies.
        manifest: versions, and bytes and hashes of the files.
        settings: ``network``, ``modalities``, ``neighbours`` and ``run``.

    Raises:
        UserError: see :func:`~.manifest.read_manifest`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self._checked: set[str] = set()
        self.settings: dict[str, Any] = self.json(layout.SETTINGS)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return name in self.manifest["files"]

    def file(self, name: str) -> Path:
        """The path of a file, whose bytes are what they were.

        Raises:
            UserError: there is none, or it was changed.
        """
        if not self.has(name):
            raise UserError(f"{self.path}: a model folder without {name}; train again to have it")
        if name not in self._checked:
            check_file(self.path, name, self.manifest["files"][name])
            self._checked.add(name)
        return self.path / name

    def json(self, name: str) -> Any:
        """What a JSON file holds."""
        file = self.file(name)
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{file}: cannot be read ({error})") from None

    def table(self, name: str) -> pa.Table:
        """What a Parquet file holds."""
        file = self.file(name)
        try:
            return pq.ParquetFile(file, memory_map=True).read()
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None

    @cached_property
    def items(self) -> pa.Table:
        """One row an item, in the order of its number."""
        return self.table(layout.ITEMS)

    def side(self) -> ItemSide:
        """What scoring needs of the items, on the processor; large tables are mapped."""
        read = {name: in_memory(value) for name, value in read_tensors(self.file(layout.SIDE)).items()}
        names = self.settings["modalities"]
        return ItemSide({name: read[f"table.{name}"] for name in names}, read["fused"])

    def features(self, modality: str) -> FrozenTable:
        """The raw features (I+1, F) of a modality, mapped; the hash is not looked at here."""
        return FrozenTable(read_tensors(self.path / layout.features(modality))["values"], finite=True)

    def present(self, modality: str) -> Tensor:
        """(I+1,) bool: the items that have a modality; True for padding."""
        column = self.items[f"has_{modality}"].to_numpy()
        return torch.cat([torch.ones(1, dtype=torch.bool), torch.from_numpy(column.copy())])

    def network(self) -> MMM4RecNetwork:
        """The network with its weights, on the processor, in evaluation mode; large tables are mapped."""
        names = self.settings["modalities"]
        config = NetworkConfig(**self.settings["network"])
        weights = read_tensors(self.file(layout.WEIGHTS))
        features = {name: self.features(name) for name in names}
        present = {name: self.present(name) for name in names}
        with torch.device("meta"), _NothingDrawn():  # nothing takes memory before the weights are there
            network = MMM4RecNetwork(config, features, present)
        network.load_state_dict({name: in_memory(value) for name, value in weights.items()}, assign=True)
        return network.requires_grad_(False).eval()

    def counts(self) -> Counts | None:
        """The neighbours; None where they are off."""
        settings = self.settings["neighbours"]
        if settings is None:
            return None
        from recbole_mmm4rec.scoring.neighbours import Counts

        arrays = {name: value.numpy() for name, value in read_tensors(self.file(layout.NEIGHBOURS)).items()}
        return Counts.of_arrays(arrays, settings["decay"], settings["weight"])

    def pictures(self) -> pa.Array | None:
        """(I,) JPEGs, mapped, null where an item has none; None without pictures."""
        if not self.has(layout.PICTURES):
            return None
        with pa.memory_map(str(self.file(layout.PICTURES))) as source:
            return pa.ipc.open_file(source).read_all()["picture"].combine_chunks()

    def user(self, name: str | None) -> int:
        """The number that a user had in training; 0 for one that it did not know."""
        return 0 if name is None else self._users.get(name, 0)

    @cached_property
    def _users(self) -> dict[str, int]:
        names = pc.unique(self.table(layout.INTERACTIONS)["user_id"]).to_pylist()  # in the order of their numbers
        return {name: number for number, name in enumerate(names, 1)}

    def contents(self) -> Contents:
        """All of it, to be changed and written again."""
        return Contents(
            model=self.manifest["model"],
            dataset=self.manifest["dataset"],
            network=self.network(),
            side=self.side(),
            items=self.items,
            interactions=self.table(layout.INTERACTIONS) if self.has(layout.INTERACTIONS) else None,
            run=self.settings["run"],
            encoders=self.json(layout.ENCODERS),
            counts=self.counts(),
            neighbours=self.settings["neighbours"],
            pictures=self.pictures(),
            metrics=self.json(layout.METRICS),
        )


_OF_ONE_SHAPE = {"normal_", "uniform_", "log", "exp", "expm1", "neg", "add"}
"""What initial weights are made with."""


class _NothingDrawn(TorchFunctionMode):
    """Within it initial weights are not computed: of tensors without memory that would import PyTorch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _OF_ONE_SHAPE:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def popular_items(folder: str | Path, count: int) -> list[str]:
    """The ids of the items with most interactions in training, for an example to try."""
    table = pq.read_table(Path(folder) / layout.ITEMS, columns=["item_id", "popularity"])
    order = np.argsort(-table["popularity"].to_numpy(), kind="stable")[:count]
    return [str(name) for name in table["item_id"].take(order).to_pylist()]


def in_memory(values: Tensor) -> Tensor:
    """A small tensor as a copy of its own; a large one as it is, on disk."""
    return values if values.numel() * values.dtype.itemsize > MAPPED_ABOVE else values.clone()
