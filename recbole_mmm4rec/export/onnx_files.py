"""The towers as ONNX files: exported, checked against PyTorch, and only then given their names.

A graph is exported with the item tables as inputs, so that no exporter copies them, and they are put into the file
afterwards; large ones lie beside it, in ``NAME.onnx.data``.

Axes: B histories, L positions, D hidden size, I items, n items, F features.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.export.towers import ItemTower, UserTower
from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
from recbole_mmm4rec.network.new_items import NEAREST, rows_of_nearest, side_of_new_items

TOLERANCE = 1e-4
"""Most that ONNX Runtime's vectors may differ from PyTorch's, as a number; of larger vectors, times the largest."""
INSIDE = 64 * 2**20
"""Most bytes of item tables inside the graph's own file."""
OPSET = 18
"""What PyTorch's exporter is written for, and what ONNX Runtime 1.14 and newer read."""
_MOST_PAIRS = 2**25
"""Elements of a tensor (B, H, L, L) while the files are compared."""
_PAGE = 4096


class Histories(NamedTuple):
    """Histories as the network takes them.

    Attributes:
        items: (B, L) int64, right-padded with 0.
        lengths: (B,) int64, at least 1.
        timestamps: (B, L) int64 seconds; None without time.
    """

    items: Tensor
    lengths: Tensor
    timestamps: Tensor | None

    def named(self) -> dict[str, np.ndarray]:
        """What the user tower is fed with."""
        return {name: part.numpy() for name, part in self._asdict().items() if part is not None}

    def parts(self, size: int = 256) -> Iterator[Histories]:
        """The same, some at a time."""
        for start in range(0, len(self.items), size):
            place = slice(start, start + size)
            times = None if self.timestamps is None else self.timestamps[place]
            yield Histories(self.items[place], self.lengths[place], times)


@torch.no_grad()
def write_user_tower(network: MMM4RecNetwork, tables: Mapping[str, Tensor], histories: Histories, path: Path) -> float:
    """Write the tower that turns histories into user vectors.

    Args:
        network: in evaluation mode, on the processor.
        tables: (I+1, D) float32 of each modality, as :meth:`.ItemTables.tables` gives them.
        histories: that the file is compared with the network on.
        path: of the file; what had the name before is as it was until all is well.

    Returns:
        The largest difference between ONNX Runtime's user vectors and the network's.

    Raises:
        UserError: it is above :data:`TOLERANCE`; there is no file then.
    """
    tower = UserTower(network).eval()
    size = _at_a_time(network.config)
    few = [None if part is None else part[:1].repeat(2, *[1] * (part.dim() - 1)) for part in histories]
    blank = [torch.zeros(3, table.shape[1]) for table in tables.values()]
    batch, rows = torch.export.Dim("batch"), torch.export.Dim("rows")
    shapes = (*(None if part is None else {0: batch} for part in few), ({0: rows},) * len(blank))
    model = _exported(tower, (*few, *blank), shapes, [*histories.named(), *tables], ["user_vector"])

    def differences(session: Any) -> Iterator[float]:
        for part in histories.parts(size):
            wanted = network.user_vectors(part.items, part.lengths, part.timestamps, tables)
            yield _difference(session.run(None, part.named())[0], wanted)

    with _checking(path) as folder:
        _put_in(model, tables, folder, path.name)
        return _kept(folder, path, differences)


@torch.no_grad()
def write_item_tower(
    network: MMM4RecNetwork, features: Mapping[str, Tensor], present: Mapping[str, Tensor], path: Path
) -> float:
    """Write the tower that turns the features of new items into their vectors.

    Args:
        network: in evaluation mode, on the processor.
        features: for each modality (n, F) float32, text first.
        present: for each modality (n,) bool, the items that have it. The file is compared with
            :func:`.side_of_new_items` on these, with fewer of them, and on one item alone.
        path: of the file, as for :func:`write_user_tower`.

    Returns:
        The largest difference between ONNX Runtime's vectors and PyTorch's.

    Raises:
        UserError: it is above :data:`TOLERANCE`; there is no file then.
    """
    tower, names = ItemTower(network).eval(), list(network.items.modalities)
    given = {name: part for m in names for name, part in ((m, features[m]), (f"has_{m}", present[m]))}
    tables = {
        name: table
        for m, pair in tower.known.items()
        for name, table in zip((f"{m}_known", f"{m}_ids"), pair, strict=True)
    }
    few = tuple(part[:1].repeat(2, *[1] * (part.dim() - 1)) for part in given.values())
    blank = tuple(torch.zeros(NEAREST + 2, table.shape[1]) for table in tables.values())
    count = torch.export.Dim("count")
    sizes = {name: torch.export.Dim(f"known_{name}", min=NEAREST + 2) for name in tower.known}
    shapes = (tuple({0: count} for _ in few), tuple({0: sizes[m]} for m in tower.known for _ in range(2)))
    outputs = ["item_side", *(f"{name}_vector" for name in names)]
    model = _exported(tower, (few, blank), shapes, [*given, *tables], outputs)

    def differences(session: Any) -> Iterator[float]:
        fewer = _fewer(present)
        alone = {name: table[:1] for name, table in features.items()}
        for values, masks in ((features, present), (features, fewer), (alone, {m: present[m][:1] for m in names})):
            fed = {**values, **{f"has_{name}": mask for name, mask in masks.items()}}
            found = session.run(outputs, {name: part.numpy() for name, part in fed.items()})
            ids = rows_of_nearest(network.items, values, masks)
            side = side_of_new_items(network.items, values, masks, ids)
            wanted = (side.fused, *(side.tables[name] for name in names))
            yield from (_difference(*pair) for pair in zip(found, wanted, strict=True))

    with _checking(path) as folder:
        _put_in(model, tables, folder, path.name)
        return _kept(folder, path, differences)


