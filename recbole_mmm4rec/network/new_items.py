"""Items that a training did not know: their item side, from their features and what stands in for an ID row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.network.items import ItemSide, ItemTables
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable, pieces

NEAREST = 10
"""Trained items whose ID rows are averaged for a new item."""


@torch.no_grad()
def rows_of_nearest(
    items: ItemTables, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """For each modality with an ID table the mean row of the trained items that are nearest by their features: what
    stands in for the ID rows of new items (measured in docs/new-items.md).

    Args:
        items: the trained item side.
        features, present: of the new items, as for :func:`side_of_new_items`.

    Returns:
        (J, D) by modality: of the :data:`NEAREST` items with the largest cosine of the features, among those that have
        the modality; for a new item without it the mean of all rows.
    """
    made = {}
    for name, table in items.bias.items():
        column = items.modalities.index(name)
        there = items.present[:, column].nonzero().flatten()[1:]  # without padding
        rows: Tensor = table[1:].mean(0).expand(len(features[name]), -1).clone()  # (J, D)
        new = torch.arange(len(rows)) if present is None else present[name].cpu().nonzero().flatten()
        if len(there) and len(new):
            wanted = F.normalize(features[name][new].to(table.device, torch.float32), dim=1)
            near = _nearest(items.features[name], there, wanted, min(NEAREST, len(there)))  # (n, NEAREST)
            rows[new.to(rows.device)] = table[near].mean(1)
        made[name] = rows
    return made


def _nearest(table: FrozenTable, rows: Tensor, wanted: Tensor, count: int) -> Tensor:
    """(n, count) those of ``rows``, item numbers, whose features are nearest in direction to ``wanted``, (n, F)."""
    best = wanted.new_full((len(wanted), 0), 0.0)
    found = rows.new_empty((len(wanted), 0))
    for piece in pieces(len(rows), table.shape[1]):
        known = F.normalize(table.take(rows[piece]), dim=1)
        best = torch.cat([best, wanted @ known.T], 1)
        found = torch.cat([found, rows[piece].expand(len(wanted), -1)], 1)
        best, order = best.topk(min(count, best.shape[1]), 1)
        found = found.gather(1, order)
    return found


@torch.no_grad()
def side_of_new_items(
    items: ItemTables,
    features: Mapping[str, Tensor],
    present: Mapping[str, Tensor] | None = None,
    ids: Mapping[str, Tensor] | None = None,
) -> ItemSide:
    """The item side of items that are none of ``items``, computed as for those.

    Args:
        items: the trained item side.
        features: for each of its modalities (J, F), of the new items.
        present: for each modality (J,) bool, False where an item has none; None where all have it.
        ids: for each modality with an ID table what is added in place of a row of it, (J, D) or (D,);
            by default nothing, which an ID row is before its training. Weights of the fusion that belong to an item are
            the mean of the trained ones.

    Returns:
        tables (J, D) by modality and fused (J, D); without a padding row.

    Raises:
        UserError: NaN or infinite features of an item that has the modality.
    """
    device = items.present.device
    padded = {name: FrozenTable(_padded(table.detach().cpu())) for name, table in features.items()}
    masks = {name: _padded(mask.detach().cpu().bool()) for name, mask in (present or {}).items()}
    made = ItemTables(items.config, padded, masks).to(device, next(items.parameters()).dtype).eval()
    own = dict(items.named_parameters()) | {f"missing.{name}": items.unseen(name) for name in items.modalities}
    for name, value in made.named_parameters():
        if name.startswith("bias."):
            value[1:] = ids[name.removeprefix("bias.")].to(value) if ids else 0
        elif name == "fusion" and value.dim() == 2:  # weights of each item
            value.copy_(own[name][1:].mean(0).expand_as(value))
        else:
            value.copy_(own[name])
    side = made.side()
    return ItemSide({name: table[1:] for name, table in side.tables.items()}, side.fused[1:])


def _padded(table: Tensor) -> Tensor:
    """The same with a row for padding first."""
    return torch.cat([torch.zeros_like(table[:1]), table])
