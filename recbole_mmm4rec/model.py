"""MMM4Rec as a RecBole sequential recommender: a thin wrapper around the network."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor

from recbole_mmm4rec.errors import UserError, did_you_mean
from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
from recbole_mmm4rec.network.losses import full_cross_entropy, in_batch_cross_entropy

LOSS_TYPES = ("CE", "in_batch")


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
            dataset: a :class:`~recbole_mmm4rec.dataset.MMM4RecDataset`, for its ``features`` and ``present``.

        Raises:
            UserError: settings or features that do not fit.
        """
        super().__init__(config, dataset)
        self.loss_type = str(config["loss_type"])
        if self.loss_type not in LOSS_TYPES:
            hint = did_you_mean(self.loss_type, LOSS_TYPES)
            raise UserError(f"loss_type must be one of {', '.join(LOSS_TYPES)}, not '{self.loss_type}'{hint}")
        self.label_smoothing = float(config["label_smoothing"] or 0.0)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise UserError(f"label_smoothing must be a number from 0 to below 1, not {self.label_smoothing}")
        self.time_list = f"{config['TIME_FIELD']}{config['LIST_SUFFIX']}"
        self.network = MMM4RecNetwork(network_config(config), dataset.features, dataset.present)
        self._cached: tuple[tuple[Any, ...], dict[str, Tensor], Tensor] | None = None

    def forward(self, interaction: Interaction, tables: dict[str, Tensor]) -> Tensor:
        """The user vectors (B, D) of a batch."""
        stamps = interaction[self.time_list] if self.network.config.is_time else None
        return self.network.user_vectors(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN], stamps, tables)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """The mean cross-entropy of a training batch."""
        tables = self.network.items.tables()
        users = self.forward(interaction, tables)
        fused, labels = self.network.fused_items(tables), interaction[self.POS_ITEM_ID]
        if self.loss_type == "in_batch":
            return in_batch_cross_entropy(users, fused, labels)
        return full_cross_entropy(users, fused, labels, self.label_smoothing)

    def predict(self, interaction: Interaction) -> Tensor:
        """(B,) score of each row's own item: the matching column of :meth:`full_sort_predict`."""
        tables, fused = self._item_side()
        users = self.forward(interaction, tables)
        return (users.to(fused.dtype) * fused.index_select(0, interaction[self.ITEM_ID])).sum(-1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """(B, I+1) scores of all items, the padding column −inf."""
        tables, fused = self._item_side()
        users = self.forward(interaction, tables)
        # in full precision also under autocast: bfloat16 scores tie, and ties decide ranks
        with torch.autocast(users.device.type, enabled=False):
            return self.network.scores(users.to(fused.dtype), fused)

    def _item_side(self) -> tuple[dict[str, Tensor], Tensor]:
        """Item tables and fused table; projected once while the weights stay the same in evaluation."""
        if self.training or torch.is_grad_enabled():
            tables = self.network.items.tables()
            return tables, self.network.fused_items(tables)
        parameters = tuple(self.network.items.parameters())
        state = (
            *(parameter.data_ptr() for parameter in parameters),
            *(parameter._version for parameter in parameters),
            torch.is_autocast_enabled(self.network.items.present.device.type),
        )
        if self._cached is None or self._cached[0] != state:
            tables = self.network.items.tables()
            with torch.autocast(self.network.items.present.device.type, enabled=False):
                fused = self.network.fused_items({name: table.float() for name, table in tables.items()})
            self._cached = (state, tables, fused)
        return self._cached[1], self._cached[2]

    def train(self, mode: bool = True) -> MMM4Rec:
        """Switch training mode; the cached item side is dropped."""
        self._cached = None
        super().train(mode)
        return self
