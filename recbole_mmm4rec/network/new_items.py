"""Items that a training did not know: their item side, from their features and what stands in for an ID row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recbole_mmm4rec.network.items import ItemSide, ItemTables
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable


def stand_ins(items: ItemTables) -> dict[str, Tensor]:
    """For each modality with an ID table the (D,) vector that takes the place of a row of it.

    The one that ``id_dropout`` has trained, or zeros, which an ID row is before its training.
    """
    return {
        name: items.stand_in[name].detach() if name in items.stand_in else torch.zeros_like(table[0].detach())
        for name, table in items.bias.items()
    }


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
            by default :func:`stand_ins`. Weights of the fusion that belong to an item are the mean of the trained ones.

    Returns:
        tables (J, D) by modality and fused (J, D); without a padding row.

    Raises:
        UserError: NaN or infinite features of an item that has the modality.
    """
    device = items.present.device
    padded = {name: FrozenTable(_padded(table.detach().cpu())) for name, table in features.items()}
    masks = {name: _padded(mask.detach().cpu().bool()) for name, mask in (present or {}).items()}
    made = ItemTables(items.config, padded, masks).to(device, next(items.parameters()).dtype).eval()
    own = dict(items.named_parameters())
    rows = dict(stand_ins(items), **(ids or {}))
    for name, value in made.named_parameters():
        if name.startswith("bias."):
            value[1:] = rows[name.removeprefix("bias.")].to(value)
        elif value.shape == own[name].shape:
            value.copy_(own[name])
        else:  # fusion weights of each item
            value.copy_(own[name][1:].mean(0).expand_as(value))
    side = made.side()
    return ItemSide({name: table[1:] for name, table in side.tables.items()}, side.fused[1:])


def _padded(table: Tensor) -> Tensor:
    """The same with a row for padding first."""
    return torch.cat([torch.zeros_like(table[:1]), table])
