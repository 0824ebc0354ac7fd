"""UniSRec (arXiv 2206.05941): frozen text features through whitening experts, with or without ID, and a Transformer.

Axes: B users, L positions, D width, F features, K experts, I items (row 0 is padding).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.layers import TransformerEncoder
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.checkpoints.reading import tensors
from recbole_mmm4rec.checkpoints.tree import plain_settings
from recbole_mmm4rec.distributed import joint
from recbole_mmm4rec.features.made_by import ENCODERS, note_encoders, read_note
from recbole_mmm4rec.losses.cross_entropies import in_batch_cross_entropy
from recbole_mmm4rec.network.ops.dropout import dropout
from recbole_mmm4rec.network.ops.tables.frozen import Rows, checked_tables, pieces
from recbole_mmm4rec.rivals.rival import Rival, begin_like_bert, histories_of
from recbole_mmm4rec.settings.parts import PARTS as PARAMETERS
from recbole_mmm4rec.settings.parts import unknown_part
from recbole_mmm4rec.settings.reading import name_list
from recbole_mmm4rec.settings.stage import is_pretraining
from recbole_mmm4rec.transfer.loading import made_otherwise, warn_of_meaning
from recbole_mmm4rec.transfer.origins import note_origins

ENCODER = ("encoder", "position_embedding")
"""What a fine-tuning leaves as it was pre-trained, unless ``frozen`` says otherwise."""

PARTS, ROWS = 8, 64
"""Parts of a batch that are encoded one after the other, by length, and the fewest rows of one."""

NOISE = 1e-2
"""What the deviation of the gates' noise has at least."""

_SIZES = (
    *("hidden_size", "inner_size", "n_layers", "n_heads", "n_exps", "MAX_ITEM_LIST_LENGTH"),
    *("hidden_act", "layer_norm_eps"),
)
"""Settings that give the weights their shapes, and those under which they mean the same."""


