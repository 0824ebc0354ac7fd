"""The chunked cross-entropy against the one over all logits at once: value, gradients, memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from network.models import ITEMS, make_features, make_network, make_present, relative, small_config
from torch import Tensor
from watching import Watch

from recbole_mmm4rec.losses.chunked import PLAIN_LOGITS, choose_chunk, chunked_cross_entropy
from recbole_mmm4rec.losses.cross_entropies import full_cross_entropy
from recbole_mmm4rec.network.items import ItemTables
from recbole_mmm4rec.settings.registry import setting

WIDTH, BATCH = 12, 6


def make_items(modalities: tuple[str, ...] = ("text", "image"), missing: bool = True, **changes: Any) -> ItemTables:
    present = make_present(modalities) if missing else None
    return make_network(small_config(**changes), modalities, present).items


def make_users(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Users (6, D) with a gradient and labels: the first and the last item, and one twice."""
    draw = torch.Generator().manual_seed(1)
    users = torch.randn(BATCH, WIDTH, generator=draw, dtype=torch.float64)
    return users.to(dtype).requires_grad_(), torch.tensor([1, ITEMS, 7, 7, 4, 12])


def plain(users: Tensor, items: ItemTables, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    return full_cross_entropy(users, items.fused(items.tables()), labels, label_smoothing)


def gradients(loss: Tensor, users: Tensor, items: ItemTables) -> dict[str, Tensor]:
    """By name; zeros where there is none."""
    leaves = {"users": users, **dict(items.named_parameters())}
    leaves = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if part is None else part
        for (name, leaf), part in zip(leaves.items(), found, strict=True)
    }


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], bound: float) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        if value.any():
            assert relative(found[name], value) < bound, name
        else:
            assert not found[name].any(), name


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("fusion", setting("item_mm_fusion").kind.choices)
@pytest.mark.parametrize("modalities", [("text", "image"), ("text",), ("image",)])
def test_value_and_every_gradient_are_those_of_all_logits(
    modalities: tuple[str, ...], fusion: str, missing: bool
) -> None:
    users, labels = make_users()
    for ids in (True, False):
        items = make_items(modalities, missing, item_mm_fusion=fusion, is_modality_bias=ids)
        for label_smoothing in (0.0, 0.1):
            exact = plain(users, items, labels, label_smoothing)
            wanted = gradients(3.7 * exact, users, items)
            for chunk in (1, 5, ITEMS, 100):
                loss = chunked_cross_entropy(users, items, labels, chunk, label_smoothing)
                assert loss.item() == pytest.approx(exact.item(), rel=1e-12)
                assert_same(gradients(3.7 * loss, users, items), wanted, 1e-10)


@pytest.mark.parametrize("chunk", [1, 5, ITEMS, 100])
def test_items_that_are_not_trained_on_are_left_out(chunk: int) -> None:
    users, labels = make_users()
    items, rows, labels = make_items(("text", "image"), False), 9, labels.clamp(max=8)
    exact = full_cross_entropy(users, items.fused(items.tables())[:rows], labels, 0.1)
    wanted = gradients(exact, users, items)
    assert full_cross_entropy(users, items.fused(items.tables()), labels, 0.1, rows).item() == exact.item()
    loss = chunked_cross_entropy(users, items, labels, chunk, 0.1, rows)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-12)
    assert_same(gradients(loss, users, items), wanted, 1e-10)


def test_single_precision_to_a_millionth() -> None:
    items = make_items(item_mm_fusion="dynamic_instance").float()
    users, labels = make_users(torch.float32)
    wanted = gradients(plain(users, items, labels, 0.1), users, items)
    assert_same(gradients(chunked_cross_entropy(users, items, labels, 5, 0.1), users, items), wanted, 1e-6)


def test_the_gradient_is_the_slope() -> None:
    items = make_items(item_mm_fusion="dynamic_shared", is_modality_bias=False)
    users, labels = make_users()

    def loss(users: Tensor, *_: Tensor) -> Tensor:
        return chunked_cross_entropy(users, items, labels, 7, 0.1)

    assert torch.autograd.gradcheck(loss, (users, *items.parameters()), fast_mode=True)


@pytest.mark.parametrize("frozen", ["users", "bias", "adapter", "fusion", "missing", "items", "all"])
def test_frozen_parts_get_no_gradient_and_change_no_other(frozen: str) -> None:
    items = make_items(item_mm_fusion="dynamic_instance")
    users, labels = make_users()
    wanted = gradients(plain(users, items, labels, 0.1), users, items)
    users.requires_grad_(frozen not in ("users", "all"))
    for name, parameter in items.named_parameters():
        parameter.requires_grad_(not (frozen in ("items", "all") or name.startswith(frozen)))
    loss = chunked_cross_entropy(users, items, labels, 5, 0.1)
    assert loss.requires_grad == (frozen != "all")
    if frozen != "all":
        found = gradients(loss, users, items)
        assert len(found) < len(wanted)
        assert_same(found, {name: wanted[name] for name in found}, 1e-10)


