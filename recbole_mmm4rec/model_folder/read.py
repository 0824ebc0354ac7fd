"""Reading a model folder: checked against its manifest, mapped where it is large, and nothing in it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from recbole_mmm4rec.base.json_lines import read_line
from recbole_mmm4rec.base.parquet_files import arrow_mistakes
from recbole_mmm4rec.model_folder import checks, layout
from recbole_mmm4rec.model_folder.contents import Contents
from recbole_mmm4rec.model_folder.manifest import check_file, of_one_folder, read_manifest
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
        with self._as_written(layout.SETTINGS):
            checks.check_settings(self.settings)

    @classmethod
    def whole(cls, path: str | Path, use: Callable[[Folder], T]) -> T:
        """What ``use`` makes of a folder; once more where another command has put a new one in its place meanwhile.

        Raises:
            UserError: as for the class, and what ``use`` raises.
        """
        return of_one_folder(path, lambda: use(cls(path)))

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

    @contextmanager
    def _as_written(self, name: str) -> Iterator[None]:
        """Within it what is wrong with a file becomes one line."""
        try:
            yield
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{self.path / name}: it {error}; copy the model folder again, or train again") from None

    def json(self, name: str) -> dict[str, Any]:
        """What a JSON file holds."""
        file = self.file(name)
        with self._as_written(name):
            return read_line(file.read_bytes())

    def table(self, name: str) -> pa.Table:
        """What a Parquet file holds."""
        file = self.file(name)
        with arrow_mistakes(file, "cannot be read"):
            found = pq.ParquetFile(file, memory_map=True).read()
            found.validate(full=True)
        return found

    @cached_property
    def items(self) -> pa.Table:
        """One row an item, in the order of its number."""
        found = self.table(layout.ITEMS)
        with self._as_written(layout.ITEMS):
            checks.check_items(found)
        return found

    @cached_property
    def interactions(self) -> pa.Table:
        """All interactions by user and time."""
        found = self.table(layout.INTERACTIONS)
        with self._as_written(layout.INTERACTIONS):
            checks.check_interactions(found, self.items.num_rows)
        return found

    @cached_property
    def encoders(self) -> dict[str, Any]:
        """Modality to what its feature store says about itself."""
        found = self.json(layout.ENCODERS)
        with self._as_written(layout.ENCODERS):
            checks.check_encoders(found, self.settings["modalities"])
        return found

    @property
    def _rows(self) -> int:
        """I + 1."""
        return int(self.items.num_rows) + 1

    def side(self) -> ItemSide:
        """What scoring needs of the items, on the processor; large tables are mapped."""
        read = {name: in_memory(value) for name, value in read_tensors(self.file(layout.SIDE)).items()}
        names = self.settings["modalities"]
        shape = (self._rows, self.settings["network"].get("hidden_size"))
        with self._as_written(layout.SIDE):
            checks.check_tables(read, {"fused": shape})
            checks.check_tables(read, {f"table.{name}": shape for name in names})
        return ItemSide({name: read[f"table.{name}"] for name in names}, read["fused"])

    def features(self, modality: str) -> FrozenTable:
        """The raw features (I+1, F) of a modality, mapped; the hash is not looked at here."""
        name = layout.features(modality)
        if not self.has(name):
            raise UserError(f"{self.path}: a model folder without {name}; copy it again, or train again")
        found = read_tensors(self.path / name)
        with self._as_written(name):
            checks.check_tables(found, {"values": (self._rows, None)})
        return FrozenTable(found["values"], finite=True)

    def present(self, modality: str) -> Tensor:
        """(I+1,) bool: the items that have a modality; True for padding."""
        column = self.items[f"has_{modality}"].to_numpy()
        return torch.cat([torch.ones(1, dtype=torch.bool), torch.from_numpy(column.copy())])

    def network(self) -> MMM4RecNetwork:
        """The network with its weights, on the processor, in evaluation mode; large tables are mapped."""
        names = self.settings["modalities"]
        weights = read_tensors(self.file(layout.WEIGHTS))
        with self._as_written(layout.SETTINGS):
            config = NetworkConfig.from_mapping(self.settings["network"])
            if config.num_layers > len(weights):
                raise ValueError(f"has a wrong 'num_layers': {config.num_layers}")
        features = {name: self.features(name) for name in names}
        present = {name: self.present(name) for name in names}
        with torch.device("meta"), _NothingDrawn():  # nothing takes memory before the weights are there
            network = MMM4RecNetwork(config, features, present)
        with self._as_written(layout.WEIGHTS):
            checks.check_weights(weights, network.state_dict())
        network.load_state_dict({name: in_memory(value) for name, value in weights.items()}, assign=True)
        return network.requires_grad_(False).eval()

    def counts(self) -> Counts | None:
        """The neighbours; None where they are off."""
        settings = self.settings["neighbours"]
        if settings is None:
            return None
        from recbole_mmm4rec.scoring.neighbours import Counts

        read = read_tensors(self.file(layout.NEIGHBOURS))
        with self._as_written(layout.NEIGHBOURS):
            arrays = checks.arrays_of(read)
            checks.check_counts(arrays, self._rows)
        return Counts.of_arrays(arrays, settings["decay"], settings["weight"])

    def pictures(self) -> pa.Array | None:
        """(I,) JPEGs, mapped, null where an item has none; None without pictures."""
        if not self.has(layout.PICTURES):
            return None
        file = self.file(layout.PICTURES)
        with arrow_mistakes(file, "cannot be read"), pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
            table.validate(full=True)
            found = table["picture"].combine_chunks()
        if len(found) != self.items.num_rows or not pa.types.is_large_binary(found.type):
            raise UserError(f"{file}: it has other pictures than the items; copy the model folder again")
        return found

    def user(self, name: str | None) -> int:
        """The number that a user had in training; 0 for one that it did not know."""
        return 0 if name is None else self._users.get(name, 0)

    @cached_property
    def _users(self) -> dict[str, int]:
        names = pc.unique(self.interactions["user_id"]).to_pylist()  # in the order of their numbers
        return {name: number for number, name in enumerate(names, 1)}

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Metrics of validation and test."""
        found = self.json(layout.METRICS)
        with self._as_written(layout.METRICS):
            checks.check_metrics(found)
        return found

    def contents(self) -> Contents:
        """All of it, to be changed and written again; features, too, are looked at before they get a new hash."""
        for name in self.settings["modalities"]:
            self.file(layout.features(name))
        return Contents(
            model=self.manifest["model"],
            dataset=self.manifest["dataset"],
            network=self.network(),
            side=self.side(),
            items=self.items,
            interactions=self.interactions if self.has(layout.INTERACTIONS) else None,
            run=self.settings["run"],
            encoders=self.encoders,
            counts=self.counts(),
            neighbours=self.settings["neighbours"],
            pictures=self.pictures(),
            metrics=self.metrics,
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
