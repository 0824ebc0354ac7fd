"""Row-wise gradients and steps of the ID tables: the dense ones where rows have gradients, nothing elsewhere."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from network.models import make_batch, make_network, small_config
from pattern_shop import prepared
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from watching import Watch

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.losses.cross_entropies import in_batch_cross_entropy
from recbole_mmm4rec.training import optim
from recbole_mmm4rec.training.row_wise import clippable

pytestmark = pytest.mark.usefixtures("own_folder")

LEARNERS = [("adam", False), ("adamw", False), ("nadam", False), ("nadam", True)]


def pair(learner: str, decoupled: bool, rows: int = 12) -> list[tuple[list[nn.Parameter], torch.optim.Optimizer]]:
    """A table and a vector with the dense optimiser, and again with the row-wise one."""
    draw = torch.Generator().manual_seed(0)
    table, vector = torch.randn(rows, 3, generator=draw), torch.randn(4, generator=draw)
    made = []
    for row_wise in (False, True):
        weights = [nn.Parameter(table.clone()), nn.Parameter(vector.clone())]
        groups = [{"params": weights[:1], "weight_decay": 0.1}, {"params": weights[1:], "weight_decay": 0.0}]
        made.append((weights, optim.build_optimizer(groups, learner, 0.05, decoupled, row_wise)))
    return made


def backward(weights: list[nn.Parameter], rows: Tensor, targets: Tensor, sparse: bool) -> None:
    (F.embedding(rows, weights[0], sparse=sparse) - targets).pow(2).sum().backward()
    weights[1].pow(2).sum().backward()


@pytest.mark.parametrize(("learner", "decoupled"), LEARNERS)
def test_equals_the_dense_optimiser_where_every_row_has_a_gradient(learner: str, decoupled: bool) -> None:
    """To 1e-6: rows named several times are summed in another order."""
    draw = torch.Generator().manual_seed(1)
    optimisers = pair(learner, decoupled)
    for _ in range(6):
        rows = torch.cat([torch.randperm(12, generator=draw), torch.randint(12, (5,), generator=draw)])
        targets = torch.randn(17, 3, generator=draw)
        for sparse, (weights, optimizer) in zip((False, True), optimisers, strict=True):
            optimizer.zero_grad()
            backward(weights, rows, targets, sparse)
            assert weights[0].grad is not None
            assert weights[0].grad.is_sparse == sparse
            optimizer.step()
    for dense, row_wise in zip(optimisers[0][0], optimisers[1][0], strict=True):
        torch.testing.assert_close(row_wise, dense, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("learner", "decoupled"), LEARNERS)
def test_rows_without_a_gradient_stay_as_they_are(learner: str, decoupled: bool) -> None:
    """Neither momentum nor decay moves them, and their running means wait; steps count for all."""
    _, (weights, optimizer) = pair(learner, decoupled)
    start = weights[0].detach().clone()
    for rows in (torch.tensor([2, 5, 5]), torch.tensor([5, 7])):
        before, held = weights[0].detach().clone(), copy.deepcopy(optimizer.state[weights[0]])
        optimizer.zero_grad()
        backward(weights, rows, torch.zeros(len(rows), 3), sparse=True)
        optimizer.step()
        moved = (weights[0].detach() != before).any(1)
        assert moved.nonzero().flatten().tolist() == sorted(set(rows.tolist()))
        for name, value in optimizer.state[weights[0]].items():
            if held and value.dim() == 2:
                changed = (value != held[name]).any(1)
                assert changed.nonzero().flatten().tolist() == sorted(set(rows.tolist()))
    assert torch.equal(weights[0][[0, 1, 3, 4, 6, 8, 9, 10, 11]], start[[0, 1, 3, 4, 6, 8, 9, 10, 11]])
    assert float(optimizer.state[weights[0]]["step"]) == 2


@pytest.mark.parametrize("learner", ["adam", "nadam"])
def test_a_step_makes_nothing_of_the_table_s_height(learner: str) -> None:
    """After the first step, which makes the running means, whatever the height of the table."""
    _, (weights, optimizer) = pair(learner, True, rows=5_000)
    rows = torch.tensor([7, 4_999, 7, 12])
    made = []
    for _ in range(2):
        optimizer.zero_grad()
        with Watch() as watch:
            backward(weights, rows, torch.zeros(4, 3), sparse=True)
            clippable(iter(weights))
            optimizer.step()
        made.append(watch)
    assert made[0].largest() == 15_000
    assert made[1].largest() <= 16


def test_the_norm_of_sparse_gradients_is_that_of_the_dense_ones() -> None:
    norms, kept = [], []
    for sparse in (False, True):
        weights, _ = pair("adam", False)[sparse]
        backward(weights, torch.tensor([3, 1, 3, 3]), torch.ones(4, 3), sparse)
        norms.append(nn.utils.clip_grad_norm_(clippable(iter(weights)), 0.7))
        kept.append([weight.grad.to_dense() if weight.grad.is_sparse else weight.grad for weight in weights])
    assert norms[1] == pytest.approx(float(norms[0]), rel=1e-6)
    for dense, row_wise in zip(*kept, strict=True):
        torch.testing.assert_close(row_wise, dense)
    assert float(nn.utils.get_total_norm(kept[1])) == pytest.approx(0.7, rel=1e-4)


def test_a_scaler_unscales_and_leaves_out_overflows() -> None:
    (dense, plain), (rows, sparse) = pair("nadam", True)
    for factor, moves in ((1.0, True), (float("inf"), False)):
        before = rows[0].detach().clone()
        for weights, optimizer, is_sparse in ((dense, plain, False), (rows, sparse, True)):
            scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
            optimizer.zero_grad()
            loss = F.embedding(torch.arange(12), weights[0], sparse=is_sparse).pow(2).sum() * factor
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        assert bool((rows[0] != before).any()) == moves
        torch.testing.assert_close(rows[0], dense[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("learner", "decoupled"), LEARNERS)
def test_a_checkpoint_goes_on_under_either_optimiser(learner: str, decoupled: bool) -> None:
    rows = torch.arange(12)
    optimisers = pair(learner, decoupled)
    for sparse, (weights, optimizer) in zip((False, True), optimisers, strict=True):
        backward(weights, rows, torch.ones(12, 3), sparse)
        optimizer.step()
    (dense, plain), (row_wise, sparse_one) = optimisers
    saved = copy.deepcopy((plain.state_dict(), sparse_one.state_dict()))
    assert saved[0]["param_groups"] == saved[1]["param_groups"]
    plain.load_state_dict(saved[1])
    sparse_one.load_state_dict(saved[0])
    for sparse, (weights, optimizer) in zip((False, True), optimisers, strict=True):
        optimizer.zero_grad()
        backward(weights, rows, torch.zeros(12, 3), sparse)
        optimizer.step()
    torch.testing.assert_close(row_wise[0], dense[0], rtol=1e-6, atol=1e-6)


def test_a_schedule_sets_the_rate_of_rows() -> None:
    _, (weights, optimizer) = pair("adamw", False)
    schedule = LambdaLR(optimizer, lambda step: 0.0 if step == 0 else 1.0)
    before = weights[0].detach().clone()
    for moves in (False, True):
        optimizer.zero_grad()
        backward(weights, torch.tensor([1]), torch.zeros(1, 3), sparse=True)
        optimizer.step()
        schedule.step()
        assert bool((weights[0] != before).any()) == moves


@pytest.mark.parametrize("fusion", ["static", "dynamic_instance"])
def test_histories_and_candidates_share_one_sparse_gradient(fusion: str) -> None:
    gradients = []
    for row_wise in (False, True):
        network = make_network(small_config(item_mm_fusion=fusion))
        network.items.row_wise = row_wise
        batch = make_batch(9)
        labels = torch.tensor([3, 3, 21, 8, 1, 2, 17, 5])
        fused = network.items.fused(network.items.vectors(labels), labels)
        users = network.user_vectors(*batch.args())
        full = torch.zeros(24, 12, dtype=users.dtype).index_put((labels,), fused)
        in_batch_cross_entropy(users, full, labels).backward()
        tables = [*network.items.bias.values(), *([network.items.fusion] if network.items.fusion is not None else [])]
        assert all(table.grad.is_sparse == row_wise for table in tables)
        if row_wise:
            touched = set(batch.item_seq[batch.item_seq > 0].tolist()) | set(labels.tolist())
            for table in network.items.bias.values():
                assert set(table.grad.coalesce().indices()[0].tolist()) == touched
        gradients.append([table.grad.to_dense() if row_wise else table.grad for table in tables])
    for dense, sparse in zip(*gradients, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-12)


# In a training.


def test_the_first_step_of_a_training_is_the_dense_one(tmp_path: Path) -> None:
    """ID tables are zero at the start, so that rows without a gradient stay under both; accumulated and clipped."""
    changes = {"loss_type": "in_batch", "accumulation_steps": 99, "clip_grad_norm": {"max_norm": 0.1}, "shuffle": False}
    weights = []
    for row_wise in (False, True):
        run = prepared(tmp_path, row_wise_ids=row_wise, **changes)
        run.model.double()
        run.trainer._train_epoch(run.train, 0)
        assert run.model.network.items.bias["text"].grad.is_sparse == row_wise
        weights.append(run.model.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_type": "in_batch"},
        {"loss_type": "in_batch", "enable_amp": True},
        {"loss_type": "sampled", "sampled_uniform": 20},
        {"loss_type": "CE", "loss_chunk": 8, "row_wise_ids": True},  # sparse from histories, dense from all items
    ],
    ids=str,
)
def test_row_wise_training_learns(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = prepared(tmp_path, epochs=10, learning_rate=0.02, lr_schedule="linear", **changes)
    assert run.trainer.row_wise
    run.trainer.fit(run.train, run.valid, saved=False)
    assert run.trainer.evaluate(run.test, load_best_model=False)["hit@1"] >= 0.8  # chance is 1 / 30


def test_a_resumed_training_goes_on_row_by_row(tmp_path: Path) -> None:
    changes = {"loss_type": "in_batch", "epochs": 2, "shuffle": False}
    whole = prepared(tmp_path, **changes)
    whole.trainer._train_epoch(whole.train, 0)
    whole.trainer._save_checkpoint(0, verbose=False)
    whole.trainer._train_epoch(whole.train, 1)
    resumed = prepared(tmp_path, **changes)
    resumed.trainer.resume_checkpoint(whole.trainer.saved_model_file)
    resumed.trainer._train_epoch(resumed.train, 1)
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], weight, msg=name)


def test_frozen_tables_take_no_step(tmp_path: Path) -> None:
    run = prepared(tmp_path, loss_type="in_batch", epochs=1)
    table = run.model.network.items.bias["text"].requires_grad_(False)
    run.trainer.optimizer = run.trainer._build_optimizer()
    run.trainer._train_epoch(run.train, 0)
    assert table.grad is None
    assert not table.any()
    assert run.model.network.items.bias["image"].any()


def test_the_gradient_is_sparse_where_few_rows_are_touched(tmp_path: Path) -> None:
    for loss, sparse in (("sampled", True), ("in_batch", True), ("CE", False)):
        run = prepared(tmp_path, loss_type=loss, sampled_uniform=2)
        run.trainer._train_epoch(run.train, 0)
        assert all(table.grad.is_sparse == sparse for table in run.model.network.items.bias.values())


@pytest.mark.parametrize(
    ("loss", "wanted", "alone", "chosen"),
    [
        ("CE", "auto", True, False),
        ("in_batch", "auto", True, True),
        ("sampled", None, True, True),
        ("sampled", "auto", False, False),
        ("CE", True, True, True),
        ("in_batch", False, True, False),
    ],
)
def test_the_choice(loss: str, wanted: Any, alone: bool, chosen: bool) -> None:
    assert optim.row_wise_choice({"row_wise_ids": wanted, "loss_type": loss, "single_spec": alone}) == chosen


def test_several_processes_cannot_have_it() -> None:
    with pytest.raises(UserError, match=r"row_wise_ids: True .* nproc"):
        optim.row_wise_choice({"row_wise_ids": True, "loss_type": "in_batch", "single_spec": False})
