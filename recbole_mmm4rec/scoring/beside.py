"""Neighbours beside any sequential model: what is counted in training is added where a trained model scores.

RecBole's ``SequentialRecommender`` is the one place: every class made of it, RecBole's own, ours and a user's, adds
what :mod:`.neighbours` counts in its ``full_sort_predict`` and ``predict``, and so in validation, test, sampled
evaluation and case studies. Losses are not touched, nor are negative items that a model chooses for its own training.
Nothing is added by a model that has not been trained on its data set: it does not know what was taken together there.

The sum has a meaning where scores are logits. Of a model trained with the cross-entropy over all items (``loss_type:
CE``), exp(score) is proportional to the probability p(j) that j is next, and

    score(j) + λ · log(1 + n(j) / 0.1)    is that of    p(j) · (1 + n(j) / 0.1)^λ, normalised again:

λ is the same exponent for SASRec and for MMM4Rec, whatever the size of their vectors. Other losses (BPR) and scores
that are probabilities or distances (RepeatNet, TransRec) have other scales and need another λ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.settings.registry import PARTS

if TYPE_CHECKING:  # they import PyTorch and SciPy, which a look at the settings does not need
    from torch import Tensor

    from recbole_mmm4rec.scoring.neighbours import Addition, Counts

DEFAULTS = {row.name: row.default for row in PARTS["Neighbours"]}
"""Settings of every sequential model."""

ALONE = "Neighbours"
"""The model that is nothing but the counts."""


def named(model: str, settings: Mapping[str, Any]) -> str:
    """What a row of a table is called, so that nobody takes what the counts bring for the model's.

    Args:
        model: name of the model.
        settings: its settings.
    """
    return f"{model} + neighbours" if settings.get("neighbour_weight") and model != ALONE else model


class Beside:
    """The counts beside one model, made when they are first asked for.

    Args:
        dataset: the training data set.
        window, decay, weight: as for :class:`~recbole_mmm4rec.scoring.neighbours.Counts`.
    """

    def __init__(self, dataset: Any, window: int, decay: float, weight: float) -> None:
        self._of = (dataset, window, decay, weight)

    @classmethod
    def of(cls, config: Any, dataset: Any) -> Beside | None:
        """What ``neighbour_weight`` of a configuration wants beside a model; None for 0."""
        weight = float(config["neighbour_weight"] or 0)
        if not weight:
            return None
        return cls(dataset, int(config["neighbour_window"]), float(config["neighbour_decay"]), weight)

    @cached_property
    def counts(self) -> Counts:
        """The counts."""
        from recbole_mmm4rec.scoring.neighbours import Counts

        return Counts(*self._of)

    def __deepcopy__(self, memo: dict[int, Any]) -> Beside:
        return self  # nobody changes it


def install(module: ModuleType) -> None:
    """Let every class made of RecBole's ``SequentialRecommender`` score with the neighbours that its settings want."""
    base = module.SequentialRecommender
    base.beside, base.has_trained, base._scores_alone = None, False, False
    base.addition, base.other_parameter = addition, _other_parameter(base.other_parameter)
    base.__init__ = _with_neighbours(base.__init__)

    def __init_subclass__(cls: type, **kwargs: Any) -> None:  # noqa: N807  it takes the place of that method
        super(base, cls).__init_subclass__(**kwargs)
        _add_to(cls)

    base.__init_subclass__ = classmethod(__init_subclass__)
    waiting = base.__subclasses__()
    while waiting:  # of an earlier import
        known = waiting.pop()
        _add_to(known)
        waiting += known.__subclasses__()


def addition(self: Any, interaction: Any) -> Addition | None:
    """What the neighbours of its histories add to the scores of a batch.

    Args:
        self: the model.
        interaction: a batch.

    Returns:
        None with ``neighbour_weight: 0``, and of a model that has not been trained.
    """
    if self.beside is None or not self.has_trained:
        return None
    users, histories, lengths = (interaction[field] for field in (self.USER_ID, self.ITEM_SEQ, self.ITEM_SEQ_LEN))
    found: Addition = self.beside.counts.addition(users, histories, lengths)
    return found


