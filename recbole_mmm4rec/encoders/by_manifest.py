"""The encoder that made a feature store, found again by what the store says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.load import load_encoder
from recbole_mmm4rec.encoders.spec import Encoder, EncoderSpec, Load


def encoder_of(
    made: Mapping[str, Any], name: str | None = None, device: str = "auto", load: Load = load_encoder
) -> Encoder:
    """Loads the encoder whose vectors go with those of a feature store.

    Args:
        made: the store's manifest as a mapping: ``modality``, ``encoder``, ``encoder_hash``, ``settings``,
            ``normalized``, ``dim``, ``input_hash``.
        name: where the encoder is, if not under the name in the manifest: of a folder that holds only its last part.
        device: "auto" or a torch device.
        load: gives an encoder.

    Raises:
        UserError: the vectors were brought by the user; the encoder is not installed or cannot be loaded, has other
            weights, or is told otherwise.
    """
    modality, known, settings = made["modality"], made["encoder"], made["settings"]
    shaping = {key: value for key, value in settings.items() if key != "column"}
    if made["input_hash"] is None and not shaping:  # of a merge the inputs may be unknown, and the encoder is not
        raise UserError(
            f"{modality}: the vectors of this shop were brought ready-made ({known}), and no encoder makes such; "
            "give vectors"
        )
    length = settings.get("max_seq_length") if modality == "text" else None
    wanted = name or known
    spec = EncoderSpec(modality, wanted, device, settings.get("precision", "fp32"), length, made["normalized"])
    try:
        encoder = load(spec)
    except UserError as error:
        reason = str(error).removeprefix(f"--{modality}-encoder {wanted}: ")
        raise UserError(f"the {modality} encoder of this shop, {known}: {reason}") from None
    if made["encoder_hash"] not in (None, encoder.hash) or encoder.dim != made["dim"]:
        raise UserError(
            f"the {modality} encoder of this shop is {known} with other weights than {wanted} here; install the same "
            f"one{_version(made)}, or give its folder"
        )
    if encoder.settings != shaping:
        raise UserError(f"the {modality} encoder of this shop, {known}, worked with {shaping}, here {encoder.settings}")
    return encoder


def _version(made: Mapping[str, Any]) -> str:
    return f" ({made['encoder_version']})" if made.get("encoder_version") else ""
