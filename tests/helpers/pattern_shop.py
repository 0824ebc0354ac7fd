"""A shop whose next purchase is known: after the item of shape s and colour c comes the one of s + 1 and c + 1.

The text of an item tells its shape alone, its image the colour alone.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
from shop import python

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.features.store import write_store
from recbole_mmm4rec.run.build import Run, build, make_config

NAME = "pattern"
SHAPES, COLOURS = 5, 6
ITEMS = [f"s{shape}c{colour}" for shape in range(SHAPES) for colour in range(COLOURS)]

TINY_MODEL: dict[str, Any] = {
    "hidden_size": 16,
    "inner_size": 16,
    "d_state": 4,
    "n_groups": 2,
    "head_dim": 8,
    "MAX_ITEM_LIST_LENGTH": 6,
    "embedding_drop_prob": 0.0,
    "dropout_prob": 0.0,
    "time_dropout_prob": 0.0,
    "label_smoothing": 0.0,
    "neighbour_weight": 0,
    "learning_rate": 0.01,
    "train_batch_size": 64,
    "show_progress": False,
    "metrics": ["Hit", "NDCG", "MRR"],
    "topk": [1, 10],
    "valid_metric": "Hit@10",
}


def write_pattern_shop(folder: Path, users: int = 40, missing_images: float = 0.0, seed: int = 0) -> None:
    """Write ``folder/pattern`` with both feature stores.

    Args:
        folder: the ``data_path``.
        users: histories, of 4 to 8 items each.
        missing_images: share of the items without an image.
        seed: of every random draw.
    """
    draw = np.random.default_rng(seed)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(users):
        shape, colour, time = int(draw.integers(SHAPES)), int(draw.integers(COLOURS)), 1_500_000_000
        for step in range(int(draw.integers(4, 9))):
            time += int(draw.integers(60, 90_000))
            item = f"s{(shape + step) % SHAPES}c{(colour + step) % COLOURS}"
            lines.append(f"u{user}\t{item}\t{time}")
    home = folder / NAME
    home.mkdir(parents=True)
    (home / f"{NAME}.inter").write_text("\n".join(lines) + "\n")
    shapes = np.repeat(np.eye(SHAPES), COLOURS, axis=0)
    colours = np.tile(np.eye(COLOURS), (SHAPES, 1))
    for modality, table in (("text", shapes), ("image", colours)):
        present = np.ones(len(ITEMS), dtype=bool)
        if modality == "image":
            present[draw.permutation(len(ITEMS))[: round(missing_images * len(ITEMS))]] = False
        write_store(
            home / "features" / modality,
            modality=modality,
            encoder="one-hot",
            encoder_hash=None,
            encoder_version=None,
            settings={},
            dim=table.shape[1],
            dtype="float32",
            normalized=True,
            input_hash=None,
            dataset=NAME,
            items=ITEMS,
            present=present,
            chunks=[table.astype(np.float32)],
        )


def pattern_settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a tiny model on the shop in ``folder``; everything that is written lands there, too."""
    return {**TINY_MODEL, "data_path": str(folder), "checkpoint_dir": str(folder / "saved"), **changes}


KILLED = """
import os, signal, sys
sys.argv = sys.argv[:1]
sys.path.insert(0, {tests!r})
from pathlib import Path
from pattern_shop import prepared
from breaking import AtEpoch
run = prepared(Path({folder!r}), **{changes!r})
run.trainer.training.add(AtEpoch({epoch}, lambda: os.kill(os.getpid(), signal.SIGKILL)))
run.trainer.fit(run.train, run.valid)
"""


def train_and_be_killed(folder: Path, epoch: int, **changes: Any) -> None:
    """Train the shop in ``folder`` in another process, which kills itself (-9) when it begins an epoch, 0 the first."""
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder), epoch=epoch, changes=changes)
    done = python("-c", code, cwd=folder)
    assert done.returncode == -signal.SIGKILL, done.stderr


def prepared(folder: Path, missing_images: float = 0.0, **changes: Any) -> Run:
    """Loaders and an untrained model of the shop in ``folder``, which is written where there is none yet.

    Args:
        folder: see :func:`pattern_settings`.
        missing_images: see :func:`write_pattern_shop`.
        changes: settings.
    """
    if not (folder / NAME).exists():
        write_pattern_shop(folder, missing_images=missing_images)
    return build(make_config("MMM4Rec", NAME, config_dict=pattern_settings(folder, **changes)), count_flops=False)
