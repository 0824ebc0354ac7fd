"""Two processes with half a batch each do what one process does with the whole."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from breaking import KilledError
from pair import Pair, place, trained
from pattern_shop import NAME, pattern_settings, write_pattern_shop
from recbole.data.interaction import Interaction
from shop import settings, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compat import distributed as repairs
from recbole_mmm4rec.compat.loading import FrugalRandomSampler
from recbole_mmm4rec.distributed import batches, group, joint
from recbole_mmm4rec.run import quick_start
from recbole_mmm4rec.run.build import build, make_config
from recbole_mmm4rec.training.observers import Observer, Training

METRICS = {
    "metrics": ["Hit", "NDCG", "ItemCoverage", "GiniIndex"],
    "topk": [1, 5],
    "valid_metric": "NDCG@5",
    "metric_decimal_place": 9,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    write_pattern_shop(folder)
    write_shop(folder)
    return folder


@pytest.fixture(scope="module")
def pair(home: Path) -> Iterator[Pair]:
    processes = Pair(home)
    yield processes
    processes.close()


def both(pair: Pair, model: str, dataset: str, changed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results of one process, and of process 0 of two, which must agree with the other one's."""
    alone = trained(model, dataset, dict(changed))
    first, second = pair(trained, model, dataset, dict(changed))
    for key in ("losses", "valid", "test", "file"):
        assert first[key] == second[key]
    for name, weight in first["weights"].items():
        np.testing.assert_array_equal(weight, second["weights"][name])
    return alone, first


