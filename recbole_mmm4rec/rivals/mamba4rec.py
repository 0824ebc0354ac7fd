"""Mamba4Rec (arXiv 2403.03900): item embeddings, Mamba blocks with feed-forward layers, scores by product.

Axes: B users, L positions, T valid positions of a batch, S of them wanted, D width, E inner width, N states, K taps, R
rank of the step, I items (row 0 is padding).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_mmm4rec.network.ops.conv import packed_conv
from recbole_mmm4rec.network.ops.dropout import dropout
from recbole_mmm4rec.network.ops.packing.ragged import Ragged
from recbole_mmm4rec.network.ops.selective import last_of_selective_scan, selective_scan
from recbole_mmm4rec.rivals.rival import Rival, begin_like_bert, histories_of

EPS = 1e-12
"""Of every LayerNorm."""


class Mamba4Rec(Rival):
    """Mamba4Rec."""

    def __init__(self, config: Any, dataset: Any) -> None:
        """Build it; what a configuration can say stands in properties/model/Mamba4Rec.yaml."""
        super().__init__(config, dataset)
        D, self.drop = config["hidden_size"], float(config["dropout_prob"])
        self.item_embedding = nn.Embedding(self.n_items, D, padding_idx=0)
        self.norm = nn.LayerNorm(D, eps=EPS)
        self.layers = nn.ModuleList(MambaLayer(config) for _ in range(config["num_layers"]))
        begin_like_bert(self)

    def user_vectors(self, interaction: Interaction) -> Tensor:
        """(B, D): the last layer's output at the last position."""
        histories, lengths = histories_of(self, interaction)
        ragged = Ragged(lengths, histories.shape[1])
        items = ragged.pack(ragged.arrange(histories))  # (T,)
        x = self.norm(dropout(self.item_embedding(items), self.drop, self.training))  # (T, D)
        for layer in self.layers[:-1]:
            x = layer(x, ragged, last=False)
        return ragged.restore(self.layers[-1](x, ragged, last=True))

    def both(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """User vectors (B, D), and the embeddings themselves (I+1, D)."""
        return self.user_vectors(interaction), self.item_embedding.weight


class MambaLayer(nn.Module):
    """h = LayerNorm(dropout(Mamba(x)) + x), a single layer without "+ x"; then LayerNorm(FFN(h) + h)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        D, self.drop = config["hidden_size"], float(config["dropout_prob"])
        self.alone = config["num_layers"] == 1
        self.mamba = Mamba(D, config["expand"] * D, config["d_state"], config["d_conv"])
        self.norm = nn.LayerNorm(D, eps=EPS)
        self.fc1, self.fc2 = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.ffn_norm = nn.LayerNorm(D, eps=EPS)

    def forward(self, x: Tensor, ragged: Ragged, last: bool) -> Tensor:
        """(T, D) → (T, D), or (B, D) of the last positions."""
        h = dropout(self.mamba(x, ragged, last), self.drop, self.training)
        if not self.alone:
            h = h + (x.index_select(0, ragged.last) if last else x)
        h = self.norm(h)
        inner = dropout(F.gelu(self.fc1(h)), self.drop, self.training)
        return self.ffn_norm(dropout(self.fc2(inner), self.drop, self.training) + h)


class Mamba(nn.Module):
    """A Mamba block (arXiv 2312.00752, section 3.4): projections, convolution, selective scan, gate."""

    def __init__(self, D: int, E: int, N: int, K: int) -> None:
        super().__init__()
        rank = math.ceil(D / 16)  # R
        self.widths = (rank, N, N)
        self.in_proj = nn.Linear(D, 2 * E, bias=False)  # x | z
        plain = nn.Conv1d(E, E, K, groups=E)  # for PyTorch's default initial values
        self.conv_weight = nn.Parameter(plain.weight.detach().squeeze(1).clone())  # (E, K)
        self.conv_bias = nn.Parameter(plain.bias.detach().clone())  # type: ignore[union-attr]
        self.x_proj = nn.Linear(E, sum(self.widths), bias=False)  # Δ | B | C
        self.dt_proj = nn.Linear(rank, E)
        self.A_log = nn.Parameter(torch.arange(1.0, N + 1).log().repeat(E, 1))  # (E, N)
        self.D_skip = nn.Parameter(torch.ones(E))
        self.out_proj = nn.Linear(E, D, bias=False)

    def forward(self, x: Tensor, ragged: Ragged, last: bool) -> Tensor:
        """(T, D) → (S, D), S all positions or the last ones."""
        for_x, for_z = self.in_proj.weight.chunk(2)
        z = F.linear(x.index_select(0, ragged.last) if last else x, for_z)  # (S, E)
        x = packed_conv(F.linear(x, for_x), self.conv_weight, self.conv_bias, ragged.cols)  # (T, E)
        dt, B, C = self.x_proj(x).split(self.widths, 1)  # (T, R), (T, N), (T, N)
        step = F.softplus(self.dt_proj(dt))  # (T, E)
        A = -torch.exp(self.A_log)
        if last:
            y = last_of_selective_scan(x, step, A, B, C.index_select(0, ragged.last), ragged)  # (B, E)
            x = x.index_select(0, ragged.last)
        else:
            y = selective_scan(x, step, A, B, C, ragged)  # (T, E)
        return self.out_proj((y + self.D_skip * x) * F.silu(z))