class UniSRec(Rival):
    """UniSRec: transductive with ``is_modality_bias`` (its authors' word for "with ID"), inductive without."""

    def __init__(self, config: Any, dataset: Any) -> None:
        """Build it on a data set's features; what a configuration can say stands in properties/model/UniSRec.yaml.

        Raises:
            UserError: two tables of features, one with NaN or infinite values, heads that do not divide the width, or a
                checkpoint that does not fit.
        """
        super().__init__(config, dataset)
        names, D, heads = list(dataset.features), config["hidden_size"], config["n_heads"]
        if len(names) != 1:
            raise UserError(f"modalities={names}: UniSRec has one table of features; write modalities=[{names[0]}]")
        if D % heads:
            raise UserError(f"n_heads={heads}: it does not divide hidden_size={D}")
        (self.features,) = checked_tables(dataset.features, dataset.present, names).values()  # (I+1, F), as stored
        self.drop, self.temperature = config["hidden_dropout_prob"], config["temperature"]
        self.adaptor = Adaptor(self.features.shape[1], D, config["n_exps"], config["adaptor_dropout_prob"])
        self.contrast = (config["lambda"], config["item_drop_ratio"]) if is_pretraining(config) else None
        with_ids = config["is_modality_bias"] and self.contrast is None  # both contrasts leave IDs out
        self.item_embedding = nn.Embedding(self.n_items, D, padding_idx=0) if with_ids else None
        self.position_embedding = nn.Embedding(self.max_seq_length, D)
        self.norm = nn.LayerNorm(D, eps=config["layer_norm_eps"])
        self.encoder = TransformerEncoder(
            n_layers=config["n_layers"],
            n_heads=heads,
            hidden_size=D,
            inner_size=config["inner_size"],
            hidden_dropout_prob=self.drop,
            attn_dropout_prob=config["attn_dropout_prob"],
            hidden_act=config["hidden_act"],
            layer_norm_eps=config["layer_norm_eps"],
        )
        begin_like_bert(self, config["initializer_range"])
        config[ENCODERS] = note_encoders(dataset)
        if config["pretrained"]:
            self._start_from(str(config["pretrained"]), config)
        chosen = name_list(config["frozen"])
        tuned = config["pretrained"] and self.contrast is None  # a pre-training that goes on trains everything
        self._freeze(list(ENCODER if tuned else ()) if chosen is None else list(chosen))
        if config["epochs"] and not any(weight.requires_grad for weight in self.parameters()):
            raise UserError(f"frozen={chosen!r} leaves nothing to train; leave something out, or set epochs: 0")
        self._kept: tuple[tuple[Any, ...], Tensor] | None = None  # the table of an evaluation, and of which weights

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> UniSRec:
        """Move or convert the parameters; the frozen features follow to the device and keep their type."""
        super()._apply(fn, recurse)
        self.features = self.features.to(self.adaptor.gate.device)
        return self

    def table(self) -> Tensor:
        """(I+1, D): what the adaptor makes of the features, with the IDs where there are any.

        Differs from its program in training: dropout and noise of the adaptor are drawn once for an item and a step,
        for candidates and histories alike. Its program draws them for each position, at several times the cost.
        """
        if self.training or torch.is_grad_enabled():
            return self._made()
        weights = [
            *self.adaptor.parameters(),
            *([] if self.item_embedding is None else self.item_embedding.parameters()),
        ]
        state = (torch.is_autocast_enabled(self.features.device.type), *((w.data_ptr(), w._version) for w in weights))
        if self._kept is None or self._kept[0] != state:
            self._kept = state, self._made()
        return self._kept[1]

    def _made(self) -> Tensor:
        vectors = self._adapted()
        return vectors if self.item_embedding is None else vectors + self.item_embedding.weight

    def _adapted(self) -> Tensor:
        """(I+1, D): the features through the adaptor, more of them than fit into a piece a piece at a time, so that the
        noise is the same wherever they lie; those that must be converted or gathered in the backward pass again."""
        parts = list(pieces(*self.features.shape))
        if len(parts) == 1 or self.features.is_view(slice(None), self.adaptor.gate.dtype):
            return torch.cat([self._vectors(part) for part in parts])
        device = self.features.device  # of a slice `checkpoint` would not know it, nor whose random state to draw again
        rows = [torch.arange(part.start, part.stop, device=device) for part in parts]
        return torch.cat([checkpoint(self._vectors, part, use_reentrant=False) for part in rows])

    def _vectors(self, rows: Rows) -> Tensor:
        """(n, D): the features of some items through the adaptor."""
        made: Tensor = self.adaptor(self.features.take(rows, self.adaptor.gate.dtype))
        return made

    def train(self, mode: bool = True) -> UniSRec:
        """Switch training mode; the kept table is dropped."""
        self._kept = None
        super().train(mode)
        return self

    def both(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """User vectors (B, D) of length 1 and item vectors (I+1, D) of length 1 / temperature."""
        table = self.table()
        histories, lengths = histories_of(self, interaction)
        users = self.encoded(table, histories, histories, lengths)
        return users, F.normalize(table, dim=1) / self.temperature

    def encoded(self, table: Tensor, places: Tensor, histories: Tensor, lengths: Tensor) -> Tensor:
        """User vectors (B, D) of length 1, histories of about one length at a time, so that little padding is computed.

        Args:
            table: (n, D) item vectors.
            places: (B, L) the row of each item in it.
            histories: (B, L) item numbers, right-padded with 0; lengths: (B,).
        """
        order, made = torch.argsort(lengths, stable=True), []
        for rows in order.split(max(ROWS, -(-len(order) // PARTS))):
            longest, own = int(lengths[rows].max()), lengths[rows]
            x = F.embedding(places[rows, :longest], table) + self.position_embedding.weight[:longest]  # (b, l, D)
            x = dropout(self.norm(x), self.drop, self.training)
            mask = self.get_attention_mask(histories[rows, :longest])
            x = self.encoder(x, mask, output_all_encoded_layers=False)[-1]
            made.append(F.normalize(self.gather_indexes(x, own - 1), dim=1))
        return torch.cat(made).index_select(0, torch.argsort(order))

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """The cross-entropy over all items; of a pre-training both contrasts over the batch, whatever its domains."""
        if self.contrast is None:
            return super().calculate_loss(interaction)
        weight, share = self.contrast
        labels, (histories, lengths) = interaction[self.POS_ITEM_ID], histories_of(self, interaction)
        parts, kept = drop_items(histories, lengths, share)
        rows, place = torch.unique(torch.cat([labels, histories.flatten(), parts.flatten()]), return_inverse=True)
        table = self._vectors(rows)  # of the batch's items alone
        of_labels, of_histories, of_parts = place.split([len(labels), histories.numel(), parts.numel()])
        users = self.encoded(table, of_histories.view_as(histories), histories, lengths)
        again = self.encoded(table, of_parts.view_as(parts), parts, kept)
        items = F.normalize(F.embedding(of_labels, table), dim=1)
        labels = joint.rows_of_all(labels)
        return self._contrast(users, items, labels) + weight * self._contrast(users, again, labels)

    def _contrast(self, users: Tensor, others: Tensor, labels: Tensor) -> Tensor:
        """Row j's own column is the right one; columns of the same next item are left out.

        Args:
            users, others: (B, D), of several processes this one's part of the joint batch.
            labels: (B,) of the joint batch.
        """
        columns = joint.rows_of_all(others) / self.temperature
        return in_batch_cross_entropy(users, columns, labels, True, joint.first_row())

    @torch.no_grad()
    def _start_from(self, path: str, config: Any) -> None:
        """Take over all that knows no item from a checkpoint of UniSRec."""
        content = read(path)
        weights, written = tensors(content.get("state_dict")), content.get("config")
        settings = plain_settings(written) if isinstance(written, dict) else {}
        trained = settings.get("model")
        if weights is None or trained != "UniSRec":
            what = f"is a checkpoint of {trained}" if trained else "holds other weights"
            raise UserError(f"pretrained={path!r} {what}; give one of UniSRec, such as --stage=pretrain writes")
        taken = {name: weight for name, weight in weights.items() if not name.startswith("item_embedding.")}
        own = {name: weight for name, weight in self.named_parameters() if not name.startswith("item_embedding.")}
        then, now = read_note(settings, path), config[ENCODERS] or {}
        wrong = [complaint for name in now for complaint in made_otherwise(name, then.get(name), now[name])]
        if then and now and then.keys() != now.keys():
            wrong.append(f"modalities={list(then)} there, {list(now)} here")
        wrong += [
            f"{key}={settings[key]} there, {config[key]} here"
            for key in _SIZES
            if key in settings and settings[key] != config[key]
        ]
        if not wrong:
            wrong += [f"{name} is there alone" for name in taken if name not in own]
            wrong += [f"{name} is missing" for name in own if name not in taken]
            wrong += [
                f"{name} is {tuple(taken[name].shape)}, not {tuple(weight.shape)}"
                for name, weight in own.items()
                if name in taken and taken[name].shape != weight.shape
            ]
        wrong += [
            f"{name} holds NaN or infinite values" for name in own if name in taken and not taken[name].isfinite().all()
        ]
        if wrong:
            raise UserError(f"pretrained={path!r} does not fit, set sizes and features as there: {'; '.join(wrong)}")
        warn_of_meaning(path, settings, then, config)
        note_origins(path, settings, config)
        for name, weight in own.items():
            weight.copy_(taken[name])

    def _freeze(self, parts: list[str]) -> None:
        """Leave parameters as they are whose names begin with one of ``parts``; without IDs there are none of them."""
        names = [*PARAMETERS["UniSRec"], *(name for name, _ in self.named_parameters())]
        for part in parts:
            if not any(f"{name}.".startswith(f"{part}.") for name in names):
                raise unknown_part("frozen", part, "UniSRec")
        for name, weight in self.named_parameters():
            weight.requires_grad_(not any(f"{name}.".startswith(f"{part}.") for part in parts))


def drop_items(histories: Tensor, lengths: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Leave out each item but a history's first with probability ``share``.

    Args:
        histories: (B, L) item numbers, right-padded with 0; lengths: (B,).
        share: 0 … 1.

    Returns:
        What stays, in order, right-padded with 0, and its lengths.
    """
    columns = torch.arange(histories.shape[1], device=histories.device)
    stays = (torch.rand(histories.shape, device=histories.device) >= share) | (columns == 0)
    stays &= columns < lengths.unsqueeze(1)
    kept = stays.sum(1)
    order = torch.argsort((~stays).long(), dim=1, stable=True)
    return histories.gather(1, order) * (columns < kept.unsqueeze(1)), kept


class Adaptor(nn.Module):
    """Σ_k g_k (dropout(x) − b_k) W_k, g = softmax(x W_g + noise), noise ∼ N(0, softplus(x W_n) + 0.01) in training."""

    def __init__(self, features: int, width: int, experts: int, drop: float) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(features, width, bias=False) for _ in range(experts))
        self.whiten = nn.Parameter(torch.zeros(experts, features))  # b
        self.gate = nn.Parameter(torch.zeros(features, experts))
        self.noise = nn.Parameter(torch.zeros(features, experts))
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """(n, F) → (n, D)."""
        logits = x @ self.gate  # (n, K)
        if self.training:
            logits = logits + torch.randn_like(logits) * (F.softplus(x @ self.noise) + NOISE)
        shares, made = torch.softmax(logits, 1), []
        for k, expert in enumerate(self.experts):
            centred = dropout(x, self.drop, self.training) - self.whiten[k]
            made.append(shares[:, k : k + 1] * expert(centred))
        return torch.stack(made).sum(0)
