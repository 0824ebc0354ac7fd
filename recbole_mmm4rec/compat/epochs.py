"""RecBole's epoch, written so that it can begin in the middle."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch


def train_in_steps(module: ModuleType) -> None:
    """Train an epoch in steps that are told of, so that a training can go on in the middle of one.

    Broken: ``Trainer._train_epoch`` (trainer/trainer.py:203) keeps its position in the loader, the sum of losses and
    the gradient scaler to itself, so that what is broken off in an epoch begins it again with other random numbers; a
    loss that is not a number ends it without a word of the batch, and an infinite one passes. The same sums in the
    same order.
    """

    def _train_epoch(
        self: Any, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> Any:
        self.model.train()
        loss_func = loss_func or self.model.calculate_loss
        if not self.config["single_spec"] and train_data.shuffle:
            train_data.sampler.set_epoch(epoch_idx)
        steps = self.training.steps
        total_loss = steps.loss()
        batches = steps.of(train_data)
        if show_progress:
            words = module.set_color(f"Train {epoch_idx:>5}", "pink")
            batches = module.tqdm(batches, total=len(train_data), initial=steps.done, ncols=100, desc=words)
        scaler = module.amp.GradScaler(enabled=self.enable_scaler)
        for interaction in batches:
            interaction = interaction.to(self.device)
            self.optimizer.zero_grad()
            sync_loss = 0
            if not self.config["single_spec"]:
                self.set_reduce_hook()
                sync_loss = self.sync_grad_loss()
            with torch.autocast(device_type=self.device.type, enabled=self.enable_amp):
                losses = loss_func(interaction)
            loss = sum(losses) if isinstance(losses, tuple) else losses
            if not self.training.leaves_out(loss, interaction):
                total_loss = _added(total_loss, losses)
                scaler.scale(loss + sync_loss).backward()
                if self.clip_grad_norm:
                    scaler.unscale_(self.optimizer)  # else the norm of scaled gradients would be clipped
                    module.clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
                scaler.step(self.optimizer)
                scaler.update()
            if self.gpu_available and show_progress:
                batches.set_postfix_str(module.set_color("GPU RAM: " + module.get_gpu_usage(self.device), "yellow"))
            self.training.stepped(lambda found=total_loss: found)
        return 0.0 if total_loss is None else total_loss  # every batch was left out

    vars(_train_epoch)["in_steps"] = True
    module.Trainer._train_epoch = _train_epoch


def _added(total: Any, losses: Any) -> Any:
    """A sum of losses, or of each of several, with those of one batch more."""
    if not isinstance(losses, tuple):
        return losses.item() if total is None else total + losses.item()
    found = tuple(one.item() for one in losses)
    return found if total is None else tuple(map(sum, zip(total, found, strict=True)))
