"""Of RecBole's models, items that are held out of training are no wrong answers of a softmax over all items, either."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from recbole_mmm4rec.training.observers import Observer, Training


class HeldOutItems(Observer):
    """Leaves the last columns of logits out, while a training runs whose data set has ``trained_rows``.

    RecBole's models make an ``nn.CrossEntropyLoss`` of their own, some of them at each step, and give it the logits of
    all items. Models that write their softmax out (``RepeatNet``, the ``CPR`` ones) are left as they are.
    """

    place = "held out"

    def training_begins(self, training: Training) -> bool:
        """Watch every cross-entropy until ``fit`` is left."""
        dataset: Any = getattr(training.train_data, "_dataset", None)
        rows = getattr(dataset, "trained_rows", None)
        if rows is not None:
            count = dataset.item_num

            def leave_out(module: nn.Module, given: tuple[Any, ...]) -> Any:
                if not isinstance(module, nn.CrossEntropyLoss):
                    return None
                logits: Tensor = given[0]
                return (logits[:, :rows], *given[1:]) if logits.dim() == 2 and logits.shape[1] == count else None

            training.left.callback(register_module_forward_pre_hook(leave_out).remove)
        return False
