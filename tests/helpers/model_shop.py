"""One tiny shop with texts, drawn pictures and a category, a model trained on it once for a whole test run."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dataset_prep.images.files import picture_folder, save_picture
from dataset_prep.sources.demo.pictures import draw
from dataset_prep.sources.demo.shop import SHAPES
from recbole_mmm4rec.features.store import hash_inputs, write_store

NAME = "kiosk"
USES = ("garden", "kitchen", "office", "travel", "sports", "winter")
ITEMS = [f"k{number:02d}" for number in range(36)]
"""Ids; item n has shape n % 6 and use n // 6."""
NO_PICTURE = ("k05", "k17")
NO_TEXT = ("k30",)
USERS = 60
SETTINGS: dict[str, Any] = {
    "hidden_size": 16,
    "inner_size": 16,
    "d_state": 4,
    "n_groups": 2,
    "head_dim": 8,
    "MAX_ITEM_LIST_LENGTH": 8,
    "embedding_drop_prob": 0.1,
    "dropout_prob": 0.1,
    "time_dropout_prob": 0.1,
    "learning_rate": 0.01,
    "train_batch_size": 64,
    "epochs": 12,
    "topk": [5, 10],
    "neighbour_weight": 0.3,
    "item_mm_fusion": "dynamic_shared",
    "show_progress": False,
    "use_gpu": False,
    "state": "ERROR",
}
"""Of a small model with everything that a folder can hold: both modalities, time, neighbours, learned fusion."""


def shape_of(number: int) -> str:
    """The shape that the picture of an item shows."""
    return list(SHAPES)[number % 6]


def write_kiosk(data_path: Path, users: int = USERS, seed: int = 0) -> Path:
    """Write the shop: interactions in seconds of 2021, items with text, category and price, pictures, both stores.

    The next item has the next shape or the next use, in turns.

    Returns:
        The data set's folder.
    """
    random = np.random.default_rng(seed)
    folder = data_path / NAME
    folder.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(users):
        shape, use, time = int(random.integers(6)), int(random.integers(6)), 1_610_000_000 + int(random.integers(10**6))
        for step in range(int(random.integers(5, 12))):
            lines.append(f"u{user}\tk{6 * use + shape:02d}\t{time}")
            time += int(random.integers(60, 90_000))
            shape, use = ((shape + 1) % 6, use) if step % 2 else (shape, (use + 1) % 6)
    (folder / f"{NAME}.inter").write_text("\n".join(lines) + "\n")
    texts = ["" if item in NO_TEXT else f"{shape_of(n)} for the {USES[n // 6]}" for n, item in enumerate(ITEMS)]
    rows = [f"{item}\t{texts[n]}\t{USES[n // 6]}\t{5 + n / 2}" for n, item in enumerate(ITEMS)]
    header = "item_id:token\ttext:token_seq\tcategory:token\tprice:float"
    (folder / f"{NAME}.item").write_text("\n".join([header, *rows]) + "\n")
    pictures = picture_folder(folder)
    pictures.mkdir()
    for number, item in enumerate(ITEMS):
        if item not in NO_PICTURE:
            save_picture(pictures, item, draw(shape_of(number), np.random.default_rng([seed, number])), "png")
    for modality, absent in (("text", NO_TEXT), ("image", NO_PICTURE)):
        _write_vectors(folder, modality, absent, texts)
    return folder


def _write_vectors(folder: Path, modality: str, absent: tuple[str, ...], texts: list[str]) -> None:
    """Vectors that tell shape and use by text, shape by picture; no encoder is needed for the tests."""
    shapes, uses = np.tile(np.eye(6), (6, 1)), np.repeat(np.eye(6), 6, axis=0)
    vectors = np.concatenate([shapes, uses], 1) if modality == "text" else shapes
    noise = np.random.default_rng(len(modality)).normal(0, 0.05, vectors.shape)
    present = np.array([item not in absent for item in ITEMS])
    write_store(
        folder / "features" / modality,
        modality=modality,
        encoder="drawn",
        encoder_hash=None,
        encoder_version=None,
        settings={"column": modality},
        dim=vectors.shape[1],
        dtype="float32",
        normalized=False,
        input_hash=hash_inputs(zip(ITEMS, texts, strict=True)) if modality == "text" else None,
        dataset=NAME,
        items=ITEMS,
        present=present,
        chunks=[(vectors + noise).astype(np.float32) * present[:, None]],
    )


def train_kiosk(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write the shop to ``folder/dataset``, train on it, and give the run's result; its files lie in ``folder``."""
    from recbole_mmm4rec.run.quick_start import run_recbole

    if not (folder / "dataset" / NAME).exists():
        write_kiosk(folder / "dataset")
    before, argv = os.getcwd(), sys.argv
    sys.argv = sys.argv[:1]  # RecBole would take pytest's options for its own
    os.chdir(folder)  # for the log
    try:
        places = {"data_path": str(folder / "dataset"), "checkpoint_dir": str(folder / "saved")}
        return run_recbole("MMM4Rec", NAME, config_dict={**SETTINGS, **places, **changes})
    finally:
        os.chdir(before)
        sys.argv = argv


def trained_once(base: Path) -> Path:
    """The folder ``base/kiosk`` with ``dataset/``, ``saved/`` and ``model/``, made by whichever process is first.

    Args:
        base: a folder that all processes of a test run share.
    """
    base.mkdir(parents=True, exist_ok=True)
    home = base / NAME
    with (base / f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "done").exists():
            home.mkdir()
            result = train_kiosk(home)
            (home / "model").symlink_to(result["model_folder"])
            (home / "checkpoint").symlink_to(result["saved_model_file"])
            (home / "done").touch()
    return home