def test_without_gradients_the_value_is_the_same() -> None:
    items, (users, labels) = make_items(), make_users()
    with torch.no_grad():
        loss = chunked_cross_entropy(users, items, labels, 5, 0.1)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain(users, items, labels, 0.1).detach())


def test_batches_accumulate() -> None:
    items, (users, labels) = make_items(), make_users()
    wanted = gradients(plain(users, items, labels), users, items)
    for rows in (slice(0, 2), slice(2, BATCH)):
        loss = chunked_cross_entropy(users[rows], items, labels[rows], 5)
        (loss * len(labels[rows]) / BATCH).backward()
    found = {"users": users.grad, **{name: parameter.grad for name, parameter in items.named_parameters()}}
    assert_same({name: value for name, value in found.items() if value is not None}, wanted, 1e-10)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
@pytest.mark.parametrize("fusion", ["static", "dynamic_instance"])
def test_mixed_precision(dtype: torch.dtype, bound: float, fusion: str) -> None:
    """As near to the truth as all logits at once in the same precision; the scale of a gradient scaler comes out."""
    items = make_items(item_mm_fusion=fusion).float()
    users, labels = make_users(torch.float32)
    truth = gradients(plain(users, items, labels, 0.1), users, items)
    losses: list[Callable[[], Tensor]] = [
        lambda: plain(users, items, labels, 0.1),
        lambda: chunked_cross_entropy(users, items, labels, 5, 0.1),
    ]
    found = []
    for make in losses:
        with torch.autocast("cpu", dtype):
            loss = make()
        assert loss.dtype == torch.float32
        found.append({name: part / 1024 for name, part in gradients(loss * 1024, users, items).items()})
    for name, value in truth.items():
        if value.any():
            theirs, ours = ((part[name] - value).norm() / value.norm() for part in found)
            assert ours < max(bound, 1.5 * theirs), name


def test_mixed_precision_leaves_autocast_s_weights_usable() -> None:
    """Copies of weights made in the first pass have no gradient; autocast would hand them to whoever asks next."""
    items, (users, labels) = make_items().float(), make_users(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = chunked_cross_entropy(users, items, labels, 5)
        later = items.vectors(torch.tensor([1, 2]))["text"].sum()
    weight = items.adapter["text"].weight
    assert torch.autograd.grad(later, weight)[0].any()
    assert torch.autograd.grad(loss, weight)[0].any()


def test_a_weight_changed_before_the_backward_pass_is_noticed() -> None:
    items, (users, labels) = make_items(), make_users()
    loss = chunked_cross_entropy(users, items, labels, 5)
    with torch.no_grad():
        items.bias["text"].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_large_scores_stay_finite() -> None:
    items, (users, labels) = make_items(), make_users()
    loss = chunked_cross_entropy(users * 1e4, items, labels, 5)
    assert loss.isfinite()
    assert all(part.isfinite().all() for part in gradients(loss, users, items).values())


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("fusion", ["static", "dynamic_instance"])
def test_nothing_as_large_as_the_catalogue_is_made_but_the_tables_own_gradients(ids: bool, fusion: str) -> None:
    count = 500
    config = small_config(is_modality_bias=ids, item_mm_fusion=fusion)
    items = ItemTables(config, make_features(items=count), make_present(items=count)).double()
    users, labels = make_users()
    with Watch() as watch:
        chunked_cross_entropy(users, items, labels, 20, 0.1).backward()
    rows = [(count + 1) * WIDTH] * 2 * ids + [(count + 1) * 2] * (fusion == "dynamic_instance")
    assert sorted(size for size in watch.sizes() if size >= count) == sorted(rows)
    with Watch() as watch:
        plain(users, items, labels, 0.1).backward()
    assert watch.largest() >= BATCH * count  # what the measure catches


def test_the_choice_of_a_chunk() -> None:
    assert choose_chunk(1024, 32_768, "cpu") == 0
    assert choose_chunk(1024, 32_769, "cpu") == 2048
    assert choose_chunk(1, PLAIN_LOGITS + 1, "cpu") == 2**21
    assert choose_chunk(100_000, 10_000, "cpu") == 256
    assert choose_chunk(1024, 10**6, "cuda") == 65_536
