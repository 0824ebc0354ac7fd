"""The settings of the network as one object, and the checks across settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.settings.other_names import without_removed
from recbole_mmm4rec.settings.registry import setting
from recbole_mmm4rec.settings.setting import Setting


def _setting(name: str) -> Any:
    """A field whose default and range stand in the row of a setting."""
    found = setting(name)
    return field(default=found.default, metadata={"row": found})


@dataclass(frozen=True)
class NetworkConfig:
    """The settings of :class:`~recbole_mmm4rec.network.MMM4RecNetwork`; settings/rows/network.py says what each is.

    Axes as everywhere: B users, L positions, D hidden size, E inner width, P head width, H heads, N state size,
    G groups, K convolution width.

    Raises:
        UserError: a value of a wrong type or out of its range, or settings that do not fit each other; the message
            names the key, the value and what would be accepted.
    """

    max_len: int = _setting("MAX_ITEM_LIST_LENGTH")
    hidden_size: int = _setting("hidden_size")
    inner_size: int = _setting("inner_size")
    num_layers: int = _setting("num_layers")
    d_state: int = _setting("d_state")
    n_groups: int = _setting("n_groups")
    head_dim: int = _setting("head_dim")
    expand: int = _setting("expand")
    d_conv: int = _setting("d_conv")
    norm_eps: float = _setting("norm_eps")
    embedding_drop_prob: float = _setting("embedding_drop_prob")
    dropout_prob: float = _setting("dropout_prob")
    time_dropout_prob: float = _setting("time_dropout_prob")
    is_ffn: bool = _setting("is_ffn")
    is_time: bool = _setting("is_time")
    p2p_residual: bool = _setting("p2p_residual")
    time_padding: str = _setting("time_padding")
    d_skip: str = _setting("d_skip")
    ablation: str = _setting("ablation")
    is_modality_bias: bool = _setting("is_modality_bias")
    item_mm_fusion: str = _setting("item_mm_fusion")
    temperature: float = _setting("temperature")
    ssd_backend: str = _setting("ssd_backend")

    def __new__(cls, *args: Any, **settings: Any) -> NetworkConfig:
        """Refuse unknown settings before the dataclass would, with the nearest right name."""
        for key in sorted(set(settings) - set(cls.setting_names())):
            raise UserError(f"unknown network setting '{key}'{did_you_mean(key, cls.setting_names())}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            object.__setattr__(self, entry.name, _checked(entry, getattr(self, entry.name)))
        if self.inner_width % self.head_dim:
            raise UserError(
                f"head_dim: {self.head_dim} does not divide expand * hidden_size = {self.inner_width}; "
                f"choose a divisor such as {_largest_divisor(self.inner_width, self.head_dim)}"
            )
        if self.n_heads % self.n_groups:
            raise UserError(
                f"n_groups: {self.n_groups} does not divide the {self.n_heads} heads "
                f"(expand * hidden_size / head_dim); choose a divisor such as "
                f"{_largest_divisor(self.n_heads, self.n_groups)}"
            )
        if self.max_len < self.d_conv:
            raise UserError(
                f"MAX_ITEM_LIST_LENGTH: {self.max_len} is shorter than the convolution, d_conv: {self.d_conv}; "
                f"set MAX_ITEM_LIST_LENGTH to at least {self.d_conv} or d_conv to at most {self.max_len}"
            )

    @property
    def inner_width(self) -> int:
        """E, the width inside the state-space blocks."""
        return self.expand * self.hidden_size

    @property
    def n_heads(self) -> int:
        """H, the number of heads."""
        return self.inner_width // self.head_dim

    @property
    def group_width(self) -> int:
        """G·N, the width of B and of C."""
        return self.n_groups * self.d_state

    @classmethod
    def setting_names(cls) -> tuple[str, ...]:
        """The names of all settings."""
        return tuple(entry.name for entry in dataclasses.fields(cls))

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> NetworkConfig:
        """Build from a mapping in which every key must be known; RecBole's MAX_ITEM_LIST_LENGTH stands for ``max_len``,
        and a setting that is gone (:data:`~recbole_mmm4rec.settings.other_names.REMOVED`) may be there if it is off.

        Raises:
            UserError: an unknown key, with the nearest right one.
        """
        kept = without_removed(settings)
        return cls(**{"max_len" if key == "MAX_ITEM_LIST_LENGTH" else key: value for key, value in kept.items()})


def _checked(entry: dataclasses.Field[Any], value: Any) -> Any:
    """``value`` in the type of ``entry``, or a UserError."""
    found: Setting = entry.metadata["row"]
    found.check(value)
    assert found.kind.cast is not None
    return found.kind.cast(value)


def _largest_divisor(whole: int, at_most: int) -> int:
    """The largest divisor of ``whole`` that is not above ``at_most``."""
    return max(part for part in range(1, min(whole, at_most) + 1) if whole % part == 0)
