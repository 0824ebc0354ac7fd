"""MMM4Rec as a RecBole sequential recommender: a thin wrapper around the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor

from recbole_mmm4rec.data.user_batches import ORIGIN
from recbole_mmm4rec.features.made_by import ENCODERS, note_encoders
from recbole_mmm4rec.losses.objectives import make_objective
from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
from recbole_mmm4rec.network.items import ItemSide
from recbole_mmm4rec.scoring.recommend import Sides


def network_config(config: Any) -> NetworkConfig:
    """The network's settings in a RecBole configuration; MAX_ITEM_LIST_LENGTH is L.

    Raises:
        UserError: a value that the network does not take.
    """
    settings = {key: config[key] for key in NetworkConfig.setting_names() if key in config}
    settings["max_len"] = config["MAX_ITEM_LIST_LENGTH"]
    return NetworkConfig.from_mapping(settings)


class MMM4Rec(SequentialRecommender):
    """Multi-modal Mamba for sequential recommendation (arXiv 2506.02916)."""

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        """Build the network on a data set's item features.

        Args:
            config: RecBole's configuration.
            dataset: a :class:`~recbole_mmm4rec.data.dataset.MMM4RecDataset`, for its ``features`` and ``present``.

        Raises:
            UserError: settings or features that do not fit.
        """
        super().__init__(config, dataset)
        self.objective = make_objective(config, dataset)
        self.time_list = f"{config['TIME_FIELD']}{config['LIST_SUFFIX']}"
        self.network = MMM4RecNetwork(network_config(config), dataset.features, dataset.present)
        self._kept: tuple[tuple[Any, ...], Sides] | None = (
            None  # of which weights, and what an evaluation keeps of them
        )
        config[ENCODERS] = note_encoders(dataset)

    def forward(
        self,
        interaction: Interaction,
        tables: Mapping[str, Tensor] | None,
        padded_to: int | None = None,
    ) -> Tensor:
        """The user vectors (B, D) of a batch; without ``tables`` its own items are projected alone."""
        stamps = interaction[self.time_list] if self.network.config.is_time else None
        histories, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        origin = interaction.interaction.get(ORIGIN) if padded_to is None else None
        return self.network.user_vectors(histories, lengths, stamps, tables, None, origin, padded_to)

    def calculate_loss(self, interaction: Interaction, padded_to: int | None = None) -> Tensor:
        """The loss of a training batch: the mean of its rows'; ``padded_to`` as in the network's ``user_vectors``."""

        def encode(tables: Mapping[str, Tensor] | None) -> Tensor:
            return self.forward(interaction, tables, padded_to=padded_to)

        loss: Tensor = self.objective(self.network.items, encode, interaction[self.POS_ITEM_ID])
        return loss

    def predict(self, interaction: Interaction) -> Tensor:
        """(B,) score of each row's own item: the matching column of :meth:`full_sort_predict`."""
        users, fused = self.sides(interaction)
        scores: Tensor = (users * fused.index_select(0, interaction[self.ITEM_ID])).sum(-1)
        return scores

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """(B, I+1) scores of all items, the padding column −inf."""
        users, fused = self.sides(interaction)
        # in full precision also under autocast: bfloat16 scores tie, and ties decide ranks
        with torch.autocast(users.device.type, enabled=False):
            return self.network.scores(users, fused)

    def sides(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """User vectors (B, D) of a batch and the item side (I+1, D), whose products are the network's scores."""
        sides = self._sides()
        stamps = interaction[self.time_list] if self.network.config.is_time else None
        origin = interaction.interaction.get(ORIGIN)
        users = sides.users(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN], stamps, origin)
        return users, sides.side.fused

    def _sides(self) -> Sides:
        """What all items bring to an evaluation; made once while the weights stay the same."""
        items = self.network.items
        if self.training or torch.is_grad_enabled():
            tables = items.tables()
            return Sides(self.network, ItemSide(tables, self.network.fused_items(tables)))
        parameters = tuple(self.network.parameters())
        state = (
            *(parameter.data_ptr() for parameter in parameters),
            *(parameter._version for parameter in parameters),
            torch.is_autocast_enabled(items.present.device.type),
        )
        if self._kept is None or self._kept[0] != state:
            self._kept = state, Sides(self.network, items.side())
        return self._kept[1]

    @contextmanager
    def withheld(self, name: str) -> Iterator[None]:
        """Within it no item has this modality, as if its texts or pictures were not there."""
        self._kept = None
        try:
            with self.network.items.without([name]):
                yield
        finally:
            self._kept = None

    def train(self, mode: bool = True) -> MMM4Rec:
        """Switch training mode; the cached item side is dropped."""
        self._kept = None
        super().train(mode)
        return self
