"""Published checkpoints: what is accepted, and what is said about one that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from network.models import golden, make_batch, part
from reference import plain
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.transfer.published import network_from_published

Weights = dict[str, Tensor]


def published() -> tuple[Weights, dict[str, Any]]:
    config, tensors = golden()
    return part(tensors, "model"), config


def scores_of(network: MMM4RecNetwork) -> Tensor:
    with torch.no_grad():
        return network(*make_batch(10, items=37).args())


def refusal(weights: Weights, config: dict[str, Any], **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        network_from_published(weights, config, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_checkpoint_with_its_weights_under_model() -> None:
    weights, config = published()
    wrapped = network_from_published({"model": weights, "epoch": 3}, config)
    assert torch.equal(scores_of(wrapped), scores_of(network_from_published(weights, config)))
    assert not wrapped.training


def test_weights_are_copies() -> None:
    weights, config = published()
    network = network_from_published(weights, config)
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
    assert weights["text_adapter.0.weight"].any()


def test_our_defaults_hold_where_the_configuration_is_silent() -> None:
    weights, config = published()
    network = network_from_published(weights, config)
    assert (network.config.time_padding, network.config.d_skip) == ("masked", "scaled")
    stamped = network_from_published(weights, config | {"time_padding": "zero_stamp"})
    assert stamped.config.time_padding == "zero_stamp"
    assert not torch.equal(scores_of(stamped), scores_of(network))


def test_features_beside_a_state_dict_that_leaves_them_out() -> None:
    weights, config = published()
    features = {"text": weights["text_embedding"], "image": weights["vision_embedding"]}
    bare = {name: value for name, value in weights.items() if name not in ("text_embedding", "vision_embedding")}
    wanted = scores_of(network_from_published(weights, config))
    assert torch.equal(scores_of(network_from_published(bare, config, features)), wanted)
    # the state dict's own tables come first
    others = {name: torch.zeros_like(table) for name, table in features.items()}
    assert torch.equal(scores_of(network_from_published(weights, config, others)), wanted)
    message = refusal(bare, config)
    assert "text_embedding" in message
    assert "features=" in message


def test_text_alone() -> None:
    weights, config = published()
    names = ("text_", "encoder_ssd_layers.", "layer_norm_time.")
    text = {name: value for name, value in weights.items() if name.startswith(names)}
    network = network_from_published(text, config)
    assert network.items.modalities == ("text",)
    settings = config | {"time_padding": "masked", "d_skip": "scaled"}
    users = plain.user_vectors(text, settings, *make_batch(10, items=37).args(), modalities=("text",))
    wanted = plain.scores(users, text, settings, modalities=("text",))
    torch.testing.assert_close(scores_of(network)[:, 1:], wanted[:, 1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("fusion", "shape"), [("dynamic_shared", (2,)), ("dynamic_instance", (38, 2))])
def test_fusion_factors_are_taken(fusion: str, shape: tuple[int, ...]) -> None:
    weights, config = published()
    factors = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    network = network_from_published(weights | {"fusion_factor": factors}, config | {"item_mm_fusion": fusion})
    assert torch.equal(network.items.fusion, factors)
    assert "fusion_factor is (), not" in refusal(weights, config | {"item_mm_fusion": fusion})


@pytest.mark.parametrize("shape", [(2,), (38, 2)])
def test_learned_fusion_factors_are_not_thrown_away_by_static_fusion(shape: tuple[int, ...]) -> None:
    weights, config = published()
    assert "fusion_factor" in refusal(weights | {"fusion_factor": torch.ones(shape)}, config)


def test_everything_that_does_not_fit_is_in_one_message() -> None:
    weights, config = published()
    del weights["text_in_layer_norm.bias"]
    del weights["decoder_ssd_layers.0.co_complex_weight.0.imag.bias"]
    weights["encoder_ssd_layers.0.attention.weight"] = torch.zeros(2)
    weights["bert.pooler"] = torch.zeros(2)
    weights["encoder_ssd_layers.0.ffn.fc1.weight"] = torch.zeros(47, 32)
    weights["decoder_ssd_layers.0.ssd.A_log"] = weights["decoder_ssd_layers.0.ssd.A_log"] + 1
    message = refusal(weights, config)
    for words in (
        "missing (our names): ",
        "input_norm.text.bias",
        "filter.joint.imag.bias",
        "left over: ",
        "encoder_ssd_layers.0.attention.weight",
        "bert.pooler",
        "of another shape: encoder_ssd_layers.0.ffn.fc1.weight is (47, 32), not (48, 32)",
        "shared weights that differ: ",
        "decoder_ssd_layers.0.ssd.A_log",
    ):
        assert words in message
    assert "fc1" not in message.split("left over")[0]  # of another shape, hence not missing as well


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 2}, "missing (our names): cross_layers.1."),
        ({"is_time": False}, "left over: "),
        ({"is_ffn": False}, "left over: "),
        ({"is_modality_bias": False}, "text_item_embedding_bias"),
        ({"inner_size": 40}, "ffn.fc1.weight is (48, 32), not (40, 32)"),
        ({"d_conv": 3}, "conv1d_1.weight is"),
        ({"p2p_residual": True}, "time_gate_residual.1.weight is (1, 10), not (10, 10)"),
        ({"max_len": 12}, "layer_norm_time.weight is (10,), not (12,)"),
    ],
    ids=str,
)
def test_configuration_of_another_model(change: dict[str, Any], words: str) -> None:
    weights, config = published()
    assert words in refusal(weights, config | change)


@pytest.mark.parametrize("change", [{"item_num": 36}, {"feature_dim": 768}], ids=str)
def test_features_of_another_catalogue(change: dict[str, int]) -> None:
    weights, config = published()
    message = refusal(weights, config | change)
    assert "(38, 24)" in message
    assert "item_num and feature_dim" in message


@pytest.mark.parametrize(
    ("key", "meant"), [("n_group", "n_groups"), ("item_nums", "item_num"), ("loss_typ", "loss_type")]
)
def test_unknown_key_suggests_the_nearest(key: str, meant: str) -> None:
    weights, config = published()
    message = refusal(weights, config | {key: 1})
    assert f"'{key}'" in message
    assert f"did you mean '{meant}'" in message


@pytest.mark.parametrize(
    "spoil",
    [
        lambda weights: weights["vision_embedding"].fill_(float("nan")),
        lambda weights: weights["vision_embedding"].resize_(30, 24),
    ],
)
def test_features_that_cannot_be_used(spoil: Callable[[Weights], Tensor]) -> None:
    weights, config = published()
    weights["vision_embedding"] = weights["vision_embedding"].clone()
    spoil(weights)
    assert "image" in refusal(weights, config)
