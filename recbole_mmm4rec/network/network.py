"""MMM4Rec's network, top to bottom: sequences of items → user vectors → scores.

Source: "MMM4Rec: A Transfer-Efficient Framework for Multi-modal Sequential Recommendation" (arXiv 2506.02916).
Axes: B users, L positions, T valid positions of a batch, D hidden size, H heads, I items (row 0 is padding).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from recbole_mmm4rec.network.config import NetworkConfig
from recbole_mmm4rec.network.items import ItemTables
from recbole_mmm4rec.network.layers import CrossLayer, TiSSDLayer
from recbole_mmm4rec.network.ops.blockscan import MAX_LENGTH
from recbole_mmm4rec.network.ops.constant_shapes import BACKENDS, StaticRagged
from recbole_mmm4rec.network.ops.dropout import dropout
from recbole_mmm4rec.network.ops.frozen import FrozenTable
from recbole_mmm4rec.network.ops.kernels import DENSE, choose_backend
from recbole_mmm4rec.network.ops.ragged import Ragged
from recbole_mmm4rec.network.ops.shared_prefixes import SharedPrefixes
from recbole_mmm4rec.network.ops.softmax import aligned_product
from recbole_mmm4rec.network.state_space import Plan, Projected
from recbole_mmm4rec.network.time_path import TimeInput, time_gaps


@dataclass(frozen=True)
class ItemInputs:
    """What the network makes of an item before it sees a sequence; without dropout the same at every position.

    Attributes:
        stream: (I+1, D) input of the first layer.
        projected: (I+1, ·) its first block's projections, see ``TiSSD.project`` in :mod:`.state_space`.
    """

    stream: Tensor
    projected: tuple[Tensor, Tensor, Tensor]


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
            UserError: features that do not fit.
        """
        super().__init__()
        self.config = config
        self.items = ItemTables(config, features, present)
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
        inputs: Mapping[str, ItemInputs] | None = None,
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
                shape is known beforehand and nothing waits for the device, see :mod:`.static`. Not with ``origin``.

        Returns:
            (B, D), not normalised.

        Raises:
            ValueError: an empty history, a wrong L, missing time stamps, or ``padded_to`` where the scan cannot take
                it.
        """
        config = self.config
        if item_seq.shape[1] != config.max_len:
            raise ValueError(f"item_seq has {item_seq.shape[1]} positions, the network was built for {config.max_len}")
        if item_seq_len.shape != item_seq.shape[:1]:
            raise ValueError(f"item_seq_len is {tuple(item_seq_len.shape)}, not ({item_seq.shape[0]},)")
        if config.is_time and timestamps is not None and timestamps.shape != item_seq.shape:
            raise ValueError(f"timestamps is {tuple(timestamps.shape)}, not {tuple(item_seq.shape)}")
        backend = choose_backend(config.ssd_backend, item_seq.device.type)
        if padded_to is None:
            in_blocks = backend == "torch" and config.max_len <= MAX_LENGTH
            ragged = Ragged(item_seq_len, config.max_len, merge_from=config.d_conv if in_blocks else None)
        elif backend in BACKENDS and origin is None:
            ragged = StaticRagged(item_seq_len, config.max_len, padded_to)
        else:
            raise ValueError(f"padded_to needs ssd_backend {' or '.join(BACKENDS)}, not {backend}, and no origin")
        stamps = None if timestamps is None else ragged.arrange(timestamps)
        if origin is not None and inputs is None:
            users = self._shared(item_seq, stamps, SharedPrefixes(ragged, origin), backend, tables)
            return ragged.restore(users)
        tokens = ragged.pack(ragged.arrange(item_seq))  # (T,)
        streams, projected = self._streams(tokens, tables, inputs, padded_to is None)  # (T, D) each
        signals = self._time_signals(stamps, ragged.lengths, len(streams))
        users = self._encode(streams, signals, projected, ragged, Plan(backend, ragged.last, 1))
        return ragged.restore(users)

    def _shared(
        self,
        item_seq: Tensor,
        stamps: Tensor | None,
        shared: SharedPrefixes,
        backend: str,
        tables: Mapping[str, Tensor] | None,
    ) -> Tensor:
        """User vectors (B, D) of packed prefixes, computing once what they have in common; see :mod:`.shared`."""
        ragged, base = shared.ragged, shared.base
        tokens = base.pack(item_seq.index_select(0, shared.longest_row))  # (T',)
        streams, _ = self._streams(tokens, tables, None)
        signals = self._time_signals(stamps, ragged.lengths, len(streams))
        if not signals:  # nothing looks ahead: one pass gives the vectors of all prefixes
            return self._encode(streams, [], {}, base, Plan(backend)).index_select(0, shared.ends)
        prefixes = shared.prefix_of_token
        short = backend in DENSE and base.longest <= MAX_LENGTH
        if len(streams) == len(self.layers) == 1 and prefixes is not None and short:
            ((_, stream),) = streams.items()
            return self._first.prefixes(stream, signals[0], shared, prefixes, backend).index_select(0, shared.ends)
        block = self._first.ssd
        projected = {m: Projected(block.project(stream), shared.expand) for m, stream in streams.items()}
        expanded = {m: stream.index_select(0, shared.expand) for m, stream in streams.items()}
        return self._encode(expanded, signals, projected, ragged, Plan(backend, ragged.last, 1))

    def item_inputs(self, tables: Mapping[str, Tensor]) -> dict[str, ItemInputs]:
        """The first layer's input of every item, where it depends on nothing else: in evaluation.

        Worth its memory, (I+1)·(3E + 2GN + H + D) numbers a modality, where items are fewer than tokens.

        Args:
            tables: :meth:`ItemTables.tables`.

        Raises:
            RuntimeError: in training, where every position draws its own dropout.
        """
        if self.training:
            raise RuntimeError("item_inputs needs evaluation mode: in training every position draws its own dropout")
        streams = {m: self._input(m, tables[m]) for m in self.items.modalities}
        return {m: ItemInputs(stream, self._first.ssd.project(stream)) for m, stream in streams.items()}

    @property
    def _first(self) -> TiSSDLayer:
        return cast(TiSSDLayer, self.layers[0])

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

    def _streams(
        self,
        tokens: Tensor,
        tables: Mapping[str, Tensor] | None,
        inputs: Mapping[str, ItemInputs] | None,
        distinct: bool = True,
    ) -> tuple[dict[str, Tensor], dict[str, Projected]]:
        """Each modality's stream (T, D), and its first projections if they are at hand, for items ``tokens`` (T,).

        ``distinct`` projects an item once where it occurs often, which makes shapes depend on the data.
        """
        if inputs is not None:
            streams = {m: inputs[m].stream.index_select(0, tokens) for m in self.items.modalities}
            return streams, {m: Projected(inputs[m].projected, tokens) for m in self.items.modalities}
        if tables is None and not distinct:
            return {m: self._input(m, vectors) for m, vectors in self.items.vectors(tokens).items()}, {}
        if tables is None:
            rows, tokens = torch.unique(tokens, return_inverse=True)
            tables = self.items.vectors(rows)
        return {m: self._input(m, tables[m].index_select(0, tokens)) for m in self.items.modalities}, {}

    def _input(self, modality: str, vectors: Tensor) -> Tensor:
        """LayerNorm(dropout(·)) of a modality's gathered item vectors, (T, D)."""
        return self.input_norm[modality](dropout(vectors, self.drop, self.training))

    def _time_signals(self, timestamps: Tensor | None, lengths: Tensor, count: int) -> list[Tensor]:
        """One (B, H, L) time signal for each stream, or none without time."""
        if self.time_input is None:
            return []
        if timestamps is None:
            raise ValueError("timestamps are needed, because is_time is True")
        gaps = time_gaps(timestamps, lengths, self.config.time_padding)
        return [self.time_input(gaps) for _ in range(count)]

    def _encode(
        self,
        streams: Mapping[str, Tensor],
        signals: list[Tensor],
        projected: Mapping[str, Projected],
        ragged: Ragged,
        final: Plan,
    ) -> Tensor:
        """All layers.

        Args:
            streams: each modality's (T, D), text first.
            signals: each modality's time signal (B, H, L); empty without time.
            projected: the first block's projections of a modality where they are at hand.
            ragged: layout of the T tokens.
            final: how the last layer is computed, and the S tokens it is computed for.

        Returns:
            (S, D) of the last modality.
        """
        first, *second = streams
        stream, signal = streams[first], signals[0] if signals else None
        image, image_signal = (streams[second[0]], signals[-1] if signals else None) if second else (stream, None)
        for index, layer in enumerate(self.layers):
            plan = final if index == len(self.layers) - 1 else Plan(final.backend)
            given = {} if index else projected
            alone = plan if not second else Plan(final.backend)  # a cross layer needs every position of the text
            stream, signal = layer(stream, signal, ragged, alone, given.get(first))
            if second:
                pair = None if signal is None or image_signal is None else (signal, image_signal)
                cross = self.cross_layers[index]
                image, image_signal = cross(
                    image=image,
                    text=stream,
                    signals=pair,
                    shared=layer.ssd,
                    ragged=ragged,
                    plan=plan,
                    projected=given.get(second[0]),
                )
        return image if second else stream
