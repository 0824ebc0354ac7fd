"""What ``embed`` asks of an encoder, and what an encoder is, whoever made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

DEFAULT_TEXT_ENCODER = "all-MiniLM-L6-v2"
DEFAULT_IMAGE_ENCODER = "efficientnet-lite0"
PRECISIONS = ("fp32", "fp16", "bf16")

Source = str | Path | bytes  # a text; a picture's file or its bytes


@dataclass(frozen=True)
class EncoderSpec:
    """Which encoder, and how it works; small enough to be sent to another machine.

    Attributes:
        modality: "text" or "image".
        name: a folder, a packaged encoder, a hub name, or one with the prefix ``open_clip:`` or ``timm:``.
        device: "auto" or a torch device such as "cpu" or "cuda:0".
        precision: of the computation, "fp32", "fp16" or "bf16".
        max_seq_length: cut texts after this many tokens; None for the encoder's own limit.
        normalize: scale vectors to length 1.
    """

    modality: str
    name: str
    device: str = "auto"
    precision: str = "fp32"
    max_seq_length: int | None = None
    normalize: bool = True


class Encoder(Protocol):
    """What turns texts or pictures into vectors.

    Attributes:
        name: public name; of a local folder or file its base name.
        version: package version or revision, or None.
        hash: sha256 over the weights.
        settings: what else shapes a vector; JSON values.
        dim: width of a vector.
        device: where it runs.
        normalized: whether vectors have length 1.
    """

    name: str
    version: str | None
    hash: str
    settings: dict[str, Any]
    dim: int
    device: str
    normalized: bool

    def prepare(self, source: Any) -> Any:
        """What :meth:`encode` takes for a text or picture; several threads may call it.

        Raises:
            BadPictureError: the picture cannot be used.
        """
        ...

    def encode(self, prepared: Sequence[Any]) -> np.ndarray:
        """(len(prepared), dim) float32 vectors of one batch."""
        ...


Load = Callable[[EncoderSpec], Encoder]
