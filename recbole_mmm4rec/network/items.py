"""Item tables: frozen features, adapters, ID bias, missing modalities, and how their logits are joined."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mmm4rec.errors import UserError
from recbole_mmm4rec.network.config import NetworkConfig

# the order in which modalities are stacked: text first, as in the published fusion weights
MODALITIES = ("text", "image")


def check_features(features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> None:
    """Refuse feature tables that the network cannot use.

    Raises:
        UserError: an unknown or no modality, tables of different heights, NaN or infinite values, or a mask that
            does not fit.
    """
    unknown = sorted(set(features) - set(MODALITIES))
    if unknown or not features:
        raise UserError(f"features must hold 'text' and/or 'image', not {unknown or 'nothing'}")
    stray = sorted(set(present or {}) - set(features))
    if stray:
        raise UserError(f"present holds a mask for {stray}, but features holds {sorted(features)}")
    heights = {name: table.shape[0] for name, table in features.items()}
    if len(set(heights.values())) > 1:
        raise UserError(f"the feature tables have different numbers of rows: {heights}")
    for name, table in features.items():
        if table.dim() != 2 or table.shape[0] < 2:
            raise UserError(f"features['{name}'] must be (I + 1, F) with at least one item, not {tuple(table.shape)}")
        mask = (present or {}).get(name)
        if mask is not None and mask.shape != (table.shape[0],):
            raise UserError(f"present['{name}'] must be ({table.shape[0]},), not {tuple(mask.shape)}")
        bad = ~torch.isfinite(table).all(1)
        bad[0] = False  # padding is not used
        if mask is not None:
            bad &= mask.to(bad.device)
        if bool(bad.any()):
            rows = torch.nonzero(bad).flatten()[:3].tolist()
            raise UserError(
                f"features['{name}'] holds NaN or infinite values in {int(bad.sum())} rows (first: {rows}); "
                "make the embeddings again, or mark these items as missing"
            )


Rows = Tensor | slice
ALL = slice(None)


class ItemTables(nn.Module):
    """The item side of the network: one table of D-wide vectors per modality.

    ``table_m = adapter_m(features_m) + bias_m``; an item without modality m has a learned vector in place of
    ``adapter_m(features_m)``. Row 0 is padding.
    """

    def __init__(
        self, config: NetworkConfig, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
    ) -> None:
        """Keep the frozen tables and make the trainable parts.

        Args:
            config: the network's settings.
            features: "text" and/or "image" tables (I+1, F), any floating dtype; row 0 is not used.
            present: for each modality (I+1,) bool, False where the item has none; None where all have it.

        Raises:
            UserError: see :func:`check_features`.
        """
        super().__init__()
        check_features(features, present)
        self.config = config
        self.modalities = tuple(name for name in MODALITIES if name in features)
        self.rows = next(iter(features.values())).shape[0]  # I + 1
        D = config.hidden_size
        self.adapter = nn.ModuleDict({m: nn.Linear(features[m].shape[1], D) for m in self.modalities})
        self.missing = nn.ParameterDict({m: nn.Parameter(torch.empty(D).normal_(0, 0.02)) for m in self.modalities})
        self.bias = nn.ParameterDict()
        if config.is_modality_bias:
            self.bias.update({m: nn.Parameter(torch.zeros(self.rows, D)) for m in self.modalities})
        masks = []
        for name in self.modalities:
            mask = (present or {}).get(name)
            full = torch.ones(self.rows, dtype=torch.bool) if mask is None else mask.detach().bool().cpu().clone()
            full[0] = True  # padding is no candidate; its row takes part in nothing
            masks.append(full)
            table = features[name].detach().to(torch.get_default_dtype())
            table = torch.where(torch.isfinite(table), table, 0)  # what is left of NaN belongs to absent items
            self.register_buffer(f"{name}_features", table, persistent=False)
        self.register_buffer("present", torch.stack(masks, 1), persistent=False)  # (I+1, M)
        # an item with no modality at all is scored by its learned vectors: there is nothing else
        self.register_buffer("scored", self.present | ~self.present.any(1, keepdim=True), persistent=False)
        self.complete = bool(torch.stack(masks, 1).all())
        count = len(self.modalities)
        if config.item_mm_fusion == "static" or count == 1:
            self.register_parameter("fusion", None)
        else:
            shape = (count,) if config.item_mm_fusion == "dynamic_shared" else (self.rows, count)
            self.fusion = nn.Parameter(torch.zeros(shape))

    present: Tensor
    scored: Tensor

    def tables(self) -> dict[str, Tensor]:
        """For each modality the (I+1, D) table, projected once."""
        return self.vectors(ALL)

    def vectors(self, rows: Rows) -> dict[str, Tensor]:
        """For each modality the (n, D) vectors of ``rows``, (n,) int64 item numbers or a slice of them."""
        made = {}
        for column, name in enumerate(self.modalities):
            vectors = self.adapter[name](getattr(self, f"{name}_features")[rows])
            if not self.complete:
                here = self.present[rows, column].unsqueeze(1)
                vectors = torch.where(here, vectors, self.missing[name].to(vectors.dtype))
            made[name] = vectors + self.bias[name][rows] if name in self.bias else vectors
        return made

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
            weights = torch.softmax(self.fusion if self.fusion.dim() == 1 else self.fusion[rows], -1).view(-1, count)
        scored = self.scored[rows]
        if self.complete:
            return weights.expand(len(scored), -1)
        masked = weights * scored
        return masked * (weights.sum(1, keepdim=True) / masked.sum(1, keepdim=True))

    def fused(self, vectors: Mapping[str, Tensor], rows: Rows = ALL) -> Tensor:
        """(n, D), the one table whose product with user vectors gives the scores of ``rows``.

        Every fusion is a weighted sum of logits, ``Σ_m c_m u·t_m/‖t_m‖``, hence one product with the weighted sum of
        the normalised tables, divided by the temperature.

        Args:
            vectors: what :meth:`vectors` gives for the same ``rows``.
            rows: (n,) int64 item numbers or a slice of them, all by default.
        """
        weights = self.coefficients(rows)
        total: Tensor | None = None
        for column, name in enumerate(self.modalities):
            part = F.normalize(vectors[name], dim=-1, eps=1e-12)
            if weights is not None:
                part = part * weights[:, column].unsqueeze(1).to(part.dtype)
            total = part if total is None else total + part
        assert total is not None
        return total / self.config.temperature
