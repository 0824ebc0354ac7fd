"""A data set as all models of a comparison see it, and one run of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_mmm4rec.compare.file_settings import LEAVE_ONE_OUT
from recbole_mmm4rec.compare.targets import Targets
from recbole_mmm4rec.run.identity import deciding, identity


@dataclass(frozen=True)
class Shop:
    """A data set as all models of the comparison see it.

    Attributes:
        name: its name.
        fingerprint: of the files that every model reads.
        statistics: ``users``, ``items``, ``interactions`` after filters.
        protocol: the settings that every model shares, plain values.
        valid_metric: that of early stopping, lower case.
        entry: how the file calls it, without a protocol; "" where that is the name.
        targets: who is asked for what in the test; None where that is not known.
    """

    name: str
    fingerprint: str
    statistics: Mapping[str, int]
    protocol: Mapping[str, Any]
    valid_metric: str
    entry: str = ""
    targets: Targets | None = None

    @property
    def split(self) -> tuple[str, Any]:
        """Name and shares of the protocol: ``leave_one_out`` with None, or one of ours."""
        ((name, value),) = self.protocol.get("eval_args", {"split": {"LS": None}})["split"].items()
        return (LEAVE_ONE_OUT, None) if name == "LS" else (name, value)


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        label: what the progress shows.
        kind: "run" or "pretraining".
        dataset, model, settings, seed, max_seconds: what is trained.
        protocol: the settings shared by all models.
        fingerprint: of the files that the model reads.
        resolved: of all settings, defaults among them, and of the versions of RecBole and PyTorch.
        pretrained: identity of the pre-training that comes first, or None.
        expected: ``users`` and ``items`` that the data set must have; empty for a pre-training.
        results: number of the last change of results that concerns it.
        files: the files that the model reads, each with bytes and time of change when they were hashed.
    """

    label: str
    kind: str
    dataset: str
    model: str
    settings: Mapping[str, Any]
    seed: int
    max_seconds: float | None
    protocol: Mapping[str, Any]
    fingerprint: str
    resolved: str
    pretrained: str | None = None
    expected: Mapping[str, int] = field(default_factory=dict)
    results: int = 0
    files: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The identity: of equal ones one run is enough.

        The time limit of a run is no part of it: one that ended by itself also holds under another limit. A
        pre-training's is, because the runs that start from it are known by its identity. Settings that change
        neither training nor ranks are none either, nor is where the files lie.
        """
        left_out = ("label", "expected", "files", *(["max_seconds"] if self.kind == "run" else []))
        parts = {key: value for key, value in vars(self).items() if key not in left_out}
        return identity({**parts, "settings": deciding(self.settings), "protocol": deciding(self.protocol)})
