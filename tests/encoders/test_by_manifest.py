"""The encoder that made a store, found again by its manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.by_manifest import encoder_of
from recbole_mmm4rec.encoders.spec import EncoderSpec

MADE: dict[str, Any] = {
    "modality": "text",
    "encoder": "all-MiniLM-L6-v2",
    "encoder_hash": "abc",
    "encoder_version": "0.1.0",
    "settings": {"max_seq_length": 64, "pooling": "mean", "precision": "bf16", "column": "title"},
    "normalized": False,
    "dim": 4,
    "input_hash": "of the texts",
}


class Fake:
    """An encoder that notes what it was asked for."""

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec, self.name, self.version, self.hash, self.dim = spec, spec.name, None, "abc", 4
        self.settings = {"max_seq_length": spec.max_seq_length, "pooling": "mean", "precision": spec.precision}
        self.device, self.normalized = "cpu", spec.normalize

    def prepare(self, source: Any) -> Any:
        return source

    def encode(self, prepared: Any) -> np.ndarray:
        return np.zeros((len(prepared), 4), dtype=np.float32)


def test_it_is_told_all_that_shapes_a_vector() -> None:
    made: Any = encoder_of(MADE, device="cpu", load=Fake)
    assert made.spec == EncoderSpec("text", "all-MiniLM-L6-v2", "cpu", "bf16", 64, False)
    assert encoder_of(MADE, name="/models/mini", load=Fake).name == "/models/mini"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"input_hash": None, "settings": {}, "encoder": "vectors of own.npy"},
            "brought ready-made (vectors of own.npy)",
        ),
        ({"encoder_hash": "def"}, "all-MiniLM-L6-v2 with other weights than all-MiniLM-L6-v2 here; install the same"),
        ({"dim": 8}, "with other weights"),
        (
            {"settings": {"max_seq_length": 64, "pooling": "cls"}},
            "worked with {'max_seq_length': 64, 'pooling': 'cls'}",
        ),
    ],
)
def test_another_encoder_is_refused_in_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        encoder_of({**MADE, **changes}, load=Fake)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_a_merge_whose_inputs_are_not_known_the_encoder_is() -> None:
    assert encoder_of({**MADE, "input_hash": None}, load=Fake).name == "all-MiniLM-L6-v2"


def test_one_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_mmm4rec.encoders.sentence_encoder.PACKAGED", "no-such-package")
    with pytest.raises(UserError, match=r"^the text encoder of this shop, all-MiniLM-L6-v2: .*pip install 'recbole"):
        encoder_of(MADE)


def test_the_packaged_ones_are_found_by_their_manifests() -> None:
    """As ``embed`` notes them."""
    settings = {"max_seq_length": 256, "pooling": "mean", "column": "text"}
    packaged = {**MADE, "encoder_hash": None, "settings": settings, "normalized": True, "dim": 384}
    encoder = encoder_of(packaged, device="cpu")
    assert encoder_of({**packaged, "encoder_hash": encoder.hash}, device="cpu").encode(["red tent"]).shape == (1, 384)
