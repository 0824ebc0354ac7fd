"""Settings: every key, its range, and a message that names key, value and way out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from network.models import make_network, small_config
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.network import NetworkConfig
from recbole_mmm4rec.settings.registry import setting

WHOLE = "a whole number, at least 1"
SHARE = "a number from 0 to below 1"
EITHER = "True or False"
FUSION = "one of " + ", ".join(setting("item_mm_fusion").kind.choices)
BACKEND = "one of auto, torch, numba, mamba_ssm, recurrence"

# key, values refused, what the message says would be accepted
REFUSED: list[tuple[str, list[Any], str]] = [
    ("max_len", [0, -1, 2.5, "20", True, None, [20], float("nan"), float("inf")], WHOLE),
    ("hidden_size", [0, -256, 256.5, "256", False, None], WHOLE),
    ("inner_size", [0, 1.5, "256", True], WHOLE),
    ("num_layers", [0, 1.5, "1", True], WHOLE),
    ("d_state", [0, 0.5, "64", True], WHOLE),
    ("n_groups", [0, 1.5, "8", True], WHOLE),
    ("head_dim", [0, 1.5, "64", True], WHOLE),
    ("expand", [0, 1.5, "2", True], WHOLE),
    ("d_conv", [0, 1.5, "4", True], WHOLE),
    ("norm_eps", [0, -1e-12, "1e-12", True, float("nan"), None], "a number above 0"),
    ("embedding_drop_prob", [-0.1, 1.0, 1, "0.4", True, float("nan")], SHARE),
    ("dropout_prob", [-0.1, 1.0, 40, "0.4", True, float("nan")], SHARE),
    ("time_dropout_prob", [-0.1, 1.0, float("inf"), "0.4", False, float("nan")], SHARE),
    ("is_ffn", [0, 1, "True", "false", None], EITHER),
    ("is_time", [0, 1.0, "yes", None], EITHER),
    ("p2p_residual", [0, "off", None], EITHER),
    ("is_modality_bias", [1, "True", None], EITHER),
    ("time_padding", ["mask", "zero-stamp", None, True], "masked or zero_stamp"),
    ("ablation", ["time", "None", True, None], "one of none, filter, sharing, alignment, cross"),
    ("d_skip", ["mamba2", "Scaled", 1, None], "scaled or mamba"),
    ("item_mm_fusion", ["dynamic", "sum", 0, None], FUSION),
    ("temperature", [-0.8, 0, "0.8", True, None], "a number above 0"),
    ("ssd_backend", ["triton", "mamba-ssm", "cuda", None], BACKEND),
]


@pytest.mark.parametrize(
    ("key", "value", "accepted"), [(key, value, accepted) for key, values, accepted in REFUSED for value in values]
)
def test_refused_value_is_named_with_what_would_do(key: str, value: Any, accepted: str) -> None:
    with pytest.raises(UserError) as caught:
        NetworkConfig(**{key: value})
    message = str(caught.value)
    name = "MAX_ITEM_LIST_LENGTH" if key == "max_len" else key
    assert message.startswith(f"{name}={value!r}: it must be {accepted}")
    assert "\n" not in message


def test_the_table_above_has_every_key() -> None:
    assert [key for key, _, _ in REFUSED] == [*dict.fromkeys(key for key, _, _ in REFUSED)]
    assert {key for key, _, _ in REFUSED} == {entry.name for entry in dataclasses.fields(NetworkConfig)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_dim": 96}, ["head_dim: 96", "expand * hidden_size = 512", "such as 64"]),
        ({"n_groups": 3}, ["n_groups: 3", "8 heads", "such as 2"]),
        ({"n_groups": 16}, ["n_groups: 16", "8 heads", "such as 8"]),
        ({"max_len": 3}, ["MAX_ITEM_LIST_LENGTH: 3", "d_conv: 4", "at least 4", "at most 3"]),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_each_other(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        NetworkConfig(**changes)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "meant"),
    [("dynamic_share", "dynamic_shared"), ("Static", "static"), ("dynamic_instances", "dynamic_instance")],
)
def test_near_miss_of_a_choice_is_suggested(value: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{meant}'"):
        NetworkConfig(item_mm_fusion=value)


@pytest.mark.parametrize(("key", "value"), [("head_dim", 96), ("n_groups", 3), ("n_groups", 16)])
def test_suggested_divisor_is_accepted(key: str, value: int) -> None:
    with pytest.raises(UserError) as caught:
        NetworkConfig.from_mapping({key: value})
    suggested = int(str(caught.value).rsplit(" ", 1)[1])
    assert getattr(NetworkConfig.from_mapping({key: suggested}), key) == suggested


@pytest.mark.parametrize(
    ("key", "meant"),
    [("n_group", "n_groups"), ("Dropout_prob", "dropout_prob"), ("is_modality_bais", "is_modality_bias")],
)
def test_unknown_key_suggests_the_nearest(key: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        NetworkConfig.from_mapping({"hidden_size": 64, key: 1})
    assert f"'{key}'" in str(caught.value)
    assert f"did you mean '{meant}'" in str(caught.value)


def test_unknown_key_like_nothing_suggests_nothing() -> None:
    with pytest.raises(UserError) as caught:
        NetworkConfig.from_mapping({"xyzzy": 1})
    assert "'xyzzy'" in str(caught.value)
    assert "did you mean" not in str(caught.value)


def test_whole_floats_and_ints_become_the_declared_type() -> None:
    """Tuning libraries draw 64.0 where 64 is meant, and YAML reads 0 as an int."""
    config = NetworkConfig(d_state=64.0, dropout_prob=0, temperature=1)  # type: ignore[arg-type]
    assert (config.d_state, config.dropout_prob, config.temperature) == (64, 0.0, 1.0)
    assert [type(value) for value in (config.d_state, config.dropout_prob, config.temperature)] == [int, float, float]


@pytest.mark.parametrize("key", ["temperature", "norm_eps"])
def test_infinity_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"{key}=inf: it must be"):
        NetworkConfig.from_mapping({key: float("inf")})


def test_defaults_are_the_papers() -> None:
    config = NetworkConfig()
    sizes = (config.hidden_size, config.inner_size, config.d_state, config.n_groups, config.head_dim, config.expand)
    assert sizes == (256, 256, 64, 8, 64, 2)
    assert (config.d_conv, config.max_len, config.num_layers) == (4, 20, 1)
    assert (config.embedding_drop_prob, config.dropout_prob, config.time_dropout_prob) == (0.4, 0.4, 0.4)
    assert (config.temperature, config.item_mm_fusion, config.is_modality_bias) == (0.8, "static", True)
    assert (config.is_ffn, config.is_time, config.p2p_residual, config.norm_eps) == (True, True, False, 1e-12)
    assert (config.time_padding, config.d_skip, config.ssd_backend) == ("masked", "scaled", "auto")
    assert (config.inner_width, config.n_heads, config.group_width) == (512, 8, 512)


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NetworkConfig().hidden_size = 3  # type: ignore[misc]


def test_constructor_names_the_nearest_key_too() -> None:
    with pytest.raises(UserError, match=r"'hiden_size'; did you mean 'hidden_size'"):
        NetworkConfig(hiden_size=32)


def test_recboles_name_of_the_length_is_understood() -> None:
    assert NetworkConfig.from_mapping({"MAX_ITEM_LIST_LENGTH": 50}).max_len == 50


def test_what_an_older_version_has_kept() -> None:
    """Of settings that are gone those that were off."""
    assert NetworkConfig.from_mapping({"num_layers": 2, "id_dropout": 0.0}) == NetworkConfig(num_layers=2)
    with pytest.raises(UserError, match="unknown network setting 'id_dropout'"):
        NetworkConfig.from_mapping({"id_dropout": 0.5})


def test_one_modality_has_no_part_of_the_cross_layers() -> None:
    with pytest.raises(
        UserError, match="ablation: cross: it leaves out a part of the cross layers, which a model of text"
    ):
        make_network(small_config(ablation="cross"), ("text",))
