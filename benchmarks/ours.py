"""Our network as the benchmarks drive it: what RecBole's trainer and evaluation do with it, without RecBole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.contract import Setup
from benchmarks.shop_batches import Batch
from recbole_mmm4rec.losses.cross_entropies import full_cross_entropy
from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig
from recbole_mmm4rec.training import optim
from recbole_mmm4rec.training.allocator import keep_freed_memory


class Ours:
    """A network with its optimiser; keeps the contract of :mod:`benchmarks.contract`."""

    loads_weights = True

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        torch.manual_seed(setup.seed)
        if setup.device == "cpu":
            keep_freed_memory()  # for the whole process, the baseline included
        self.network = MMM4RecNetwork(NetworkConfig(**setup.settings), setup.features).to(setup.device)
        groups = optim.parameter_groups(self.network, setup.weight_decay, decay_norms=True)
        self.optimizer: Any = optim.build_optimizer(groups, "nadam", setup.learning_rate, decoupled=False)
        self.autocast = torch.autocast(setup.device, torch.bfloat16, enabled=setup.precision == "bfloat16")

    def train_step(self, batch: Batch) -> Tensor:
        """Forward, loss, backward, optimiser step, as ``MMM4RecTrainer`` does; the loss."""
        self.network.train()
        self.optimizer.zero_grad()
        with self.autocast:
            tables = self.network.items.tables()
            users = self.network.user_vectors(batch.item_seq, batch.item_seq_len, batch.timestamps, tables)
            loss = full_cross_entropy(users, self.network.fused_items(tables), batch.labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def begin_evaluation(self) -> None:
        """The item side and the first layer's inputs, once an evaluation, as ``MMM4Rec`` keeps them."""
        self.network.eval()
        with self.autocast:
            self.side = self.network.items.side()
            self.inputs = self.network.item_inputs(self.side.tables)

    @torch.no_grad()
    def score(self, batch: Batch) -> Tensor:
        """(B, I+1) scores of all items, as ``MMM4Rec.full_sort_predict`` gives them."""
        with self.autocast:
            users = self.network.user_vectors(batch.item_seq, batch.item_seq_len, batch.timestamps, inputs=self.inputs)
        return self.network.scores(users.to(self.side.fused.dtype), self.side.fused)
