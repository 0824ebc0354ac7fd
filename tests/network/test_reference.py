"""The packed, shortened network against the plain reference: forward, gradients and the places of dropout."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import plain
from torch import Tensor

from network.models import (
    BOTH,
    Batch,
    golden,
    make_batch,
    make_network,
    make_present,
    our_parameter_name,
    part,
    published_names,
    published_parameters,
    reference_inputs,
    relative,
    small_config,
)
from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig, time_path
from recbole_mmm4rec.network import layers as blocks
from recbole_mmm4rec.network import network as network_module
from recbole_mmm4rec.network.ops.dropout import dropout
from recbole_mmm4rec.settings.rows.network import ROWS

DROPOUTS = {"embedding_drop_prob": 0.12, "dropout_prob": 0.25, "time_dropout_prob": 0.38}
GAP_SEEDS = {"text.gaps": 1.0, "image.gaps": 2.0}

# name: (settings, modalities, whether items miss modalities)
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...], bool]] = {
    "one-layer": ({}, BOTH, False),
    "two-layers": ({"num_layers": 2}, BOTH, False),
    "three-layers": ({"num_layers": 3}, BOTH, False),
    "two-groups": ({"n_groups": 2}, BOTH, False),
    "one-group": ({"n_groups": 1}, BOTH, False),
    "group-per-head": ({"n_groups": 6}, BOTH, False),
    "even-length": ({"max_len": 10}, BOTH, False),
    "width-2-convolution": ({"d_conv": 2, "num_layers": 2}, BOTH, False),
    "width-1-convolution": ({"d_conv": 1}, BOTH, False),
    "convolution-as-long-as-the-history": ({"d_conv": 9}, BOTH, False),
    "no-time": ({"is_time": False, "num_layers": 2}, BOTH, False),
    "no-ffn": ({"is_ffn": False, "num_layers": 2}, BOTH, False),
    "without-id": ({"is_modality_bias": False}, BOTH, False),
    "gate-per-position": ({"p2p_residual": True, "num_layers": 2}, BOTH, False),
    "dynamic-shared": ({"item_mm_fusion": "dynamic_shared"}, BOTH, False),
    "dynamic-instance": ({"item_mm_fusion": "dynamic_instance"}, BOTH, False),
    "mamba-skip": ({"d_skip": "mamba", "num_layers": 2}, BOTH, False),
    "without-filter": ({"ablation": "filter", "num_layers": 2}, BOTH, False),
    "without-filter-or-time": ({"ablation": "filter", "is_time": False}, BOTH, False),
    "without-sharing": ({"ablation": "sharing", "num_layers": 2}, BOTH, False),
    "without-alignment": ({"ablation": "alignment", "num_layers": 2}, BOTH, True),
    "without-cross": ({"ablation": "cross", "num_layers": 2}, BOTH, False),
    "zero-stamp": ({"time_padding": "zero_stamp", "num_layers": 2}, BOTH, False),
    "large-eps": ({"norm_eps": 0.1}, BOTH, False),
    "missing": ({"num_layers": 2}, BOTH, True),
    "missing-without-id": ({"is_modality_bias": False}, BOTH, True),
    "missing-dynamic-shared": ({"item_mm_fusion": "dynamic_shared"}, BOTH, True),
    "missing-dynamic-instance": ({"item_mm_fusion": "dynamic_instance"}, BOTH, True),
    "text-alone": ({"num_layers": 2}, ("text",), False),
    "image-alone": ({"num_layers": 2, "p2p_residual": True}, ("image",), False),
    "text-alone-missing": ({"item_mm_fusion": "dynamic_shared"}, ("text",), True),
    "image-alone-missing-no-time": ({"is_time": False, "d_skip": "mamba"}, ("image",), True),
}


def test_every_word_of_a_setting_is_among_the_cases() -> None:
    elsewhere = ("ssd_backend",)  # every backend runs every case
    for row in ROWS:
        seen = {changes.get(row.name, row.default) for changes, _, _ in CASES.values()}
        assert row.name in elsewhere or not row.kind.choices or seen == set(row.kind.choices), row.name


def value_dependent_dropout(x: Tensor, p: float, seed: float) -> Tensor:
    """Dropout whose mask follows from the values: the layout of a batch and the order of places play no part.

    Wild enough to look random, tame enough that the last bits of a float64 do not tip it.
    """
    noise = torch.frac(torch.sin(seed + 12.9898 * x.detach()) * 43.758).abs()
    return torch.where(noise >= p, x / (1 - p), 0)


def reference_dropout(x: Tensor, p: float, place: str) -> Tensor:
    """The hook of the reference; text and image draw their own dropout of the same gaps."""
    return value_dependent_dropout(x, p, GAP_SEEDS.get(place, 1.0))


class NetworkDropout:
    """In place of the network's dropout: the nth (B, L) tensor is the nth stream's gaps."""

    def __init__(self, gaps_shape: tuple[int, int], modalities: tuple[str, ...]) -> None:
        self.gaps_shape = gaps_shape
        self.waiting = [GAP_SEEDS[f"{modality}.gaps"] for modality in modalities]

    def __call__(self, x: Tensor, p: float, training: bool) -> Tensor:
        assert training
        return value_dependent_dropout(x, p, self.waiting.pop(0) if x.shape == self.gaps_shape else 1.0)


def weighted_sum(users: Tensor, scores: Tensor) -> Tensor:
    """A number that depends on every user and score alike; the padding column is left out."""
    total = torch.zeros((), dtype=users.dtype)
    for values in (users, scores[:, 1:]):
        weight = torch.cos(torch.arange(values.numel(), dtype=users.dtype)).view_as(values)
        total = total + (weight * values).sum()
    return total


def replace_dropout(monkeypatch: pytest.MonkeyPatch, stand_in: Callable[[Tensor, float, bool], Tensor]) -> None:
    """Let every dropout of the network be ``stand_in``."""
    for module in (blocks, network_module, time_path):
        monkeypatch.setattr(module, "dropout", stand_in)


def assert_equals_reference(
    network: MMM4RecNetwork, batch: Batch, present: dict[str, Tensor] | None, dropout: plain.Dropout = plain.no_dropout
) -> None:
    """User vectors and scores within 1e-9 of the largest, every gradient within 1e-9 of its norm."""
    modalities = network.items.modalities
    params, settings = reference_inputs(network)
    wanted_users = plain.user_vectors(
        params, settings, *batch.args(), present=present, modalities=modalities, dropout=dropout
    )
    wanted_scores = plain.scores(wanted_users, params, settings, present, modalities)
    weighted_sum(wanted_users, wanted_scores).backward()

    tables = network.items.tables()
    users = network.user_vectors(*batch.args(), tables)
    scores = network.scores(users, network.fused_items(tables))
    weighted_sum(users, scores).backward()

    assert relative(users, wanted_users) <= 1e-9
    assert relative(scores[:, 1:], wanted_scores[:, 1:]) <= 1e-9
    parameters = dict(network.named_parameters())
    largest = max(float(value.grad.norm()) for value in params.values() if value.grad is not None)
    for name, leaf in params.items():
        if not leaf.requires_grad:
            continue
        ours = parameters[our_parameter_name(name)].grad
        found = torch.zeros_like(leaf) if ours is None else ours.reshape(leaf.shape)
        wanted = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        if "item_embedding_bias" in name:  # the padding row is no candidate of ours
            found, wanted = found[1:], wanted[1:]
        error = float((found - wanted).norm())
        assert error <= 1e-9 * float(wanted.norm()) + 1e-13 * largest, f"gradient of {name}: {error:.2e}"


@pytest.mark.parametrize("backend", ["torch", "recurrence"])
@pytest.mark.parametrize("case", CASES)
def test_network_equals_reference(case: str, backend: str) -> None:
    changes, modalities, some_missing = CASES[case]
    config = small_config(**changes, ssd_backend=backend)
    present = make_present(modalities) if some_missing else None
    assert_equals_reference(make_network(config, modalities, present), make_batch(config.max_len), present)


@pytest.mark.parametrize("backend", ["torch", "numba", "recurrence"])
@pytest.mark.parametrize("lengths", [[80, 3, 64, 65, 1], [130, 66, 2, 100], [40, 7]], ids=str)
@pytest.mark.parametrize("modalities", [BOTH, ("text",)], ids="-".join)
def test_long_histories_equal_reference(modalities: tuple[str, ...], lengths: list[int], backend: str) -> None:
    """Above 64 positions other code runs: scan and convolutions, of tokens and of time signals."""
    config = small_config(max_len=130 if 130 in lengths else 80, ssd_backend=backend)
    assert_equals_reference(make_network(config, modalities), make_batch(config.max_len, lengths), None)


@pytest.mark.parametrize(("longest", "lengths"), [(200, [200, 3, 150]), (1_000, [1_000])])
def test_histories_of_hundreds_equal_reference(longest: int, lengths: list[int]) -> None:
    network = make_network(small_config(max_len=longest))
    assert_equals_reference(network, make_batch(longest, lengths), None)


@pytest.mark.usefixtures("interpreter")
def test_long_histories_by_kernels_equal_reference() -> None:
    config = small_config(max_len=80, ssd_backend="mamba_ssm")
    network, batch = make_network(config, ("text",)), make_batch(config.max_len, [66, 3])
    params, settings = reference_inputs(network)
    wanted = plain.user_vectors(params, settings, *batch.args(), modalities=("text",))
    with torch.no_grad():
        assert relative(network.float().user_vectors(*batch.args()).double(), wanted) <= 1e-4


@pytest.mark.parametrize("case", CASES)
def test_dropout_is_where_the_reference_has_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, modalities, some_missing = CASES[case]
    config = small_config(**changes, **DROPOUTS)
    present = make_present(modalities) if some_missing else None
    network, batch = make_network(config, modalities, present).train(), make_batch(config.max_len)
    fake = NetworkDropout((len(batch.lengths), config.max_len), modalities)
    replace_dropout(monkeypatch, fake)
    assert_equals_reference(network, batch, present, reference_dropout)
    assert fake.waiting == [] or not config.is_time


def test_reference_tells_the_filters_apart() -> None:
    """The comparison above would notice exchanged filters: with its dropout the two time signals differ."""
    config = small_config(**DROPOUTS)
    network, batch = make_network(config), make_batch(config.max_len)
    params, settings = reference_inputs(network)
    exchanged = {
        name.replace("text_complex", "other")
        .replace("vision_complex", "text_complex")
        .replace("other", "vision_complex"): value
        for name, value in params.items()
    }
    right, wrong = (
        plain.user_vectors(p, settings, *batch.args(), dropout=reference_dropout) for p in (params, exchanged)
    )
    assert relative(wrong, right) > 1e-3


def test_every_dropout_probability_matters() -> None:
    """A hook that ignores one of the three probabilities changes the result: the masks above are not empty."""
    config = small_config(**DROPOUTS)
    network, batch = make_network(config), make_batch(config.max_len)
    params, settings = reference_inputs(network)
    whole = plain.user_vectors(params, settings, *batch.args(), dropout=reference_dropout)
    for key in DROPOUTS:
        less = plain.user_vectors(params, settings | {key: 0.0}, *batch.args(), dropout=reference_dropout)
        assert relative(less, whole) > 1e-3, key


def test_published_names_are_complete() -> None:
    """The helper that names the parameters knows exactly those of the published program."""
    config, tensors = golden()
    fields = {entry.name for entry in dataclasses.fields(NetworkConfig)}
    names = published_names(NetworkConfig(**{key: value for key, value in config.items() if key in fields}), BOTH)
    assert sorted(names) == sorted(part(tensors, "grad"))
    assert len(names) == len(set(names))


def test_every_parameter_has_a_published_name_and_a_gradient() -> None:
    """Nothing of the two-modality network is idle, so that every comparison of gradients above compares something."""
    config = small_config(num_layers=2, item_mm_fusion="dynamic_shared")
    network = make_network(config, present=make_present())
    assert len(published_parameters(network)) == len(list(network.parameters()))
    weighted_sum(*_users_and_scores(network, make_batch(config.max_len))).backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == []


def _users_and_scores(network: MMM4RecNetwork, batch: Batch) -> tuple[Tensor, Tensor]:
    users = network.user_vectors(*batch.args())
    return users, network.scores(users)


def test_real_dropout_draws_its_own_mask_for_each_stream_and_head(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(small_config(), time_dropout_prob=0.5)
    network, batch = make_network(config).train(), make_batch(config.max_len, [9] * 6)
    real = dropout
    calls: list[tuple[Tensor, Tensor]] = []

    def recording(x: Tensor, p: float, training: bool) -> Tensor:
        calls.append((x, real(x, p, training)))
        return calls[-1][1]

    replace_dropout(monkeypatch, recording)
    torch.manual_seed(5)
    network.user_vectors(*batch.args())
    gaps = [(x, y) for x, y in calls if x.shape == (6, 9)]
    assert len(gaps) == 2
    assert torch.equal(gaps[0][0], gaps[1][0])
    assert not torch.equal(gaps[0][1], gaps[1][1])
    rows = [(x, y) for x, y in calls if x.shape == (6, 6, 9)]
    assert len(rows) == 5  # the scale's and the gate's, of text and of image, and Cross-SSD's scale
    first_signal, dropped = rows[0]
    assert torch.equal(first_signal[:, 0], first_signal[:, 1])  # the same gaps for every head,
    kept = dropped != 0
    assert not torch.equal(kept[:, 0], kept[:, 1])  # each with a mask of its own
    assert 0.3 < float(kept.float().mean()) < 0.7


def test_training_without_dropout_equals_evaluation() -> None:
    config = small_config(num_layers=2, embedding_drop_prob=0.0, dropout_prob=0.0, time_dropout_prob=0.0)
    network, batch = make_network(config), make_batch(config.max_len)
    assert torch.equal(network.train()(*batch.args()), network.eval()(*batch.args()))


def test_evaluation_drops_nothing() -> None:
    config, batch = small_config(num_layers=2), make_batch(9)
    bare = dataclasses.replace(config, embedding_drop_prob=0.0, dropout_prob=0.0, time_dropout_prob=0.0)
    assert torch.equal(make_network(config)(*batch.args()), make_network(bare)(*batch.args()))
    assert not torch.equal(make_network(config).train()(*batch.args()), make_network(bare)(*batch.args()))
