"""MMM4Rec's network, top to bottom: sequences of items → user vectors → scores.

Source: "MMM4Rec: A Transfer-Efficient Framework for Multi-modal Sequential Recommendation" (arXiv 2506.02916).
The order of reading: this file, layers.py, state_space.py, time_path.py, items.py. How it is made fast: ops/.

Axes: B users, L positions, T valid positions of a batch, S of them wanted, D hidden size, H heads, I items (row 0 is
padding).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.items import ItemTables
from recbole_mmm4rec.network.layers import CrossLayer, TiSSDLayer
from recbole_mmm4rec.network.ops.dropout import dropout
from recbole_mmm4rec.network.ops.packing.layouts import Layout, layout_of
from recbole_mmm4rec.network.ops.streams import Prepared, Stream
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable
from recbole_mmm4rec.network.ops.tables.softmax import aligned_product
from recbole_mmm4rec.network.time_path import Signal, TimeInput, time_gaps


class MMM4RecNetwork(nn.Module):
    """Text, image or both → user vectors → scores of all items; no RecBole, no files."""

    def __init__(
        self,
        config: NetworkConfig,
        features: Mapping[str, Tensor | FrozenTable],
        present: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Build the network for one catalogue.

        Args:
            config: the settings.
            features: frozen item features, "text" and/or "image", each (I+1, F) of any floating dtype, which they keep;
                row 0 is padding. With one modality alone its TiSSD stack scores alone.
            present: masks (I+1,) bool of the items that have the modality; None where all have it.

        Raises:
            UserError: features that do not fit, or a part of the cross layers is left out where there are none.
        """
        super().__init__()
        self.config = config
        self.items = ItemTables(config, features, present)
        if config.ablation != "none" and len(self.items.modalities) == 1:
            raise UserError(
                f"ablation: {config.ablation}: it leaves out a part of the cross layers, which a model of "
                f"{self.items.modalities[0]} alone does not have"
            )
        self.input_norm = nn.ModuleDict(
            {m: nn.LayerNorm(config.hidden_size, eps=config.norm_eps) for m in self.items.modalities}
        )
        self.time_input = TimeInput(config) if config.is_time else None
        self.layers = nn.ModuleList(TiSSDLayer(config) for _ in range(config.num_layers))
        cross_layers = config.num_layers if len(self.items.modalities) == 2 else 0
        self.cross_layers = nn.ModuleList(CrossLayer(config) for _ in range(cross_layers))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.02)
                nn.init.zeros_(module.bias)
        self.drop = config.embedding_drop_prob

    def user_vectors(
        self,
        item_seq: Tensor,
        item_seq_len: Tensor,
        timestamps: Tensor | None = None,
        tables: Mapping[str, Tensor] | None = None,
        inputs: Mapping[str, Prepared] | None = None,
        origin: Tensor | None = None,
        padded_to: int | None = None,
    ) -> Tensor:
        """Encode histories.

        Args:
            item_seq: (B, L) int64 item numbers, oldest first, right-padded with 0.
            item_seq_len: (B,) int64 valid positions, at least 1.
            timestamps: (B, L) int64 seconds; may be None without time.
            tables: the item tables if they are at hand (:meth:`ItemTables.tables`); else the batch's own items are
                projected alone.
            inputs: what :meth:`item_inputs` gives, in evaluation; ``tables`` are not read then.
            origin: (B,) int64; of two rows with the same number the shorter one is a prefix of the longer one, and what
                they have in common is computed once (without ``inputs``). Dropout then draws for both together.
            padded_to: tokens to compute with, at least the sum of ``item_seq_len``, which is not looked at then: every
                shape is known beforehand and nothing waits for the device, see :mod:`.ops.packing.constant_shapes`. Not
                with ``origin``.

        Returns:
            (B, D), not normalised.

        Raises:
            ValueError: an empty history, a wrong L, missing time stamps, or ``padded_to`` where the scan cannot take
                it.
        """
        self._check(item_seq, item_seq_len, timestamps)
        config, alone = self.config, len(self.items.modalities) == 1
        layout = layout_of(
            item_seq_len,
            max_len=config.max_len,
            width=config.d_conv,
            backend=config.ssd_backend,
            looks_ahead=config.is_time,
            single=alone and config.num_layers == 1,
            origin=origin if inputs is None else None,
            padded_to=padded_to,
        )
        streams = self._streams(layout.pack(item_seq), layout, tables, inputs)  # (T, D) each
        signals = self._time_signals(timestamps, layout, len(streams))  # (B, H, L) each
        text, image, g_text, g_image = streams[0], streams[-1], signals[0], signals[-1]
        for index, layer in enumerate(self.layers):
            at = layout.last() if index == len(self.layers) - 1 else layout  # S tokens: in the end the last ones
            text, g_text = layer(text, g_text, at if alone else layout)  # (S, D); (T, D) where a cross layer reads it
            if not alone:
                image, g_image = self.cross_layers[index](text.x, image, g_text, g_image, layer.ssd, at)  # (S, D)
        return layout.restore(text.x if alone else image.x)  # (B, D)

    def item_inputs(self, tables: Mapping[str, Tensor]) -> dict[str, Prepared]:
        """The first layer's input of every item, where it depends on nothing else: in evaluation.

        Worth its memory, (I+1)·(3E + 2GN + H + D) numbers a modality, where items are fewer than tokens.

        Args:
            tables: :meth:`ItemTables.tables`.

        Raises:
            RuntimeError: in training, where every position draws its own dropout.
        """
        if self.training:
            raise RuntimeError("item_inputs needs evaluation mode: in training every position draws its own dropout")
        made = {m: Prepared(self._input(m, tables[m])) for m in self.items.modalities}
        block = cast(TiSSDLayer, self.layers[0]).ssd
        for table in made.values():
            table.projected(block.in_proj, block.widths)
        return made

    def scores(self, user_vectors: Tensor, fused: Tensor | None = None) -> Tensor:
        """Score all items.

        Args:
            user_vectors: (B, D).
            fused: the item side if it is at hand (:meth:`fused_items`).

        Returns:
            (B, I+1); the padding column is −inf.
        """
        fused = self.fused_items() if fused is None else fused
        if torch.is_grad_enabled() or torch.is_autocast_enabled(fused.device.type):
            scores = user_vectors @ fused.transpose(0, 1).to(user_vectors.dtype)
        else:
            scores = aligned_product(user_vectors, fused.to(user_vectors.dtype))
        scores[:, 0] = float("-inf")
        return scores

    def fused_items(self, tables: Mapping[str, Tensor] | None = None) -> Tensor:
        """(I+1, D), the item side of the scores; see :meth:`ItemTables.fused`."""
        return self.items.fused(self.items.tables() if tables is None else tables)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor, timestamps: Tensor | None = None) -> Tensor:
        """(B, L), (B,), (B, L) → (B, I+1) scores."""
        tables = self.items.tables()
        return self.scores(self.user_vectors(item_seq, item_seq_len, timestamps, tables), self.fused_items(tables))

    def _check(self, item_seq: Tensor, item_seq_len: Tensor, timestamps: Tensor | None) -> None:
        """Refuse shapes that do not fit, by a ValueError."""
        config = self.config
        if item_seq.shape[1] != config.max_len:
            raise ValueError(f"item_seq has {item_seq.shape[1]} positions, the network was built for {config.max_len}")
        if item_seq_len.shape != item_seq.shape[:1]:
            raise ValueError(f"item_seq_len is {tuple(item_seq_len.shape)}, not ({item_seq.shape[0]},)")
        if config.is_time and timestamps is None:
            raise ValueError("timestamps are needed, because is_time is True")
        if config.is_time and timestamps is not None and timestamps.shape != item_seq.shape:
            raise ValueError(f"timestamps is {tuple(timestamps.shape)}, not {tuple(item_seq.shape)}")

    def _streams(
        self,
        tokens: Tensor,
        layout: Layout,
        tables: Mapping[str, Tensor] | None,
        inputs: Mapping[str, Prepared] | None,
    ) -> list[Stream]:
        """Each modality's stream, text first, of the items ``tokens`` that ``layout`` has packed."""
        if inputs is not None:
            return [inputs[m].rows(tokens) for m in self.items.modalities]
        place: Tensor | None = tokens
        if tables is None:
            rows, place = layout.distinct(tokens)
            tables = self.items.vectors(rows)
        vectors = {m: table if place is None else table.index_select(0, place) for m, table in tables.items()}
        return [layout.stream(self._input(m, vectors[m])) for m in self.items.modalities]

    def _input(self, modality: str, vectors: Tensor) -> Tensor:
        """LayerNorm(dropout(·)) of a modality's gathered item vectors, (T, D)."""
        return self.input_norm[modality](dropout(vectors, self.drop, self.training))

    def _time_signals(self, timestamps: Tensor | None, layout: Layout, count: int) -> list[Signal]:
        """A (B, H, L) time signal for each stream, None without time; each draws its own dropout."""
        if self.time_input is None or timestamps is None:
            return [None] * count
        gaps = time_gaps(layout.times.arrange(timestamps), layout.times.lengths, self.config.time_padding)  # (B, L)
        return [self.time_input(gaps) for _ in range(count)]
