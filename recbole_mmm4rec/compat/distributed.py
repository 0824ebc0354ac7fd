"""Repairs of RecBole's training on several processes; without a group of processes none of them changes anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.distributed import batches, group, joint

_COLLECTED = ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label")
_NO_GRADIENTS = ("DECISIONTREE",)


def enter_group(module: ModuleType) -> None:
    """Start the group of processes on any device.

    Broken: ``Config._init_device`` (config/configurator.py:496) knows GPUs and nccl alone, stops with a bare
    ``AssertionError`` where ``gpu_id`` is left at its default, and cannot be started by ``torchrun`` (#1811, #1684).
    """
    original = module.Config._init_device

    @wraps(original)
    def _init_device(self: Any) -> None:
        settings = self.final_config_dict
        if "local_rank" not in settings:
            original(self)
            return
        if settings["MODEL_TYPE"].name in _NO_GRADIENTS:
            raise UserError(f"nproc={settings['nproc']}: {settings['model']} trains in one process; leave nproc at 1")
        local, count = int(settings["local_rank"]), int(settings["nproc"])
        gpus = _gpus(settings, count, "gpu_id" in self.external_config_dict)
        if gpus:
            settings["gpu_id"] = ",".join(gpus)
            torch.cuda.set_device(local)
        device = torch.device("cuda", local) if gpus else torch.device("cpu")
        settings.update(device=device, single_spec=False, local_rank=local)
        if not group.active():
            number = local + int(settings["offset"])
            address = None if settings.get("launched") == "torchrun" else f"{settings['ip']}:{settings['port']}"
            group.join(number, int(settings["world_size"]), device, address)
        if not group.is_main():
            settings.update(state="error", show_progress=False, log_wandb=False)

    module.Config._init_device = _init_device


def _gpus(settings: Any, count: int, chosen: bool) -> list[str]:
    """The GPUs of this machine's processes, one each; none for a training on the processor."""
    named = settings["gpu_id"]
    gpus = [part.strip() for part in (",".join(map(str, named)) if isinstance(named, tuple) else str(named)).split(",")]
    gpus = [gpu for gpu in gpus if gpu]
    if not settings["use_gpu"] or not gpus:
        return []
    if chosen:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)  # before the first look at the GPUs, which is for good
    if not torch.cuda.is_available():
        return []
    if not chosen:
        gpus = [str(number) for number in range(torch.cuda.device_count())]
    if len(gpus) < count:
        raise UserError(
            f"nproc={count}: each process needs a GPU of its own and there are {len(gpus)} (gpu_id); "
            "lower nproc, name more, or train on processors with --use_gpu=False"
        )
    return gpus[:count]


def split_batches(module: ModuleType) -> None:
    """Give each process its part of every batch, and of every evaluation's users.

    Broken: ``AbstractDataLoader.__init__`` (data/dataloader/abstract_dataloader.py:60) fills the processes' parts up
    with repeated samples, which count twice in losses and in metrics (#2154); with a batch size that the number of
    processes does not divide the joint batch is smaller than ``train_batch_size``.
    """
    kind = module.AbstractDataLoader
    original = kind.__init__

    @wraps(original)
    def __init__(self: Any, config: Any, dataset: Any, sampler: Any, shuffle: bool = False) -> None:  # noqa: N807
        if not group.active():
            original(self, config, dataset, sampler, shuffle=shuffle)
            return
        self.shuffle, self.config, self._dataset, self._sampler = shuffle, config, dataset, sampler
        self._batch_size = self.step = self.model = None
        self._init_batch_size_and_step()
        self.generator = torch.Generator()
        self.generator.manual_seed(config["seed"])
        self.transform = module.construct_transform(config)
        self.is_sequential = config["MODEL_TYPE"] == module.ModelType.SEQUENTIAL
        part = (group.rank(), group.world())
        order: batches.JointBatches | batches.OwnUsers
        if type(self).__name__ in ("FullSortEvalDataLoader", "NegSampleEvalDataLoader"):
            if 0 < self.sample_size < group.world():  # a process without any would not take part
                raise UserError(
                    f"{group.world()} processes (nproc, world_size): an evaluation has {self.sample_size} users; use "
                    "fewer processes"
                )
            order = batches.OwnUsers(self.sample_size, self.step, part)
        else:  # traditional models count in every process what they are shown
            part = (0, 1) if config["MODEL_TYPE"] == module.ModelType.TRADITIONAL else part
            order = batches.JointBatches(self.sample_size, self.step, part, self.generator if shuffle else None)
        super(kind, self).__init__(
            dataset=batches.Numbers(self.sample_size),
            batch_sampler=order,
            collate_fn=partial(batches.collated, self),
            num_workers=config["worker"],
            generator=self.generator,
        )
        vars(self)["sampler"] = order  # trainers tell it the epoch; PyTorch lets nobody set it

    kind.__init__ = __init__


