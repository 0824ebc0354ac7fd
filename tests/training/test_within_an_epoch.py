"""Trainings that are broken off inside an epoch, or in a validation, and end as the undisturbed ones, bit for bit."""

from __future__ import annotations

import math
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from breaking import KilledError
from pattern_shop import NAME, pattern_settings, write_pattern_shop
from shop import GRAPH, settings, write_graph, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.checkpoints.run_files import RunFiles
from recbole_mmm4rec.distributed import group
from recbole_mmm4rec.run.build import Run, build, make_config
from recbole_mmm4rec.settings.homes import RIVALS
from recbole_mmm4rec.training.observers import Observer, Training
from recbole_mmm4rec.training.places import Processes

pytestmark = pytest.mark.usefixtures("own_folder")

OFTEN = {"checkpoint_every_minutes": 1e-9, "resume": True, "stopping_step": 100}
"""A checkpoint after every step."""
DROPS = {"dropout_prob": 0.2, "embedding_drop_prob": 0.2, "time_dropout_prob": 0.2, "train_batch_size": 32, "epochs": 3}
CE = {"train_neg_sample_args": None}


def ours(folder: Path, **changes: Any) -> Run:
    if not (folder / NAME).exists():
        write_pattern_shop(folder)
    return build(make_config("MMM4Rec", NAME, config_dict=pattern_settings(folder, **changes)), count_flops=False)


def recboles(folder: Path, model: str, **changes: Any) -> Run:
    if not (folder / "shop").exists():
        write_shop(folder)
    given = settings(folder, **{"epochs": 3, "train_batch_size": 64, **changes})
    return build(make_config(model, "shop", config_dict=given), count_flops=False)


