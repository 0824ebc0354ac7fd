"""RecBole's Trainer with what MMM4Rec's training needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import get_gpu_usage, set_color
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_mmm4rec import optim
from recbole_mmm4rec.errors import UserError
from recbole_mmm4rec.prefetch import prefetched
from recbole_mmm4rec.ranking import RankingCollector, TopItems, best_items
from recbole_mmm4rec.row_wise import clippable


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` items, the last one shorter."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group


class MMM4RecTrainer(Trainer):
    """Adds to RecBole's Trainer what large catalogues, large batches and mixed precision need.

    NAdam and parameter groups, row-wise steps of ID tables, accumulation, a schedule, sound mixed precision, and an
    evaluation that ranks piece by piece.

    Keys beside RecBole's: ``accumulation_steps``, ``decay_norms``, ``decoupled_weight_decay``, ``row_wise_ids``,
    ``lr_schedule``, ``warmup_steps``, ``lr_floor``, ``amp_dtype``; their ranges stand in
    properties/model/MMM4Rec.yaml.
    """

    def __init__(self, config: Any, model: Any) -> None:
        """Check the training keys and build the optimiser.

        Raises:
            UserError: a key with a value out of its range.
        """
        steps = config["accumulation_steps"]
        self.accumulation_steps = 1 if steps is None else steps
        if not isinstance(self.accumulation_steps, int) or self.accumulation_steps < 1:
            raise UserError(f"accumulation_steps must be a whole number, at least 1, not {steps!r}")
        self.amp_dtype = optim.checked_precision(config)
        self.lr_schedule, self.warmup_steps, self.lr_floor = optim.checked_schedule(config)
        self.row_wise = optim.row_wise_choice(config)
        super().__init__(config, model)
        model.network.items.row_wise = self.row_wise
        self.eval_collector = RankingCollector(config)
        self._told = False
        # float16 underflows without a scaler; one scaler for the whole training, so that its scale can settle
        scaled = bool(self.enable_amp and self.amp_dtype == torch.float16)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.scheduler: torch.optim.lr_scheduler.LambdaLR | None = None
        self.optimizer_step = 0

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """The optimiser of the model's trainable parameters."""
        config = self.config
        decay = kwargs.pop("weight_decay", self.weight_decay) or 0.0
        groups = optim.parameter_groups(self.model, float(decay), bool(config["decay_norms"]))
        learner, rate = str(self.learner).lower(), float(self.learning_rate)
        return optim.build_optimizer(groups, learner, rate, bool(config["decoupled_weight_decay"]), self.row_wise)

    def _build_scheduler(self, train_data: Any) -> torch.optim.lr_scheduler.LambdaLR:
        """The learning-rate schedule over all optimiser steps of the training, from where a checkpoint left it."""
        per_epoch = -(-len(train_data) // self.accumulation_steps)
        done = per_epoch * self.start_epoch

        def factor(step: int) -> float:
            return optim.learning_rate_factor(
                done + step, self.lr_schedule, self.warmup_steps, per_epoch * self.epochs, self.lr_floor
            )

        return torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=bool(self.enable_amp))

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> float:
        """Train one epoch.

        Returns:
            the sum of the losses of the loader's batches, as RecBole reports it.
        """
        self.model.train()
        loss_func = loss_func or self.model.calculate_loss
        if self.scheduler is None:
            self.scheduler = self._build_scheduler(train_data)
        if not self.config["single_spec"] and train_data.shuffle:
            train_data.sampler.set_epoch(epoch_idx)
        total, seen = 0.0, 0
        bar = tqdm(
            total=train_data.sample_size,
            unit=" samples",
            ncols=110,
            desc=set_color(f"Train {epoch_idx:>5}", "pink"),
            disable=not show_progress,
        )
        with bar:
            for group in batches(prefetched(train_data, self.device), self.accumulation_steps):
                losses = self._step(group, loss_func)
                total += sum(losses)
                seen += len(losses)
                bar.update(sum(len(interaction) for interaction in group))
                bar.set_postfix_str(f"loss {total / seen:.4f}{self._memory(show_progress)}", refresh=False)
        self.tensorboard.add_scalar("Learning_rate", self.optimizer.param_groups[0]["lr"], epoch_idx)
        return total

    def _memory(self, show_progress: bool) -> str:
        return f", GPU RAM: {get_gpu_usage(self.device)}" if self.gpu_available and show_progress else ""

    def _step(self, group: list[Interaction], loss_func: Any) -> list[float]:
        """One optimiser step over the batches of a group, each weighted by its share of the group's samples.

        The gradient equals that of the group as one batch, also where the last batch of an epoch is smaller; not so
        for ``loss_type: in_batch``, whose candidates are the labels of one batch.

        Returns:
            the mean loss of each batch.
        """
        self.optimizer.zero_grad()
        samples = sum(len(interaction) for interaction in group)
        means = []
        for interaction in group:
            interaction = interaction.to(self.device)
            sync_loss: float | Tensor = 0.0
            if not self.config["single_spec"]:
                self.set_reduce_hook()
                sync_loss = self.sync_grad_loss()
            with self._autocast():
                loss = loss_func(interaction)
            self._check_nan(loss)
            means.append(loss.detach())
            self.scaler.scale(loss * (len(interaction) / samples) + sync_loss).backward()
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
        return [float(mean) for mean in means]

    @torch.no_grad()
    def evaluate(
        self, eval_data: Any, load_best_model: bool = True, model_file: str | None = None, show_progress: bool = False
    ) -> Any:
        """RecBole's evaluation, under the precision that training runs in."""
        with self._autocast():
            return super().evaluate(
                eval_data, load_best_model=load_best_model, model_file=model_file, show_progress=show_progress
            )

    def _full_sort_batch_eval(self, batched_data: tuple[Any, ...]) -> tuple[Any, Any, Tensor, Tensor]:
        """The scores of a batch of users: the best items alone where the metrics need no more, else all of them."""
        if not self.eval_collector.top_alone:
            if not self._told:
                self._told = True
                self.logger.info(
                    "a metric needs the scores of all items (GAUC): evaluation holds users × items numbers, "
                    "lower eval_batch_size if they do not fit"
                )
            return cast(tuple[Any, Any, Tensor, Tensor], super()._full_sort_batch_eval(batched_data))
        interaction, history, positive_u, positive_i = batched_data
        users, fused = self.model.sides(interaction.to(self.device))
        if history is not None:
            history = tuple(part.to(users.device) for part in history)
        with torch.autocast(users.device.type, enabled=False):
            items = best_items(users, fused, max(self.config["topk"]), history)
        return interaction, TopItems(items, fused.shape[0]), positive_u, positive_i
