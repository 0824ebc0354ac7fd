"""Which module has the encoder that is asked for; only that one is imported."""

from __future__ import annotations

from recbole_mmm4rec.encoders.spec import Encoder, EncoderSpec


def load_encoder(spec: EncoderSpec) -> Encoder:
    """Loads the encoder that is asked for.

    Raises:
        UserError: it is not there or cannot be loaded, or an option does not go with it.
    """
    if spec.modality == "text" and not spec.name.startswith("open_clip:"):
        from recbole_mmm4rec.encoders.sentence_encoder import load_text_encoder

        return load_text_encoder(spec.name, spec.device, spec.max_seq_length, spec.normalize, spec.precision)
    from recbole_mmm4rec.encoders.timm_and_clip import load_torch_encoder

    return load_torch_encoder(spec)
