"""Real histories and items of a model folder: what exported files are checked on, and an index is set with."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.export.onnx_files import Histories
from recbole_mmm4rec.export.towers import known_items
from recbole_mmm4rec.model_folder import layout
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.new_items import NEAREST
from recbole_mmm4rec.recommend.recommender import Recommender

USERS = 1024
"""At most."""
ITEMS = 64
"""At most."""
_CLEAR = 1e-5  # of cosines: nearer ones may change places with the rounding of another program


def real_histories(recommender: Recommender, users: int = USERS) -> Histories:
    """Histories of users of the training, each cut at a place of its own: of length 1, of L, and what lies between.

    Args:
        recommender: of a folder with its interactions.
        users: at most; they are taken evenly among all, the longest one besides.

    Raises:
        UserError: the folder has no interactions.
    """
    table = recommender.content.interactions
    items = table["item"].to_numpy()
    if not len(items):
        raise UserError(f"{recommender.folder / layout.INTERACTIONS}: no interactions to check with; train again")
    stamps = table["timestamp"].to_numpy() if recommender.has_time else np.zeros(len(items), dtype=np.int64)
    codes = table["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)]])
    sizes = np.diff(starts)
    chosen = np.unique(np.linspace(0, len(sizes) - 1, min(users, len(sizes))).astype(int))
    random = np.random.default_rng(0)
    ends = starts[chosen] + 1 + (random.random(len(chosen)) * sizes[chosen]).astype(int)
    longest = int(sizes.argmax())
    spans = [(int(start), int(end)) for start, end in zip(starts[chosen], ends, strict=True)]
    spans += [(int(starts[longest]), int(starts[longest + 1])), (0, 1)]
    width = recommender.max_len
    numbers, times = np.zeros((len(spans), width), np.int64), np.zeros((len(spans), width), np.int64)
    lengths = np.zeros(len(spans), np.int64)
    for row, (start, end) in enumerate(spans):
        place = slice(max(start, end - width), end)  # the newest L
        lengths[row] = place.stop - place.start
        numbers[row, : lengths[row]], times[row, : lengths[row]] = items[place], stamps[place]
    made = [torch.from_numpy(part) for part in (numbers, lengths, times)]
    return Histories(made[0], made[1], made[2] if recommender.has_time else None)


def real_items(network: MMM4RecNetwork) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Items of the catalogue as if they were new: features (n, F) and masks (n,) of each modality.

    Left out are items of which it is a matter of rounding which others are the nearest, as among equal texts.
    """
    items = network.items
    rows = torch.unique(torch.linspace(1, items.rows - 1, min(4 * ITEMS, items.rows - 1)).long())
    clear = torch.ones(len(rows), dtype=torch.bool)
    for name in items.bias:
        directions, _ = known_items(items, name)
        here = items.present[rows, items.modalities.index(name)]
        for place in range(0, len(rows), ITEMS):
            part = slice(place, place + ITEMS)
            wanted = F.normalize(items.features[name].take(rows[part]), dim=1)
            best = (wanted @ directions.T).topk(min(NEAREST + 1, len(directions)), 1).values
            apart = best[:, -2] - best[:, -1] > _CLEAR if best.shape[1] > NEAREST else torch.ones(len(best)) > 0
            clear[part] &= apart | ~here[part]
    rows = rows[clear][:ITEMS] if bool(clear.any()) else rows[:ITEMS]
    features = {name: table.take(rows) for name, table in items.features.items()}
    return features, {name: items.present[rows, column] for column, name in enumerate(items.modalities)}