def merge_evaluations(module: ModuleType) -> None:
    """Bring together on process 0 what the processes' users were recommended.

    Broken: ``Trainer._map_reduce`` (trainer/trainer.py:632) averages the processes' metrics, which is right for no
    metric but a mean, and weighs them by four for each batch instead of by users; a process without users stops.
    """
    original = module.Collector.get_data_struct

    @wraps(original)
    def get_data_struct(self: Any) -> Any:
        own = original(self)
        parts = group.gathered({key: own.get(key) for key in _COLLECTED if key in own})
        if parts is None:
            return None
        for key in {key for part in parts for key in part}:
            own.set(key, torch.cat([part[key] for part in parts if key in part]))
        return own

    module.Collector.get_data_struct = get_data_struct


def evaluate_once(module: ModuleType) -> None:
    """Compute the metrics on process 0, over all users, and tell the others.

    Broken: see :func:`merge_evaluations`.
    """
    original = module.Evaluator.evaluate

    @wraps(original)
    def evaluate(self: Any, dataobject: Any) -> Any:
        return group.same(original(self, dataobject) if group.is_main() else None)

    module.Evaluator.evaluate = evaluate


def train_jointly(module: ModuleType) -> None:
    """Make a step on several processes the step of one process with the joint batch.

    Broken: ``AbstractTrainer`` (trainer/trainer.py:62) wraps the model for GPUs alone and never calls the wrapper, but
    for a hook; each process's mean counts the same, however many samples it has; the loss that is shown is process
    0's; the names of checkpoints differ between the processes (#1811).
    """
    abstract, trainer = module.AbstractTrainer, module.Trainer
    first = abstract.__init__

    @wraps(first)
    def __init__(self: Any, config: Any, model: Any) -> None:  # noqa: N807  it takes the place of that method
        if not group.active():
            first(self, config, model)
            return
        self.config, self.model = config, model
        if config["device"].type == "cuda":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        group.share_weights(self.model)
        if not group.is_main():  # the weights are the same now, dropout and sampled items are to differ
            module_seed(config["seed"] + group.rank(), config["reproducibility"])

    from recbole.utils import init_seed as module_seed

    abstract.__init__ = __init__
    abstract.set_reduce_hook = lambda self: None
    abstract.sync_grad_loss = lambda self: joint.sum_after_backward(self.model, self.device)
    trainer._map_reduce = lambda self, result, num_sample: result
    for kind in (trainer, module.NCLTrainer):
        kind._train_epoch = _joint_epoch(kind._train_epoch)


def _joint_epoch(original: Callable[..., Any]) -> Callable[..., Any]:
    """An epoch whose losses are those of the joint batches."""

    @wraps(original)
    def _train_epoch(
        self: Any, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> Any:
        if not group.active():
            return original(self, train_data, epoch_idx, loss_func, show_progress)
        loss = joint.own_share(loss_func or self.model.calculate_loss, self.device)
        total = group.total(original(self, train_data, epoch_idx, loss, show_progress))
        if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in self.model.modules()):
            group.share_weights(self.model)  # on processors each one has statistics of its own
        return total

    return _train_epoch


def load_one_checkpoint(module: ModuleType) -> None:
    """Give checkpoints one name, and read the best model on process 0, which sends it to the others.

    Broken: ``Trainer.__init__`` (trainer/trainer.py:146) names a checkpoint by each process's clock, and
    ``Trainer.evaluate`` (trainer/trainer.py:583) reads on each process what process 0 has written.
    """
    trainer = module.Trainer
    first, evaluate = trainer.__init__, trainer.evaluate

    @wraps(first)
    def __init__(self: Any, config: Any, model: Any) -> None:  # noqa: N807  it takes the place of that method
        first(self, config, model)
        self.saved_model_file = group.same(self.saved_model_file)

    @wraps(evaluate)
    def evaluate_shared(
        self: Any, eval_data: Any, load_best_model: bool = True, model_file: Any = None, show_progress: bool = False
    ) -> Any:
        if load_best_model and eval_data and group.active():
            _load_once(self, module.torch, model_file or self.saved_model_file)
            load_best_model = False
        return evaluate(
            self, eval_data, load_best_model=load_best_model, model_file=model_file, show_progress=show_progress
        )

    trainer.__init__, trainer.evaluate = __init__, evaluate_shared


def _load_once(trainer: Any, torch_of_module: Any, file: Any) -> None:
    """Load a model on process 0, which sends it to the others: not all machines see the same files."""
    other: dict[str, Tensor] | None = None
    if group.is_main():
        checkpoint = torch_of_module.load(file, map_location=trainer.device)
        trainer.model.load_state_dict(checkpoint["state_dict"])
        other = checkpoint.get("other_parameter")
        trainer.logger.info("Loading model structure and parameters from %s", file)
    group.share_weights(trainer.model)
    trainer.model.load_other_parameter(group.same(other))
