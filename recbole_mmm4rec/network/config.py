"""Every setting of the network: its type, range, unit and the checks across settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recbole_mmm4rec.base.errors import UserError, did_you_mean

FUSIONS = ("static", "dynamic_shared", "dynamic_instance")
TIME_PADDINGS = ("masked", "zero_stamp")
D_SKIPS = ("scaled", "mamba")
# "recurrence", the slow step-by-step form, is the truth that the others are tested against
SSD_BACKENDS = ("auto", "torch", "numba", "mamba_ssm", "recurrence")


def _setting(
    default: Any, doc: str, *, low: float | None = None, high: float | None = None, choices: Any = None
) -> Any:
    """A documented dataclass field; ``low`` and ``high`` are inclusive unless ``high`` is a probability's 1."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class NetworkConfig:
    """The settings of :class:`~recbole_mmm4rec.network.MMM4RecNetwork`; defaults are the paper's sizes.

    Axes as everywhere: B users, L positions, D hidden size, E inner width, P head width, H heads, N state size,
    G groups, K convolution width.

    Raises:
        UserError: a value of a wrong type or out of its range, or settings that do not fit each other; the message
            names the key, the value and what would be accepted.
    """

    max_len: int = _setting(20, "L, positions of a sequence (RecBole: MAX_ITEM_LIST_LENGTH)", low=1)
    hidden_size: int = _setting(256, "D, width of user and item vectors", low=1)
    inner_size: int = _setting(256, "width inside the feed-forward layers", low=1)
    num_layers: int = _setting(1, "number of TiSSD and Cross-SSD layers", low=1)
    d_state: int = _setting(64, "N, state size of a head", low=1)
    n_groups: int = _setting(8, "G, groups that share B and C; a divisor of H", low=1)
    head_dim: int = _setting(64, "P, width of a head; a divisor of E", low=1)
    expand: int = _setting(2, "E / D", low=1)
    d_conv: int = _setting(4, "K, width of the causal convolutions (the GPU kernel takes 2 to 4)", low=1)
    norm_eps: float = _setting(1e-12, "eps of every LayerNorm and RMSNorm", low=0.0)
    embedding_drop_prob: float = _setting(0.4, "dropout of the input item vectors", low=0.0, high=1.0)
    dropout_prob: float = _setting(0.4, "dropout inside the layers", low=0.0, high=1.0)
    time_dropout_prob: float = _setting(0.4, "dropout of the time signals", low=0.0, high=1.0)
    is_ffn: bool = _setting(True, "a feed-forward layer after each block")
    is_time: bool = _setting(True, "time gaps scale the step size and pass the Fourier filter")
    p2p_residual: bool = _setting(False, "the time gate has one value per position instead of one per row")
    time_padding: str = _setting("masked", "gap at padded positions: 0, or as published", choices=TIME_PADDINGS)
    d_skip: str = _setting("scaled", "skip of the scan: D * delta * x as published, or Mamba's D * x", choices=D_SKIPS)
    is_modality_bias: bool = _setting(True, 'trainable ID tables on top of the features (the paper\'s "with ID")')
    item_mm_fusion: str = _setting("static", "how the logits of the modalities are joined", choices=FUSIONS)
    temperature: float = _setting(0.8, "divides the scores", low=0.0)
    ssd_backend: str = _setting("auto", "which implementation of the scan runs", choices=SSD_BACKENDS)

    def __new__(cls, *args: Any, **settings: Any) -> NetworkConfig:
        """Refuse unknown settings before the dataclass would, with the nearest right name."""
        for key in sorted(set(settings) - set(cls.setting_names())):
            raise UserError(f"unknown network setting '{key}'{did_you_mean(key, cls.setting_names())}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            object.__setattr__(self, entry.name, _checked(entry, getattr(self, entry.name)))
        if self.temperature == 0.0:
            raise UserError("temperature must be greater than 0, not 0.0")
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
        """Build from a mapping in which every key must be known; RecBole's MAX_ITEM_LIST_LENGTH stands for ``max_len``.

        Raises:
            UserError: an unknown key, with the nearest right one.
        """
        return cls(**{"max_len" if key == "MAX_ITEM_LIST_LENGTH" else key: value for key, value in settings.items()})


def _checked(entry: dataclasses.Field[Any], value: Any) -> Any:
    """``value`` in the type of ``entry``, or a UserError."""
    kind = {"int": int, "float": float, "bool": bool, "str": str}[str(entry.type)]
    meta = entry.metadata
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    right = {
        int: number and float(value).is_integer(),
        float: number and math.isfinite(value),
        bool: isinstance(value, bool),
        str: isinstance(value, str),
    }[kind]
    if not right:
        raise UserError(f"{entry.name} must be {_expected(kind, meta)}, not {value!r}")
    value = kind(value)
    if meta["choices"] is not None and value not in meta["choices"]:
        raise UserError(
            f"{entry.name} must be {_expected(kind, meta)}, not {value!r}{did_you_mean(value, meta['choices'])}"
        )
    low, high = meta["low"], meta["high"]
    if (low is not None and value < low) or (high is not None and value >= high):
        raise UserError(f"{entry.name} must be {_expected(kind, meta)}, not {value!r}")
    return value


def _expected(kind: type, meta: Mapping[str, Any]) -> str:
    """What a setting accepts, in words."""
    if meta["choices"] is not None:
        return "one of " + ", ".join(meta["choices"])
    if kind is bool:
        return "True or False"
    words = {int: "a whole number", float: "a number"}[kind]
    if meta["high"] is not None:
        return f"{words} from {meta['low']} to below {meta['high']}"
    return words if meta["low"] is None else f"{words}, at least {meta['low']}"


def _largest_divisor(whole: int, at_most: int) -> int:
    """The largest divisor of ``whole`` that is not above ``at_most``."""
    return max(part for part in range(1, min(whole, at_most) + 1) if whole % part == 0)