def _at_a_time(config: NetworkConfig) -> int:
    """How many histories are compared at a time: few where they are long."""
    return max(1, min(256, _MOST_PAIRS // (config.n_heads * config.max_len**2)))


def _fewer(present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same masks with less in them: of four items in a row that had all, one has all and one has nothing."""
    return {
        name: mask & ((torch.arange(len(mask)) >> place) % 2 == 0) for place, (name, mask) in enumerate(present.items())
    }


def session(path: Path, threads: int = 0) -> Any:
    """ONNX Runtime's session of a file, on the processor.

    Args:
        path: of the file.
        threads: 0 leaves the number to it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _exported(tower: nn.Module, given: tuple[Any, ...], shapes: Any, names: list[str], outputs: list[str]) -> Any:
    """The graph of a tower, an ``onnx.ModelProto``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations inside PyTorch, and of axes named alike
        program = torch.onnx.export(
            tower,
            given,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # where in PyTorch's source each came from: of no use to anyone who runs it
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for value in model.graph.value_info:
        del value.metadata_props[:]
    return model


def _put_in(model: Any, tables: Mapping[str, Tensor], folder: Path, name: str) -> None:
    """Turn inputs of the graph into constants, and write it."""
    import onnx

    for place in reversed(range(len(model.graph.input))):
        if model.graph.input[place].name in tables:
            del model.graph.input[place]
    outside = sum(table.nbytes for table in tables.values()) > INSIDE
    with whole_file(folder / f"{name}.data") as data:
        for modality, table in tables.items():
            values = np.ascontiguousarray(table.numpy(), dtype="<f4")
            made = model.graph.initializer.add(name=modality, data_type=onnx.TensorProto.FLOAT, dims=values.shape)
            if not outside:
                made.raw_data = values.tobytes()
                continue
            data.write(bytes(-data.tell() % _PAGE))  # so that a table can be mapped into memory as it lies
            made.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", f"{name}.data"), ("offset", data.tell()), ("length", values.nbytes)):
                made.external_data.add(key=key, value=str(value))
            data.write(values.data)
    if not outside:
        (folder / f"{name}.data").unlink()
    with whole_file(folder / name) as file:
        file.write(model.SerializeToString(deterministic=True))


@contextmanager
def _checking(path: Path) -> Iterator[Path]:
    """A folder beside a file, for it and its data until they are checked."""
    folder = path.parent / f".{path.name}.checking"
    shutil.rmtree(folder, ignore_errors=True)  # of a command that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _kept(folder: Path, path: Path, differences: Any) -> float:
    """Check a file, compare it with PyTorch, and give it and its data their names."""
    import onnx

    onnx.checker.check_model(str(folder / path.name), full_check=True)
    found = list(differences(session(folder / path.name)))
    worst = float(np.max(found))
    if not worst <= TOLERANCE:  # also where it is NaN
        raise UserError(
            f"{path.name}: ONNX Runtime differs from PyTorch by {worst:.2g}, more than {TOLERANCE:g}; "
            "nothing was written: another version of onnxruntime or torch may help (pip install -U onnxruntime)"
        )
    for part in sorted(folder.iterdir(), reverse=True):  # the data first
        os.replace(part, path.parent / part.name)
    return worst


def _difference(found: np.ndarray, wanted: Tensor) -> float:
    """The largest difference, of the largest number where that is above 1."""
    expected = wanted.numpy()
    return float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
