"""The encoders that made a folder's features: loaded when they are asked for, and kept."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.by_manifest import encoder_of
from recbole_mmm4rec.encoders.pictures import BadPictureError
from recbole_mmm4rec.encoders.spec import Encoder


class Encoders:
    """The encoders of a model folder.

    Args:
        made: modality to what its feature store says about itself.
        device: where they run.

    Attributes:
        loaded: those that are there, by modality.
    """

    def __init__(self, made: Mapping[str, Mapping[str, Any]], device: str = "cpu") -> None:
        self.made, self.device = made, device
        self.loaded: dict[str, Encoder] = {}
        self._lock = threading.Lock()

    def get(self, modality: str, name: str | None = None) -> Encoder:
        """The encoder of a modality.

        Args:
            modality: text or image.
            name: where the encoder is, if it is not found under the name in the manifest.

        Raises:
            UserError: see :func:`~recbole_mmm4rec.encoders.by_manifest.encoder_of`.
        """
        with self._lock:
            if modality not in self.loaded:
                if not self.made.get(modality):
                    raise UserError(
                        f"{modality}: the model folder does not say which encoder made its vectors; give vectors"
                    )
                self.loaded[modality] = encoder_of(self.made[modality], name, self.device)
            return self.loaded[modality]

    def vector(self, modality: str, source: Any) -> np.ndarray:
        """(F,) float32 of one text, or of one picture: a file's bytes, its Path, or a PIL image.

        Raises:
            UserError: as for :meth:`get`; a picture that cannot be read.
        """
        if modality == "image":
            source = _as_file(source)
        encoder = self.get(modality)
        try:
            prepared = encoder.prepare(source)
        except BadPictureError as error:
            named = f"image {source}" if isinstance(source, Path) else "image"
            raise UserError(f"{named}: {error}") from None
        with self._lock:
            found: np.ndarray = encoder.encode([prepared])[0]
        return found


def _as_file(image: Any) -> bytes | Path:
    """A picture as an encoder takes it; a PIL image becomes a PNG."""
    if isinstance(image, (bytes, Path)):
        return image
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    if hasattr(image, "save") and hasattr(image, "mode"):
        made = io.BytesIO()
        image.convert("RGB").save(made, "PNG", compress_level=1)
        return made.getvalue()
    raise UserError(f"image={str(image)[:60]!r}: must be a file's bytes, its Path, or a PIL image")