def _with_neighbours(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def __init__(self: Any, config: Any, dataset: Any) -> None:  # noqa: N807  it takes the place of that method
        original(self, config, dataset)
        self.beside = Beside.of(config, dataset)

    return __init__


def _other_parameter(original: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    @wraps(original)
    def other_parameter(self: Any) -> dict[str, Any]:
        """What a checkpoint holds beside the weights: with neighbours also whether the model has been trained."""
        noted = {} if self.beside is None else {"has_trained": self.has_trained}
        return {**(original(self) or {}), **noted}

    return other_parameter


def _add_to(cls: type) -> None:
    """Change the methods that a class defines itself; what it inherits is changed where it is defined."""
    changes = {"full_sort_predict": _full_sort_predict, "predict": _predict, "calculate_loss": _calculate_loss}
    for name, change in changes.items():
        if name in vars(cls):
            setattr(cls, name, change(vars(cls)[name]))


@contextmanager
def alone(model: Any) -> Iterator[None]:
    """Within it a model scores without neighbours; also what keeps a method that calls another from adding twice."""
    before, model._scores_alone = model._scores_alone, True
    try:
        yield
    finally:
        model._scores_alone = before


def _full_sort_predict(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(original)
    def full_sort_predict(self: Any, interaction: Any, *args: Any, **kwargs: Any) -> Tensor:
        if self._scores_alone:
            return original(self, interaction, *args, **kwargs)
        with alone(self):
            scores = original(self, interaction, *args, **kwargs)
        found = self.addition(interaction)
        if found is None:
            return scores
        rows = scores.clone().view(len(interaction), -1)  # a model may keep what it has returned
        found.add_to(rows)
        return rows.view_as(scores)

    return full_sort_predict


def _predict(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(original)
    def predict(self: Any, interaction: Any, *args: Any, **kwargs: Any) -> Tensor:
        if self._scores_alone:
            return original(self, interaction, *args, **kwargs)
        with alone(self):
            scores = original(self, interaction, *args, **kwargs)
        if self.beside is None or not self.has_trained:
            return scores
        first, row = _distinct(self, interaction)
        values = self.addition(first).at(row, interaction[self.ITEM_ID])
        return scores + values.to(scores).view_as(scores)

    return predict


def _distinct(model: Any, interaction: Any) -> tuple[Any, Tensor]:
    """The different histories of a batch, and which of them each row has; sampled evaluations repeat each one."""
    import torch

    users, histories, lengths = (interaction[field] for field in (model.USER_ID, model.ITEM_SEQ, model.ITEM_SEQ_LEN))
    keys = torch.cat([users.unsqueeze(1), lengths.unsqueeze(1), histories], 1)
    _, row, size = torch.unique_consecutive(keys, dim=0, return_inverse=True, return_counts=True)
    return interaction[size.cumsum(0) - size], row


def _calculate_loss(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def calculate_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.has_trained = True
        return original(self, *args, **kwargs)

    return calculate_loss


def draw_negatives_alone(module: ModuleType) -> None:
    """Let a model choose the negative items of its own training (``dynamic``) by its own scores."""
    loader = module.NegSampleDataLoader
    original = loader._neg_sampling

    @wraps(original)
    def _neg_sampling(self: Any, inter_feat: Any) -> Any:
        model = getattr(self, "model", None)
        if model is None or not hasattr(model, "beside"):
            return original(self, inter_feat)
        with alone(model):
            return original(self, inter_feat)

    loader._neg_sampling = _neg_sampling


def settle_settings(module: ModuleType) -> None:
    """Let RecBole's configuration know the settings of neighbours, and refuse them where there can be none."""
    config_class = module.Config
    load, settle = config_class._load_internal_config_dict, config_class._set_default_parameters

    @wraps(load)
    def _load_internal_config_dict(self: Any, model: str, model_class: Any, dataset: str) -> None:
        load(self, model, model_class, dataset)
        if model_class.type.name == "SEQUENTIAL":
            self.internal_config_dict.update({**DEFAULTS, **self.internal_config_dict})

    @wraps(settle)
    def _set_default_parameters(self: Any) -> None:
        settle(self)
        _refuse(self.model, self.final_config_dict)

    config_class._load_internal_config_dict = _load_internal_config_dict
    config_class._set_default_parameters = _set_default_parameters


def _refuse(model: str, settings: Mapping[str, Any]) -> None:
    """Refuse neighbours where they would do nothing, or something else.

    Raises:
        UserError: the model has no histories, nothing beside the counts, or is judged by something else than ranks.
    """
    weight = settings.get("neighbour_weight") or 0
    if model == ALONE:
        if weight != 1:
            raise UserError(
                f"neighbour_weight={weight}: {ALONE} is the counts alone, with nothing beside to weigh them against; "
                "leave it out"
            )
    elif weight and settings["MODEL_TYPE"].name != "SEQUENTIAL":
        raise UserError(
            f"neighbour_weight={weight}: {model} is no sequential model and has no histories with neighbours; leave it "
            "out"
        )
    if weight and settings["eval_type"].name == "VALUE":
        raise UserError(
            f"neighbour_weight={weight}: it moves ranks, metrics={settings['metrics']} judge probabilities; leave it "
            "out, or take metrics of ranks such as Hit"
        )
