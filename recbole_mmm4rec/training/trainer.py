"""RecBole's Trainer with what MMM4Rec's training needs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.utils import get_gpu_usage, set_color
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.checkpoints.saving import load, save
from recbole_mmm4rec.distributed import group as processes
from recbole_mmm4rec.distributed import joint
from recbole_mmm4rec.network.ops.packing.constant_shapes import count_tokens
from recbole_mmm4rec.training import optim
from recbole_mmm4rec.training.allocator import keep_freed_memory
from recbole_mmm4rec.training.averaging import Averaging
from recbole_mmm4rec.training.cuda_graphs import GraphedLoss, use_graphs
from recbole_mmm4rec.training.freezing import Freezing
from recbole_mmm4rec.training.in_pieces import RanksInPieces
from recbole_mmm4rec.training.loss_sum import READ_EVERY, LossSum, batches
from recbole_mmm4rec.training.prefetch import prefetched
from recbole_mmm4rec.training.row_wise import clippable
from recbole_mmm4rec.transfer.loading import load_pretrained
from recbole_mmm4rec.transfer.parameter_sets import frozen_parameters, rate_factors


class MMM4RecTrainer(RanksInPieces):
    """Adds to RecBole's Trainer what large catalogues, large batches and mixed precision need.

    NAdam and parameter groups, row-wise steps of ID tables, accumulation, a schedule, sound mixed precision, and an
    evaluation that ranks piece by piece.

    What it can be told stands in settings/rows/training.py and transfer.py.
    """

    reports_mean_loss = True
    """Of several processes; RecBole's trainers report the sum over them."""

    def __init__(self, config: Any, model: Any) -> None:
        """Check the training keys, start from a checkpoint where one is named, and build the optimiser.

        Raises:
            UserError: a key with a value out of its range, or a checkpoint that does not fit.
        """
        self.transferred = load_pretrained(config, model)
        self.accumulation_steps = int(config["accumulation_steps"] or 1)
        self.amp_dtype = optim.checked_precision(config)
        self.lr_schedule, self.warmup_steps, self.lr_floor = optim.checked_schedule(config)
        self.row_wise = optim.row_wise_choice(config)
        super().__init__(config, model)
        if self.device.type == "cpu":
            keep_freed_memory()
        model.network.items.row_wise = self.row_wise
        # float16 underflows without a scaler; one scaler for the whole training, so that its scale can settle
        scaled = bool(self.enable_amp and self.amp_dtype == torch.float16)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.scheduler: torch.optim.lr_scheduler.LambdaLR | None = None
        self.optimizer_step = 0
        self.use_graphs = use_graphs(config, model.network, self.device, self.row_wise)
        self.graphed: GraphedLoss | None = None
        self._tokens: deque[int] = deque()  # of the batches on their way, oldest first
        self.averaging = Averaging.of(config, model.network)
        observers = (Freezing(model, frozen_parameters(config, model, self.transferred)), self.averaging)
        for observer in filter(None, observers):
            self.training.add(observer)

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """The optimiser of the model's trainable parameters."""
        config = self.config
        decay = kwargs.pop("weight_decay", self.weight_decay) or 0.0
        factors = rate_factors(config, self.model, self.transferred)
        groups = optim.parameter_groups(self.model, float(decay), bool(config["decay_norms"]), factors)
        learner, rate = str(self.learner).lower(), float(self.learning_rate)
        return optim.build_optimizer(groups, learner, rate, bool(config["decoupled_weight_decay"]), self.row_wise)

    def _build_scheduler(self, train_data: Any) -> torch.optim.lr_scheduler.LambdaLR:
        """The learning-rate schedule over all optimiser steps of the training, from where a checkpoint left it."""
        per_epoch = -(-len(train_data) // self.accumulation_steps)
        done = self.optimizer_step or per_epoch * self.start_epoch

        def factor(step: int) -> float:
            return optim.learning_rate_factor(
                done + step, self.lr_schedule, self.warmup_steps, per_epoch * self.epochs, self.lr_floor
            )

        return torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """All parts of the training, where RecBole's trainer writes some."""
        if epoch == -1 and self.start_epoch > 0:
            return  # a training with nothing left to do would write its last state over its best model
        file = kwargs.pop("saved_model_file", self.saved_model_file)
        save(self, epoch, file)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {file}")

    def resume_checkpoint(self, resume_file: Any) -> None:
        """Go on with a checkpoint, and write into the same file, as RecBole's does."""
        load(self, read(resume_file), f"checkpoint {str(resume_file)!r}")
        self.saved_model_file = str(resume_file)
        self.logger.info(f"Checkpoint loaded. Resume training from epoch {self.start_epoch}")

    def _autocast(self, cache: bool = True) -> torch.autocast:
        return torch.autocast(self.device.type, self.amp_dtype, enabled=bool(self.enable_amp), cache_enabled=cache)

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> float:
        """Train one epoch.

        Returns:
            the sum of the losses of the loader's batches, as RecBole reports it.
        """
        self.model.train()
        if self.use_graphs and loss_func is None and self.graphed is None:
            self.graphed = GraphedLoss(self._recorded_loss, self.model.parameters(), self.scaler.scale)
        loss_func = loss_func or self.model.calculate_loss
        if self.scheduler is None:
            self.scheduler = self._build_scheduler(train_data)
        steps = self.training.steps
        losses = LossSum(1 if self.graphed is None else READ_EVERY, steps.loss() or 0.0, steps.done)
        bar = tqdm(
            total=train_data.sample_size,
            unit=" samples",
            ncols=110,
            desc=set_color(f"Train {epoch_idx:>5}", "pink"),
            disable=not show_progress,
        )
        with bar:
            for group in batches(prefetched(self._counted(train_data), self.device), self.accumulation_steps):
                losses.add(self._step(group, loss_func))
                bar.update(self._samples_done)
                bar.set_postfix_str(f"{losses}{self._memory(show_progress)}", refresh=False)
                self.training.stepped(losses.read, len(group))
            losses.read()
        self.tensorboard.add_scalar("Learning_rate", self.optimizer.param_groups[0]["lr"], epoch_idx)
        return float(processes.total(losses.total)) / processes.world()

    vars()["_train_epoch"].in_steps = True  # it tells of each

    def _counted(self, train_data: Any) -> Iterator[Interaction]:
        """The loader's batches, their tokens noted for CUDA graphs while the lengths are on the processor."""
        self._tokens.clear()
        for batch in self.training.steps.of(train_data):
            if self.graphed is not None:
                self._tokens.append(count_tokens(batch[self.model.ITEM_SEQ_LEN], self.model.network.config.max_len))
            yield batch

    def _recorded_loss(self, batch: dict[str, Tensor], padded_to: int) -> Tensor:
        """The loss that a CUDA graph records."""
        with self._autocast(cache=False):
            loss: Tensor = self.model.calculate_loss(Interaction(batch), padded_to)
        return loss

    def _memory(self, show_progress: bool) -> str:
        return f", GPU RAM: {get_gpu_usage(self.device)}" if self.gpu_available and show_progress else ""

    def _step(self, group: list[Interaction], loss_func: Any) -> list[Tensor]:
        """One optimiser step over the batches of a group, each weighted by its share of the group's samples.

        The gradient equals that of the group as one batch, also where the last batch of an epoch is smaller; not so
        for ``loss_type: in_batch`` and ``sampled``, whose candidates belong to one batch.

        Returns:
            the mean loss of each batch, on the device.
        """
        self.optimizer.zero_grad()
        self._samples_done = sum(len(interaction) for interaction in group)
        means = self._replayed(group) or self._gradients(group, loss_func)
        if not means:
            return means
        if self.clip_grad_norm:
            self.scaler.unscale_(self.optimizer)  # clipping scaled gradients would clip to an arbitrary norm
            clip_grad_norm_(clippable(self.model.parameters()), **self.clip_grad_norm)
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        assert self.scheduler is not None
        if self.scaler.get_scale() >= before:  # a lower scale means that the step was left out
            self.optimizer_step += 1
            self.scheduler.step()
            if self.averaging is not None:
                self.averaging.step()
        return means

    def _replayed(self, group: list[Interaction]) -> list[Tensor]:
        """Gradients of a group of one batch by a CUDA graph, and its mean loss; nothing where that cannot be."""
        if self.graphed is None:
            return []
        (batch,) = group
        mean = self.graphed(batch.interaction, self._tokens.popleft())
        return [] if mean is None else [mean]

    def _gradients(self, group: list[Interaction], loss_func: Any) -> list[Tensor]:
        """Gradients of a group's batches, over all processes, and the mean loss of each.

        Of several processes, each one's means are weighted so that their mean over the processes is the joint loss.
        """
        sizes = joint.sizes_of(group, self.device)
        self._samples_done = samples = sum(map(sum, sizes))
        means, left_out = [], 0
        for interaction, parts in zip(group, sizes, strict=True):
            own = parts[processes.rank()]
            with self._autocast(), joint.batch_of(parts):
                loss = loss_func(interaction.to(self.device))
            if self.training.leaves_out(loss, interaction):
                left_out += sum(parts)
                continue
            means.append(loss.detach() * (own * len(parts) / sum(parts)))
            self.scaler.scale(loss * (own / samples)).backward()
        if means and left_out:  # the others weigh as if they had been alone from the beginning
            for weight in self.model.parameters():
                if weight.grad is not None:
                    weight.grad.mul_(samples / (samples - left_out))
        if processes.active():
            joint.sum_gradients(self.model.parameters())
        return means

    @torch.no_grad()
    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> Any:
        """RecBole's evaluation, under the precision that training runs in."""
        with self._autocast():
            return super().evaluate(
                eval_data, load_best_model=load_best_model, model_file=model_file, show_progress=show_progress
            )