def rival(folder: Path, model: str, **changes: Any) -> Run:
    if not (folder / NAME).exists():
        write_pattern_shop(folder)
    given = {"hidden_size": 16, "train_batch_size": 32, "epochs": 3, "use_gpu": False, **changes}
    places = {"data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "show_progress": False}
    return build(make_config(model, NAME, config_dict={**places, **given}), count_flops=False)


WAYS: dict[str, Any] = {
    "MMM4Rec": lambda folder, **changes: ours(folder, **DROPS, **changes),
    "averaged": lambda folder, **changes: ours(folder, **DROPS, weight_average=0.9, **changes),
    "accumulated": lambda folder, **changes: ours(
        folder, **DROPS, accumulation_steps=2, lr_schedule="cosine", **changes
    ),
    "users": lambda folder, **changes: ours(folder, **DROPS, train_unit="user", row_wise_ids=True, **changes),
    "sampled": lambda folder, **changes: ours(folder, **DROPS, loss_type="sampled", **changes),
    "pre-training": lambda folder, **changes: ours(folder, **DROPS, stage="pretrain", **changes),
    "SASRec": lambda folder, **changes: recboles(folder, "SASRec", **CE, **changes),
    **{name: lambda folder, name=name, **changes: rival(folder, name, **changes) for name in RIVALS},
    "GRU4Rec": lambda folder, **changes: recboles(folder, "GRU4Rec", **CE, **changes),
    "BERT4Rec": lambda folder, **changes: recboles(folder, "BERT4Rec", **CE, **changes),
    "BPR": lambda folder, **changes: recboles(folder, "BPR", **changes),
    "LightGCN": lambda folder, **changes: recboles(folder, "LightGCN", **changes),
}


class Breaking(Observer):
    """Does something after so many steps, or so many validations, of this process."""

    def __init__(self, what: Any, steps: int = -1, validations: int = -1) -> None:
        self.what, self.steps, self.validations = what, steps, validations

    def stepped(self, training: Training) -> None:
        self.steps -= 1
        if self.steps == 0:
            self.what()

    def validated(self, training: Training, score: float, result: dict[str, Any]) -> None:
        self.validations -= 1
        if self.validations == 0:
            self.what()


def die() -> None:
    raise KilledError


def trained(run: Run, *breaks: Observer) -> Run:
    for one in breaks:
        run.trainer.training.add(one)
    run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    return run


def outcome(run: Run) -> tuple[Any, ...]:
    """What must not differ: metrics, losses, the test and the files of the best model without their times."""
    trainer = run.trainer
    metrics = [(entry.epoch, entry.result, entry.loss) for entry in trainer.valid_history]
    weights = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    test = trainer.evaluate(run.test) if run.test else None
    best = read(trainer.saved_model_file)
    return metrics, dict(trainer.train_loss_dict), test, best["epoch"], best["state_dict"], weights


def assert_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert one[:4] == other[:4]
    for mine, theirs in zip(one[4:], other[4:], strict=True):
        assert mine.keys() == theirs.keys()
        for name, weight in mine.items():
            assert torch.equal(weight, theirs[name]), name


@pytest.mark.parametrize("way", WAYS)
def test_broken_off_anywhere_it_ends_as_the_undisturbed_one(tmp_path: Path, way: str) -> None:
    make = WAYS[way]
    whole = trained(make(tmp_path / "whole"))
    steps = len(whole.train)
    accumulated = 2 if way == "accumulated" else 1
    breaks = [{"steps": 1}, {"steps": 2}, {"validations": 1}, {"steps": max(1, steps // accumulated - 1)}]
    for one in breaks:
        with pytest.raises(KilledError):
            trained(make(tmp_path / "broken", **OFTEN), Breaking(die, **one))
    run = trained(make(tmp_path / "broken", **OFTEN))
    assert run.trainer.start_epoch > 0
    assert_same(outcome(run), outcome(whole))
    again = trained(make(tmp_path / "broken", **OFTEN))  # nothing is left to train
    assert again.trainer.training.epoch == whole.trainer.training.epoch


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("MultiVAE", {"total_anneal_steps": 9, "train_batch_size": 8, **CE}),
        ("DiffRec", {"history_num_per_term": 2, "steps": 2, "noise_scale": 0.1, "train_batch_size": 8, **CE}),
        ("SGL", {}),
        ("LINE", {}),
    ],
)
def test_what_else_a_model_counts_or_draws(tmp_path: Path, model: str, changes: dict[str, Any]) -> None:
    """Annealing, losses of the past, a graph that is drawn when the training mode is switched on."""
    whole = trained(recboles(tmp_path / "whole", model, **changes))
    for validations in (1, 2):
        with pytest.raises(KilledError):
            trained(recboles(tmp_path / "broken", model, **changes, **OFTEN), Breaking(die, validations=validations))
    run = trained(recboles(tmp_path / "broken", model, **changes, **OFTEN))
    assert run.trainer.start_epoch > 0
    assert_same(outcome(run), outcome(whole))
    for name, value in run.model.other_parameter().items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(getattr(whole.model, name))), name


def on_graph(folder: Path, model: str, **changes: Any) -> Run:
    if not (folder / "shop").exists():
        write_shop(folder)
        write_graph(folder)
    given = {"load_col": GRAPH, "kg_embedding_size": 8, "epochs": 4, "train_batch_size": 64, **changes}
    return build(make_config(model, "shop", config_dict=settings(folder, **given)), count_flops=False)


@pytest.fixture
def without_dgl(monkeypatch: pytest.MonkeyPatch) -> None:
    """KGAT asks DGL for its first attention alone, which here is the same for all."""

    def init_graph(self: Any) -> torch.Tensor:
        places = torch.stack([self.all_hs, self.all_ts])
        return torch.sparse.softmax(torch.sparse_coo_tensor(places, torch.ones(len(self.all_hs)), self.matrix_size), 1)

    monkeypatch.setitem(sys.modules, "dgl", SimpleNamespace(graph=lambda _: SimpleNamespace(edata={})))
    monkeypatch.setattr("recbole.model.knowledge_aware_recommender.KGAT.init_graph", init_graph)


@pytest.mark.usefixtures("without_dgl")
@pytest.mark.parametrize("model", ["CFKG", "CKE", "KGAT", "KGCN", "KGNNLS", "KTUP", "MKR"])
def test_a_training_on_a_graph_goes_on_after_an_epoch(tmp_path: Path, model: str) -> None:
    """Its loader is made of two, each with an order of its own."""
    whole = outcome(trained(on_graph(tmp_path / "whole", model)))  # some draw random numbers in a test
    with pytest.raises(KilledError):
        trained(on_graph(tmp_path / "broken", model, **OFTEN), Breaking(die, validations=2))
    run = trained(on_graph(tmp_path / "broken", model, **OFTEN))
    assert run.trainer.start_epoch == 1
    assert_same(outcome(run), whole)


def interrupt(number: int) -> Any:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("moment", [{"steps": 2}, {"validations": 2}], ids=["step", "validation"])
@pytest.mark.parametrize("resume", [True, None], ids=["kept", "plain"])
def test_ctrl_c_writes_a_checkpoint(tmp_path: Path, moment: dict[str, int], resume: bool | None) -> None:
    """Also of a training that would have written none; in a validation the epoch before it is not lost."""
    whole = trained(WAYS["averaged"](tmp_path / "whole"))
    run = WAYS["averaged"](tmp_path / "broken", resume=resume)
    with pytest.raises(KeyboardInterrupt):
        trained(run, Breaking(interrupt(signal.SIGINT), **moment))
    note = read(RunFiles(run.config).last)
    place = note["steps"]["batches"]
    assert (note["epoch"], place) == ((-1, 3) if "steps" in moment else (0, len(run.train)))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = trained(WAYS["averaged"](tmp_path / "broken", resume=True))
    assert_same(outcome(again), outcome(whole))


def test_a_step_is_ended_before_the_interruption(tmp_path: Path) -> None:
    run = ours(tmp_path, **DROPS, resume=True)
    step = run.trainer._step

    def interrupted(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    run.trainer._step = interrupted
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: (heard.append(number), die()))
    try:
        with pytest.raises(KilledError):
            trained(run)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert read(RunFiles(run.config).last)["steps"]["batches"] == 1


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    run = ours(tmp_path, **DROPS, resume=True)

    def interrupted(*args: Any) -> Any:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it waited")

    run.trainer._step = interrupted
    with pytest.raises(KeyboardInterrupt):
        trained(run)
    assert not RunFiles(run.config).last.exists()


def poisoned(run: Run, numbers: set[int], value: float = math.nan) -> Run:
    """A run whose loss is not a number at some batches, counted from 0 over all epochs."""
    loss, seen = run.model.calculate_loss, iter(range(10**6))
    run.model.calculate_loss = lambda batch: loss(batch) * (value if next(seen) in numbers else 1.0)
    return run


@pytest.mark.parametrize("way", ["MMM4Rec", "accumulated", "SASRec"])
def test_a_loss_that_is_no_number_stops(tmp_path: Path, way: str) -> None:
    run = poisoned(WAYS[way](tmp_path), {1})
    with torch.no_grad():
        name, weight = next(iter(run.model.named_parameters()))
        weight.view(-1)[0] = math.nan
    with pytest.raises(UserError, match=r"the loss of batch \d of epoch 1 is not a number; neither are") as caught:
        trained(run)
    told = str(caught.value)
    assert name in told
    assert "\n" not in told
    (file,) = (tmp_path / "saved").glob("*-nan-epoch1-batch*")
    assert str(file) in told
    assert "item_id_list" in read(file)["interaction"]


@pytest.mark.parametrize("way", ["MMM4Rec", "accumulated", "SASRec"])
def test_where_parameters_are_none_either_nothing_is_left_out(tmp_path: Path, way: str) -> None:
    run = WAYS[way](tmp_path, nan_policy="skip")
    with torch.no_grad():
        for weight in run.model.parameters():
            weight.fill_(math.inf)
    with pytest.raises(UserError, match=r"neither are parameters: .*; lower learning_rate, set clip_grad_norm$"):
        trained(run)


def test_an_epoch_of_which_every_batch_is_left_out_has_a_loss(tmp_path: Path) -> None:
    run = trained(poisoned(recboles(tmp_path, "SASRec", **CE, epochs=1, nan_policy="skip"), set(range(10**3))))
    assert [entry.loss for entry in run.trainer.valid_history] == [0.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("way", ["MMM4Rec", "accumulated", "SASRec"])
def test_such_a_batch_can_be_left_out(tmp_path: Path, way: str, value: float) -> None:
    run = trained(poisoned(WAYS[way](tmp_path, nan_policy="skip"), {1, 2}, value))
    assert len(run.trainer.valid_history) == 3
    assert all(torch.isfinite(weight).all() for weight in run.model.parameters())
    assert all(math.isfinite(entry.loss) for entry in run.trainer.valid_history)
    assert len(list((tmp_path / "saved").glob("*-nan-*"))) == 2


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("way", ["MMM4Rec", "accumulated", "SASRec"])
def test_the_batch_that_is_named_is_the_wrong_one(tmp_path: Path, way: str, saved: bool) -> None:
    """Within a group of batches, and where no place in the epoch is kept (``saved=False``: a trial of a search)."""
    run = poisoned(WAYS[way](tmp_path / "stop"), {1})
    with pytest.raises(UserError, match="the loss of batch 2 of epoch 1 is not a number; all parameters are numbers"):
        run.trainer.fit(run.train, run.valid, verbose=False, saved=saved, show_progress=False)
    run = poisoned(WAYS[way](tmp_path / "skip", nan_policy="skip"), {0, 1, 2})
    run.trainer.fit(run.train, run.valid, verbose=False, saved=saved, show_progress=False)
    files = sorted((tmp_path / "skip" / "saved").glob("*-nan-*"))
    assert [file.stem.split("-nan-")[1] for file in files] == [f"epoch1-batch{number}" for number in (1, 2, 3)]
    assert len({tuple(read(file)["interaction"]["item_id"].tolist()) for file in files}) == 3


def test_a_place_in_the_epoch_counts_for_the_name_of_a_batch(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        trained(WAYS["accumulated"](tmp_path, **OFTEN), Breaking(die, steps=1))  # two batches
    with pytest.raises(UserError, match="the loss of batch 4 of epoch 1 is not a number"):
        trained(poisoned(WAYS["accumulated"](tmp_path, **OFTEN), {1}))


@pytest.mark.parametrize(
    ("then", "world", "mean", "sums"),
    [
        ([6.0], 2, 6.0, 3.0),
        ([2.0, 4.0], 1, 3.0, 6.0),
        ([2.0, None], 3, 1.0, 2 / 3),
        ([(2.0, 4.0), (6.0, 8.0)], 4, (4.0, 6.0), (2.0, 3.0)),
        ([None], 2, None, None),
    ],
)
def test_another_number_of_processes_shares_the_sum_of_losses(
    monkeypatch: pytest.MonkeyPatch, then: list[Any], world: int, mean: Any, sums: Any
) -> None:
    """So that the epoch reports what it would have: MMM4Rec's trainer a mean over processes, RecBole's a sum."""
    monkeypatch.setattr(group, "world", lambda: world)
    state = None if len(then) == 1 else [{"random": None, "loss": loss} for loss in then]
    for trainer, wanted in ((SimpleNamespace(reports_mean_loss=True), mean), (SimpleNamespace(), sums)):
        taken: list[Any] = []
        steps = SimpleNamespace(loss=lambda: then[0], take_loss=taken.append)
        trainer.training = SimpleNamespace(steps=steps)
        Processes(trainer).load_state_dict(state)
        assert taken == [pytest.approx(wanted) if wanted is not None else None]


def test_what_is_left_of_a_group_weighs_as_if_it_were_alone(tmp_path: Path) -> None:
    """The last batch is smaller, so that shares count."""
    run = ours(tmp_path, train_batch_size=32, accumulation_steps=3, nan_policy="skip", enable_amp=False)
    trainer = run.trainer
    first, second, third = list(run.train)[-3:]
    assert len(third) < len(first)
    run.model.eval()  # no dropout
    losses = iter([1.0, math.nan, 1.0])

    def gradients(group: list[Any], loss_func: Any) -> dict[str, torch.Tensor]:
        trainer.optimizer.zero_grad()
        trainer._gradients(group, loss_func)
        grads = {name: weight.grad for name, weight in run.model.named_parameters() if weight.grad is not None}
        return {name: grad.to_dense().clone() for name, grad in grads.items()}

    loss = run.model.calculate_loss
    kept = gradients([first, second, third], lambda batch: loss(batch) * next(losses))
    alone = gradients([first, third], loss)
    assert kept.keys() == alone.keys()
    for name, grad in alone.items():
        torch.testing.assert_close(kept[name], grad)


def test_a_trainer_with_a_check_of_its_own_is_asked(tmp_path: Path) -> None:
    """As RecBole's loop asks it; what it lets pass goes on, whatever nan_policy says."""
    run = poisoned(recboles(tmp_path, "SASRec", **CE, epochs=1), {1})
    seen: list[bool] = []
    run.trainer._check_nan = lambda loss: seen.append(bool(torch.isnan(loss)))
    trained(run)
    assert seen[:2] == [False, True]
    assert not list((tmp_path / "saved").glob("*-nan-*"))
