"""The fuzzer's readers of models: checkpoints of ours and RecBole's, model folders, and the service's requests."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fuzzing.cases import Case, Reader, files_of

from recbole_mmm4rec.checkpoints import format as checkpoints
from recbole_mmm4rec.checkpoints.reading import read_checkpoint
from recbole_mmm4rec.model_folder.manifest import read_manifest
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.run.quick_start import load_data_and_model
from recbole_mmm4rec.serve.shop import Shop
from recbole_mmm4rec.transfer.loading import open_source

_PLACE = b'"sha256":"'


def with_hash(data: bytes) -> bytes:
    """A checkpoint with the hash of the bytes that it has now."""
    at = data.find(_PLACE, 0, 200)
    if at < 0 or len(data) < at + len(_PLACE) + 64:
        return data
    start = at + len(_PLACE)
    blank = data[:start] + b"0" * 64 + data[start + 64 :]
    return data[:start] + hashlib.sha256(blank).hexdigest().encode() + data[start + 64 :]


def _mend_checkpoint(case: Case) -> Case:
    return {name: with_hash(data) if name.endswith(".safetensors") else data for name, data in case.items()}


def with_manifest(case: Case) -> Case:
    """A model folder whose manifest has the sizes and hashes of what is there now."""
    try:
        record = json.loads(case["manifest.json"])
        listed = record["files"]
        for name in listed:
            if name in case:
                listed[name] = {"bytes": len(case[name]), "sha256": hashlib.sha256(case[name]).hexdigest()}
    except (ValueError, KeyError, TypeError, RecursionError):
        return case
    return {**case, "manifest.json": json.dumps(record).encode("utf-8", "surrogatepass")}


def _states() -> list[Case]:
    """Checkpoints with everything that one can hold."""
    from scipy import sparse

    tensors = {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "b": torch.tensor([1, 2]),
        "c": torch.ones(2, dtype=torch.bfloat16),
    }
    state = {
        "config": {"model": "MMM4Rec", "dataset": "kiosk", "data_path": "dataset/kiosk", "epochs": 3, "topk": [5, 10]},
        "epoch": 3,
        "state_dict": tensors,
        "other_parameter": {"matrix": sparse.coo_matrix(np.eye(3)), "pair": (1, "x"), "kinds": {1, 2}, 3: None},
        "history": [1.5, float("nan"), np.arange(3), np.float32(2)],
    }
    plain: list[Case] = []
    for name in ("state.safetensors", "state.pth"):
        place = Path(name)
        checkpoints.write(place, {**state, "other_parameter": None} if name.endswith(".pth") else state)
        plain.append({name: place.read_bytes()})
        place.unlink()
    published = io.BytesIO()
    torch.save({"model": tensors}, published)
    old = io.BytesIO()
    torch.save({"state_dict": tensors, "epoch": 1}, old, _use_new_zipfile_serialization=False)
    return [*plain, {"state.ckpt": published.getvalue()}, {"state.pth": old.getvalue()}]


def _checkpoint(folder: Path) -> None:
    checkpoints.read(next(folder.iterdir()))


def _pickle(folder: Path) -> None:
    read_checkpoint(next(folder.iterdir()))


def _source(folder: Path) -> None:
    open_source(str(next(folder.iterdir())))


def _loaded(folder: Path) -> None:
    logging.disable(logging.CRITICAL)
    load_data_and_model(next(folder.glob("state.*")))


def _pretrained(corpus: Path) -> Callable[[Path], Callable[[Path], None]]:
    """A training that begins with the weights of a file, up to its first step."""

    def begin(inside: Path) -> Callable[[Path], None]:
        from recbole_mmm4rec.transfer.loading import load_pretrained

        config, model, *_ = load_data_and_model((corpus / "kiosk" / "checkpoint").resolve())

        def read(folder: Path) -> None:
            config["pretrained"] = str(next(folder.glob("state.*")))
            load_pretrained(config, model)

        return read

    return begin


def _manifest(folder: Path) -> None:
    read_manifest(folder)


def _folder(folder: Path) -> None:
    """All that a folder holds, and a few questions to it."""
    recommender = Recommender.load(folder)
    ids = recommender.items.ids[:3]
    recommender.recommend([ids, ["k01", "k02"]], 3, timestamps=[[1, 2, 3][: len(ids)], [5, 6]])
    recommender.recommend(["k01"], 2, where={"category": "garden"}, modalities="text")
    recommender.similar("k01", 2)
    recommender.explain(["k01", "k02"], "k03")
    recommender.content.contents()
    Shop(recommender).about()


def readers(corpus: Path) -> list[Reader]:
    """All of models."""
    states = _states()
    kiosk = {"state.safetensors": (corpus / "kiosk" / "checkpoint").read_bytes()}
    stock: list[Case] = [{"state.pth": next((corpus / "stock" / "saved").glob("*.pth")).read_bytes()}]
    folder = files_of((corpus / "kiosk" / "model").resolve())
    parts = {".json": "json", ".safetensors": "safetensors", ".parquet": "parquet", ".arrow": "bytes"}
    forms = {".safetensors": "safetensors", ".pth": "torch", ".ckpt": "torch"}
    small: Case = {**dict.fromkeys(folder, b""), "manifest.json": folder["manifest.json"]}
    small = with_manifest(small)
    return [
        Reader("checkpoints of ours, bytes", 30_000, states[:1], forms, _checkpoint, cleared=True),
        Reader(
            "checkpoints of ours, hash mended", 30_000, states[:1], forms, _checkpoint, _mend_checkpoint, cleared=True
        ),
        Reader("checkpoints, pickles", 8_000, [*states[1:], *stock], forms, _pickle, cleared=True),
        Reader(
            "weights to start from", 4_000, [*states, kiosk, *stock], forms, _source, _mend_checkpoint, cleared=True
        ),
        Reader(
            "a training from given weights",
            1_500,
            [kiosk, *stock],
            forms,
            mend=_mend_checkpoint,
            begin=_pretrained(corpus),
            cleared=True,
        ),
        Reader("checkpoints with their data", 500, [kiosk, *stock], forms, _loaded, _mend_checkpoint, cleared=True),
        Reader("manifests of model folders", 30_000, [small], {"manifest.json": "json"}, _manifest),
        Reader("model folders, bytes", 2_000, [folder], parts, _folder),
        Reader("model folders, hashes mended", 3_000, [folder], parts, _folder, with_manifest),
    ]
