"""The padded baseline computes what the network and the plain reference compute: no slower sum, no shorter way."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from network.models import (
    make_batch,
    make_features,
    make_network,
    our_parameter_name,
    published_parameters,
    reference_inputs,
    relative,
    small_config,
)
from reference import plain
from reference.padded import PaddedMMM4Rec
from torch.nn import functional as F

CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "one-layer": ({}, plain.TEXT_AND_IMAGE),
    "two-layers": ({"num_layers": 2}, plain.TEXT_AND_IMAGE),
    "no-time": ({"is_time": False}, plain.TEXT_AND_IMAGE),
    "no-ffn-without-id": ({"is_ffn": False, "is_modality_bias": False, "num_layers": 2}, plain.TEXT_AND_IMAGE),
    "two-groups": ({"n_groups": 2, "p2p_residual": True}, plain.TEXT_AND_IMAGE),
    "published-padding": ({"time_padding": "zero_stamp", "d_skip": "mamba"}, plain.TEXT_AND_IMAGE),
    "text-alone": ({"num_layers": 2}, ("text",)),
    "image-alone": ({}, ("image",)),
}


@pytest.mark.parametrize("case", CASES)
def test_padded_equals_network_and_plain(case: str) -> None:
    changes, modalities = CASES[case]
    network = make_network(small_config(**changes), modalities)
    batch = make_batch(network.config.max_len)
    labels = torch.arange(len(batch.lengths)) + 1
    padded = PaddedMMM4Rec(asdict(network.config), make_features(modalities)).double().eval()
    weights = {name: value.detach() for name, value in published_parameters(network).items() if "missing" not in name}
    padded.load_state_dict(weights)

    scores = padded(*batch.args())
    F.cross_entropy(scores, labels - 1).backward()
    wanted = network(*batch.args())[:, 1:]
    F.cross_entropy(wanted, labels - 1).backward()

    params, settings = reference_inputs(network)
    users = plain.user_vectors(params, settings, *batch.args(), modalities=modalities)
    assert relative(scores, wanted) <= 1e-9
    assert relative(scores, plain.scores(users, params, settings, None, modalities)[:, 1:]) <= 1e-9
    parameters = dict(network.named_parameters())
    for name, value in padded.named_parameters():
        ours = parameters[our_parameter_name(name)].grad
        assert (value.grad is None) == (ours is None), name
        if value.grad is not None and ours is not None:
            error = float((value.grad - ours.reshape(value.shape)).norm())
            assert error <= 1e-9 * float(ours.norm()) + 1e-15, f"gradient of {name}: {error:.2e}"


def test_dropout_falls_at_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the nth draw of dropout made visible, as many values are drawn as the plain reference has places."""
    drops: list[float] = []

    def counted(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        drops.append(p)
        return x

    places: list[tuple[float, str]] = []

    def noted(x: torch.Tensor, p: float, place: str) -> torch.Tensor:
        places.append((p, place))
        return x

    config = small_config(embedding_drop_prob=0.1, dropout_prob=0.2, time_dropout_prob=0.3, num_layers=2)
    network, batch = make_network(config), make_batch(config.max_len)
    params, settings = reference_inputs(network)
    plain.user_vectors(params, settings, *batch.args(), dropout=noted)
    monkeypatch.setattr(F, "dropout", counted)
    PaddedMMM4Rec(asdict(config), make_features()).train().user_vectors(*batch.args())
    assert sorted(drops) == sorted(p for p, _ in places)


def test_padded_refuses_what_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="static"):
        PaddedMMM4Rec(asdict(small_config(item_mm_fusion="dynamic_shared")), make_features())
