"""Item tables: frozen features, adapters, ID bias, missing modalities, and how their logits are joined."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.ops.tables.directions import sum_of_directions
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable, Rows, checked_tables, pieces
from recbole_mmm4rec.network.ops.tables.project import project

# the order in which modalities are stacked: text first, as in the published fusion weights
MODALITIES = ("text", "image")


ALL = slice(None)


class ItemSide(NamedTuple):
    """What an evaluation needs of all items, made once while the weights stay the same.

    Attributes:
        tables: for each modality the (I+1, D) vectors.
        fused: (I+1, D), see :meth:`ItemTables.fused`; at least float32.
    """

    tables: dict[str, Tensor]
    fused: Tensor


class ItemTables(nn.Module):
    """The item side of the network: one table of D-wide vectors per modality.

    ``table_m = adapter_m(features_m) + bias_m``; an item without modality m has a learned vector in place of
    ``adapter_m(features_m)``. Row 0 is padding.
    """

    def __init__(
        self,
        config: NetworkConfig,
        features: Mapping[str, Tensor | FrozenTable],
        present: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Keep the frozen tables and make the trainable parts.

        Args:
            config: the network's settings.
            features: "text" and/or "image" tables (I+1, F), any floating dtype, which they keep; row 0 is not used.
            present: for each modality (I+1,) bool, False where the item has none; None where all have it.

        Raises:
            UserError: see :func:`.ops.tables.frozen.checked_tables`.
        """
        super().__init__()
        self.features = checked_tables(features, present, MODALITIES)
        self.config = config
        self.modalities = tuple(self.features)
        self.rows = self.features[self.modalities[0]].shape[0]  # I + 1
        self.row_wise = False
        D = config.hidden_size
        self.adapter = nn.ModuleDict({m: nn.Linear(table.shape[1], D) for m, table in self.features.items()})
        self.missing = nn.ParameterDict({m: nn.Parameter(torch.empty(D).normal_(0, 0.02)) for m in self.modalities})
        self.bias = nn.ParameterDict()
        if config.is_modality_bias:
            self.bias.update({m: nn.Parameter(torch.zeros(self.rows, D)) for m in self.modalities})
        self._stands_for: dict[str, Callable[[], Tensor]] = {}
        masks = []
        for name in self.modalities:
            mask = (present or {}).get(name)
            full = torch.ones(self.rows, dtype=torch.bool) if mask is None else mask.detach().bool().cpu().clone()
            full[0] = True  # padding is no candidate; its row takes part in nothing
            masks.append(full)
        self.register_buffer("present", torch.stack(masks, 1), persistent=False)  # (I+1, M)
        # an item with no modality at all is scored by its learned vectors: there is nothing else
        self.register_buffer("scored", self.present | ~self.present.any(1, keepdim=True), persistent=False)
        self.complete = bool(self.present.all())
        count = len(self.modalities)
        if config.item_mm_fusion == "static" or count == 1:
            self.register_parameter("fusion", None)
        else:
            shapes = {"dynamic_shared": (count,), "dynamic_instance": (self.rows, count)}  # (M,), (I+1, M)
            self.fusion = nn.Parameter(torch.zeros(shapes[config.item_mm_fusion]))

    present: Tensor
    scored: Tensor
    row_wise: bool
    """Whether chosen rows of the parameters with a row an item (ID tables, fusion weights) get sparse gradients."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ItemTables:
        """Move or convert the parameters; the frozen features follow to the device and keep their dtype."""
        super()._apply(fn, recurse)
        self.features = {name: table.to(self.present.device) for name, table in self.features.items()}
        return self

    def tables(self) -> dict[str, Tensor]:
        """For each modality the (I+1, D) table, projected once; without gradients piece by piece into one tensor."""
        if torch.is_grad_enabled():
            return self.vectors(ALL)
        made: dict[str, Tensor] = {}
        for piece in self._pieces():
            for name, vectors in self.vectors(piece).items():
                if name not in made:
                    made[name] = vectors.new_empty(self.rows, vectors.shape[1])
                made[name][piece] = vectors
        return made

    @torch.no_grad()
    def side(self, tables: dict[str, Tensor] | None = None) -> ItemSide:
        """What an evaluation keeps; made piece by piece, so that nothing else of I rows stands in memory.

        Args:
            tables: :meth:`tables`, if they are at hand.
        """
        tables = self.tables() if tables is None else tables
        fused: Tensor | None = None
        with torch.autocast(self.present.device.type, enabled=False):
            for piece in self._pieces():
                vectors = {name: _at_least_float32(table[piece]) for name, table in tables.items()}
                part = self.fused(vectors, piece)
                fused = part.new_empty(self.rows, part.shape[1]) if fused is None else fused
                fused[piece] = part
        assert fused is not None
        return ItemSide(tables, fused)

    def _pieces(self) -> Iterator[slice]:
        return pieces(self.rows, max(self.config.hidden_size, *(table.shape[1] for table in self.features.values())))

    def vectors(self, rows: Rows) -> dict[str, Tensor]:
        """For each modality the (n, D) vectors of ``rows``, (n,) int64 item numbers or a slice of them.

        Only these rows of the features are read.
        """
        made = {}
        for column, name in enumerate(self.modalities):
            adapter = cast(nn.Linear, self.adapter[name])
            vectors = project(self.features[name], rows, adapter.weight, adapter.bias)  # (n, D)
            if not self.complete:
                here = self.present[rows, column].unsqueeze(1)  # (n, 1)
                instead = self._stands_for[name]() if name in self._stands_for else self.missing[name]
                vectors = torch.where(here, vectors, instead.to(vectors.dtype))  # (n, D)
            made[name] = vectors + self._own(self.bias[name], rows) if name in self.bias else vectors  # (n, D)
        return made

    @contextmanager
    def sparse_lookups(self) -> Iterator[None]:
        """Let the rows that are looked up here have sparse gradients, to be added to a dense one of the whole table."""
        before, self.row_wise = self.row_wise, True
        try:
            yield
        finally:
            self.row_wise = before

    def _own(self, table: Tensor, rows: Rows) -> Tensor:
        """Rows of a parameter with a row an item; of chosen ones the gradient is sparse where ``row_wise`` says so."""
        if self.row_wise and isinstance(rows, Tensor):
            return F.embedding(rows, table, sparse=True)
        return table[rows]

    @contextmanager
    def without(self, names: Collection[str]) -> Iterator[None]:
        """Within it no item has these modalities, as if their texts or pictures were not there."""
        before = self.present, self.scored, self.complete
        # when somebody asks: of a modality that all items have it takes all their features
        self._stands_for = {name: cache(partial(self.unseen, name, before[0])) for name in names}
        self.present = before[0].clone()
        self.present[1:, [self.modalities.index(name) for name in names]] = False
        self.scored = self.present | ~self.present.any(1, keepdim=True)
        self.complete = bool(self.present.all())
        try:
            yield
        finally:
            self.present, self.scored, self.complete = before
            self._stands_for = {}

    def unseen(self, name: str, present: Tensor | None = None) -> Tensor:
        """What stands for a modality where it is not there.

        Args:
            name: the modality.
            present: (I+1, M) bool, which items of the training have which; the table's own by default.

        Returns:
            (D,) the learned vector, or where no training has touched it, because all items had the modality, the mean
            of ``adapter(features)``.
        """
        present = self.present if present is None else present
        if not bool(present[1:, self.modalities.index(name)].all()):
            return self.missing[name].detach()
        table = self.features[name]
        parts = [table.take(slice(max(1, piece.start), piece.stop)).sum(0) for piece in pieces(*table.shape)]
        with torch.no_grad(), torch.autocast(self.present.device.type, enabled=False):
            adapter = cast(nn.Linear, self.adapter[name])
            mean: Tensor = adapter((torch.stack(parts).sum(0) / (self.rows - 1)).to(adapter.weight.dtype))
        return mean

    def absent(self, name: str) -> Tensor:
        """(I+1, D), the table of a modality that no item has: what :meth:`vectors` gives within :meth:`without`."""
        vector = self._stands_for[name]().expand(self.rows, -1)
        return vector + self.bias[name] if name in self.bias else vector

    def coefficients(self, rows: Rows = ALL) -> Tensor | None:
        """(n, M) weight of each modality's logit for ``rows``, None where all are 1.

        Weights of absent modalities are 0, and the present ones are rescaled to the same sum.
        """
        count = len(self.modalities)
        if self.fusion is None:
            if self.complete:
                return None
            weights = torch.ones(1, count, dtype=torch.get_default_dtype(), device=self.present.device)
        else:
            factors = self.fusion if self.fusion.dim() == 1 else self._own(self.fusion, rows)
            weights = torch.softmax(factors, -1).view(-1, count)  # (1 or n, M)
        scored = self.scored[rows]
        if self.complete:
            return weights.expand(len(scored), -1)
        masked = weights * scored  # (n, M)
        return masked * (weights.sum(1, keepdim=True) / masked.sum(1, keepdim=True))  # (n, M)

    def fused(self, vectors: Mapping[str, Tensor], rows: Rows = ALL) -> Tensor:
        """(n, D), the one table whose product with user vectors gives the scores of ``rows``.

        Every fusion is a weighted sum of logits, ``Σ_m c_m u·t_m/‖t_m‖``, hence one product with the weighted sum of
        the normalised tables, divided by the temperature.

        Args:
            vectors: what :meth:`vectors` gives for the same ``rows``.
            rows: (n,) int64 item numbers or a slice of them, all by default.
        """
        vectors_of_all = [vectors[name] for name in self.modalities]  # (n, D) each
        return sum_of_directions(vectors_of_all, self.coefficients(rows), self.config.temperature)  # (n, D)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype.itemsize >= 4 else values.float()
