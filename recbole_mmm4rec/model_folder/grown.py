"""A model with items that its training did not know: everything that has a row an item gets rows for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa
import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.model_folder.contents import Contents
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.items import ItemSide
from recbole_mmm4rec.network.new_items import rows_of_nearest, side_of_new_items
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable


def grown(
    contents: Contents,
    rows: pa.Table,
    features: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    pictures: list[bytes | None],
) -> Contents:
    """The same model with J further items after the I that it has; what it says of those stays as it is, to the bit.

    Args:
        contents: the model.
        rows: J rows with the columns of ``contents.items``.
        features: by modality of the model (J, F).
        present: by modality (J,) bool.
        pictures: J small JPEGs or None.

    Raises:
        UserError: features so large that the model's numbers of an item are none.
    """
    items = contents.network.items
    ids = rows_of_nearest(items, features, present)
    side = side_of_new_items(items, features, present, ids)
    count = rows.num_rows
    _check_finite(rows, side)
    return replace(
        contents,
        network=_network(contents.network, features, present, ids),
        side=ItemSide(
            {name: torch.cat([table, side.tables[name]]) for name, table in contents.side.tables.items()},
            torch.cat([contents.side.fused, side.fused]),
        ),
        items=pa.concat_tables([contents.items, rows.cast(contents.items.schema)]),
        counts=None if contents.counts is None else contents.counts.with_items(count),
        pictures=_pictures(contents, pictures),
    )


def _check_finite(rows: pa.Table, side: ItemSide) -> None:
    finite = torch.stack([table.isfinite().all(1) for table in (side.fused, *side.tables.values())]).all(0)
    if not finite.all():
        item = rows["item_id"][int(finite.int().argmin())].as_py()
        raise UserError(f"item {item!r}: its vectors are too large, the model makes no numbers of them; leave it out")


def _network(
    network: MMM4RecNetwork,
    features: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    ids: Mapping[str, Tensor],
) -> MMM4RecNetwork:
    items = network.items
    tables = {
        name: FrozenTable(
            torch.cat([table.take(slice(None), table.dtype).cpu(), features[name].to(table.dtype)]), None, True
        )
        for name, table in items.features.items()
    }
    masks = {
        name: torch.cat([items.present[:, column].cpu(), present[name]]) for column, name in enumerate(items.modalities)
    }
    count = len(next(iter(present.values())))
    state = {name: _longer(name, value, ids, count) for name, value in network.state_dict().items()}
    # untrained where all items had the modality; from now on some may lack it, and it counts
    state |= {f"items.missing.{name}": items.unseen(name) for name in items.modalities}
    with torch.device("meta"):  # nothing is drawn and nothing takes memory before the weights are there
        made = MMM4RecNetwork(network.config, tables, masks)
    made.load_state_dict(state, assign=True)
    return made.requires_grad_(False).eval()


def _longer(name: str, value: Tensor, ids: Mapping[str, Tensor], count: int) -> Tensor:
    """A parameter with a row an item with further ones; any other as it is."""
    if name.startswith("items.bias."):
        return torch.cat([value, ids[name.removeprefix("items.bias.")].to(value)])
    if name == "items.fusion" and value.dim() == 2:
        return torch.cat([value, value[1:].mean(0).expand(count, -1)])
    return value


def _pictures(contents: Contents, new: list[bytes | None]) -> pa.Array | None:
    if contents.pictures is None and not any(new):
        return None
    here = contents.pictures
    known = pa.nulls(contents.items.num_rows, pa.large_binary()) if here is None else here.cast(pa.large_binary())
    return pa.concat_arrays([known, pa.array(new, pa.large_binary())])