def assert_same_training(alone: dict[str, Any], together: dict[str, Any]) -> None:
    np.testing.assert_allclose(together["losses"], alone["losses"], rtol=2e-5)
    for name, weight in together["weights"].items():
        np.testing.assert_allclose(weight, alone["weights"][name], rtol=0, atol=2e-3)
    for ours, theirs in zip([*together["valid"], together["test"]], [*alone["valid"], alone["test"]], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


# 136 training samples: batches of 29 leave 20, of 64 leave 8, of 135 leave one sample for two processes
@pytest.mark.parametrize(
    "changes",
    [
        {"loss_type": "CE", "train_batch_size": 29, "neighbour_weight": 3.0},
        {"loss_type": "CE", "train_unit": "user", "accumulation_steps": 3},
        {"loss_type": "in_batch", "mask_false_negatives": True, "train_batch_size": "all but one"},
        {"loss_type": "in_batch", "clip_grad_norm": {"max_norm": 0.5}},
        {"loss_type": "sampled", "sampled_uniform": 0, "accumulation_steps": 2},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_our_model_trains_as_in_one_process(pair: Pair, home: Path, changes: dict[str, Any]) -> None:
    samples = len(
        build(make_config("MMM4Rec", NAME, config_dict=pattern_settings(home)), count_flops=False).train._dataset
    )
    size = changes.get("train_batch_size", 64)
    changes = {**METRICS, **changes, "train_batch_size": samples - 1 if size == "all but one" else size}
    changed = pattern_settings(home, epochs=2, learner="adam", row_wise_ids="auto", **changes)
    changed["learning_rate"] = 1e-3
    alone, together = both(pair, "MMM4Rec", NAME, {**changed, "row_wise_ids": False})
    assert_same_training(alone, together)


@pytest.mark.parametrize(
    ("model", "own"),
    [
        ("SASRec", {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "n_heads": 1, "train_batch_size": 37}),
        ("GRU4Rec", {"dropout_prob": 0.0, "train_batch_size": 64, "neighbour_weight": 3.0}),
        ("Neighbours", {}),
        ("Pop", {}),
    ],
)
def test_a_stock_model_trains_as_in_one_process(pair: Pair, home: Path, model: str, own: dict[str, Any]) -> None:
    alone, together = both(pair, model, "shop", settings(home, **{**METRICS, "epochs": 2, **own}))
    assert_same_training(alone, together)


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_metrics_are_those_of_one_process_with_the_same_weights(pair: Pair, home: Path, model: str) -> None:
    """These models draw negative items, in each process others, so that no training equals another."""
    metrics = [*METRICS["metrics"], "GAUC", "Recall"]  # type: ignore[misc]
    first, second = pair(
        trained, model, "shop", settings(home, **{**METRICS, "metrics": metrics, "train_batch_size": 64})
    )
    assert first["test"] == second["test"]
    assert first["losses"] == second["losses"]
    config, net, _, _, _, test = quick_start.load_data_and_model(first["file"])
    from recbole.trainer import Trainer

    trainer = Trainer(config, net)
    trainer.eval_collector.data_collect(test)
    assert dict(trainer.evaluate(test, load_best_model=False)) == pytest.approx(first["test"], abs=1e-6)
    assert first["random"] != second["random"]  # dropout and sampled items are others in each process
    assert first["tensorboard"] is not None
    assert second["tensorboard"] is None


class Breaking(Observer):
    """Breaks a training off after so many steps of this process."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def stepped(self, training: Training) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise KilledError


def broken(model: str, dataset: str, changed: dict[str, Any], steps: int) -> None:
    """A training of a pair that ends after so many steps, with nothing written but what had been written by then."""
    run = build(make_config(model, dataset, config_dict={**changed, **place()}), count_flops=False)
    run.trainer.training.add(Breaking(steps))
    with pytest.raises(KilledError):
        run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)


@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec"])
def test_broken_off_anywhere_a_pair_ends_as_the_undisturbed_one(pair: Pair, home: Path, model: str) -> None:
    """With dropout, which each process draws for itself; to the last bit."""
    ours = {"dropout_prob": 0.2, "embedding_drop_prob": 0.2, "weight_average": 0.9}
    changes: dict[str, Any] = {**METRICS, "epochs": 2, "train_batch_size": 64, "stopping_step": 100}
    if model == "MMM4Rec":
        name, changed = NAME, pattern_settings(home, **ours, **changes)
    else:
        name, changed = "shop", settings(home, train_neg_sample_args=None, **changes)
    whole = pair(trained, model, name, {**changed, "checkpoint_dir": str(home / f"whole-{model}")})
    again = {**changed, "checkpoint_dir": str(home / f"broken-{model}"), "resume": True}
    for steps in (2, 2):  # in the first epoch, and in the second
        pair(broken, model, name, {**again, "checkpoint_every_minutes": 1e-9}, steps)
    for one, other in zip(pair(trained, model, name, again), whole, strict=True):
        for key in ("losses", "valid", "test", "random"):
            assert one[key] == other[key], key
        for key, weight in one["weights"].items():
            np.testing.assert_array_equal(weight, other["weights"][key])


def poisoned(changed: dict[str, Any]) -> tuple[str, int, list[float]]:
    """A training whose loss is no number on process 1 at one batch: what is told, files of batches, weights."""
    given = {**changed, **place(), "checkpoint_dir": f"{changed['checkpoint_dir']}-{group.rank()}"}
    model = given.pop("model")
    run = build(make_config(model, given.pop("dataset"), config_dict=given), count_flops=False)
    loss, seen = run.model.calculate_loss, iter(range(10**6))
    run.model.calculate_loss = lambda batch: loss(batch) * (math.nan if next(seen) == 1 and group.rank() else 1.0)
    told = ""
    try:
        run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    except UserError as error:
        told = str(error)
    found = len(list(Path(given["checkpoint_dir"]).glob("*-nan-*")))
    return told, found, torch.cat([weight.detach().flatten() for weight in run.model.parameters()]).tolist()


@pytest.mark.parametrize("policy", ["skip", "stop"])
@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec"])
def test_all_processes_stop_or_leave_a_batch_out_together(pair: Pair, home: Path, model: str, policy: str) -> None:
    changes: dict[str, Any] = {"epochs": 1, "train_batch_size": 64, "nan_policy": policy}
    if model == "MMM4Rec":
        changed = {**pattern_settings(home, **changes), "dataset": NAME}
    else:
        changed = {**settings(home, train_neg_sample_args=None, **changes), "dataset": "shop"}
    (told, files, weights), (other_told, other_files, other_weights) = pair(
        poisoned, {**changed, "model": model, "checkpoint_dir": str(home / f"nan-{model}-{policy}")}
    )
    assert (files, other_files) == (0, 1)
    assert weights == other_weights
    assert np.isfinite(weights).all()
    if policy == "skip":
        assert told == other_told == ""
    else:
        assert "the loss of batch 2 of epoch 1 is not a number" in other_told
        assert told == other_told


def refusal(changed: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        build(make_config("SASRec", "one", config_dict={**changed, **place()}), count_flops=False)
    return str(caught.value)


def test_more_processes_than_users_are_refused(pair: Pair, home: Path) -> None:
    """A process without users would leave the evaluation, and the others wait for it."""
    write_shop(home, "one", users=1)
    told = pair(refusal, settings(home))
    assert told == ["2 processes (nproc, world_size): an evaluation has 1 users; use fewer processes"] * 2


def bpr_gradients(changed: dict[str, Any], users: list[int]) -> tuple[float, np.ndarray]:
    """Loss and gradient of RecBole's BPR on a batch, of which each process has its part."""
    run = build(make_config("BPR", "shop", config_dict={**changed, **place()}), count_flops=False)
    part = torch.tensor(users).tensor_split(group.world())[group.rank()]
    batch = Interaction({"user_id": part, "item_id": part % 7 + 1, "neg_item_id": part % 5 + 8})
    if not len(part):
        part = torch.tensor(users[:1])
        batch = Interaction({"user_id": part, "item_id": part, "neg_item_id": part, batches.STAND_IN: part})
    loss = joint.own_share(run.model.calculate_loss, torch.device("cpu"))(batch)
    (loss + (joint.sum_after_backward(run.model, torch.device("cpu")) if group.active() else 0.0)).backward()
    return group.total(loss.item()), run.model.item_embedding.weight.grad.numpy()


@pytest.mark.parametrize("users", [[1, 2, 3, 4, 5, 6, 7], [3]])
def test_the_gradient_is_the_mean_over_the_joint_batch(pair: Pair, home: Path, users: list[int]) -> None:
    loss, gradient = bpr_gradients(settings(home), users)
    for part_loss, part_gradient in pair(bpr_gradients, settings(home), users):
        assert part_loss == pytest.approx(loss, rel=1e-6)
        np.testing.assert_allclose(part_gradient, gradient, atol=1e-7)


def gathered_rows(count: int) -> tuple[list[float], list[float]]:
    """What rows of both processes, 3 and ``count``, become, and their gradients for weights that differ by process."""
    own = [3, count][group.rank()]
    rows = (torch.arange(max(own, 1)).float() + 10 * group.rank()).requires_grad_()
    with joint.batch_of([3, count]):
        every = joint.rows_of_all(rows)
    (every * torch.arange(1.0, len(every) + 1) * (1 + group.rank())).sum().backward()
    assert rows.grad is not None
    return every.tolist(), rows.grad.tolist()


@pytest.mark.parametrize("count", [2, 0])
def test_rows_of_all_processes_carry_gradients(pair: Pair, count: int) -> None:
    (every, first), (same, second) = pair(gathered_rows, count)
    assert every == same == [0.0, 1.0, 2.0, 10.0, 11.0][: 3 + count]
    assert first == [3.0, 6.0, 9.0]  # (1 + 2) times the weight, one part of it from each process
    assert second == ([12.0, 15.0] if count else [0.0])


def unused_gradients() -> tuple[bool, list[float]]:
    """Gradients of a parameter that nobody uses, and of one that process 1 alone uses."""
    nobody, one = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    if group.rank() == 1:
        (one * 3).sum().backward()
    joint.sum_gradients([nobody, one])
    assert one.grad is not None
    return nobody.grad is None, one.grad.tolist()


def test_a_parameter_that_one_process_uses_moves_in_all(pair: Pair) -> None:
    assert pair(unused_gradients) == [(True, [3.0, 3.0])] * 2


def sparse_gradient() -> str:
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(UserError) as caught:
        joint.sum_gradients(table.parameters())
    return str(caught.value)


def test_sparse_gradients_are_refused(pair: Pair) -> None:
    assert pair(sparse_gradient)[0].startswith("sparse gradients cannot be summed over several processes")


def told() -> Any:
    return group.same({"a": [torch.arange(3), None], "b": (1.5, "x")} if group.is_main() else None)


def test_tensors_reach_all_processes(pair: Pair) -> None:
    for value in pair(told):
        assert (value["a"][0].tolist(), value["a"][1], value["b"]) == ([0, 1, 2], None, (1.5, "x"))


@pytest.mark.parametrize("size", [0, 1, 5, 12, 13])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_parts_of_a_batch_are_the_batch(size: int, parts: int) -> None:
    def order(part: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(3)
        sampler = batches.JointBatches(size, 4, (part, parts), generator)
        found = [*sampler, *sampler]  # the generator goes on in a second epoch
        assert len(found) == 2 * len(sampler)
        return [[] if isinstance(numbers, batches.StandIn) else numbers for numbers in found]

    together = [list(chain(*pieces)) for pieces in zip(*(order(part) for part in range(parts)), strict=True)]
    if not size:
        assert together == []
        return
    generator = torch.Generator().manual_seed(3)
    sampler = FrugalRandomSampler(range(size), generator=generator)
    alone = [number for _ in range(2) for number in sampler]
    assert list(chain(*together)) == alone
    assert [len(batch) for batch in together[: -(-size // 4)]] == [min(4, size - at) for at in range(0, size, 4)]


@pytest.mark.parametrize(("size", "parts"), [(7, 2), (7, 3), (1, 2), (0, 2), (8, 4)])
def test_each_user_is_evaluated_once(size: int, parts: int) -> None:
    found = [list(batches.OwnUsers(size, 4, (part, parts))) for part in range(parts)]
    assert [user for part in found for batch in part for user in batch] == list(range(size))
    assert all(len(part) == len(batches.OwnUsers(size, 4, (at, parts))) for at, part in enumerate(found))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"gpu_id": "0", "use_gpu": False}, []),
        ({"gpu_id": "", "use_gpu": True}, []),
        ({"gpu_id": "0", "use_gpu": True}, ["0", "1"]),
    ],
)
def test_gpus_are_one_a_process(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], found: list[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert repairs._gpus(given, 2, chosen=False) == found


def test_too_few_gpus_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(UserError, match=r"nproc=2: .* there are 1 \(gpu_id\)"):
        repairs._gpus({"gpu_id": "3", "use_gpu": True}, 2, chosen=True)
    assert repairs._gpus({"gpu_id": (5, 3), "use_gpu": True}, 2, chosen=True) == ["5", "3"]


def test_chosen_gpus_are_named_before_anything_looks_at_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUDA sees is settled at the first look."""
    seen: list[str] = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    repairs._gpus({"gpu_id": (5, 3), "use_gpu": True}, 2, chosen=True)
    repairs._gpus({"gpu_id": "0", "use_gpu": True}, 2, chosen=False)
    assert seen == ["5,3", "5,3"]
