"""Small data sets for the tests of the data set class, written where a test wants them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recbole.config import Config

import recbole_mmm4rec  # noqa: F401 (RecBole works only when repaired)
from recbole_mmm4rec.data.dataset import MMM4RecDataset
from recbole_mmm4rec.features.store import hash_inputs, write_store

NAME = "tiny"
Row = tuple[Any, ...]
ITEMS = [f"i{number}" for number in range(9)]


def write_inter(
    root: Path, rows: Iterable[Row], columns: str = "user_id:token item_id:token timestamp:float", suffix: str = ""
) -> Path:
    """Write ``root/tiny/tiny.inter`` and return the data set's folder."""
    folder = root / NAME
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns.split()), *("\t".join(str(value) for value in row) for row in rows)]
    (folder / f"{NAME}{suffix}.inter").write_text("\n".join(lines) + "\n")
    return folder


def write_items(root: Path, texts: dict[str, str]) -> None:
    """Write ``root/tiny/tiny.item`` with a column ``text``."""
    lines = ["item_id:token\ttext:token_seq", *(f"{token}\t{text}" for token, text in texts.items())]
    (root / NAME / f"{NAME}.item").write_text("\n".join(lines) + "\n")


def write_vectors(
    root: Path,
    items: Sequence[str],
    modality: str = "text",
    absent: Sequence[str] = (),
    texts: Sequence[str] | None = None,
    dataset: str = NAME,
    seed: int = 0,
    dim: int = 6,
) -> np.ndarray:
    """Write a store of random vectors and return them, (rows, dim) float32 with zeros for absent items."""
    present = np.array([item not in absent for item in items])
    vectors = np.random.default_rng(seed).normal(size=(len(items), dim)).astype(np.float32) * present[:, None]
    write_store(
        root / NAME / "features" / modality,
        modality=modality,
        encoder="random",
        encoder_hash=None,
        encoder_version=None,
        settings={"column": "text"},
        dim=dim,
        dtype="float32",
        normalized=False,
        input_hash=None if texts is None else hash_inputs(zip(items, texts, strict=True)),
        dataset=dataset,
        items=list(items),
        present=present,
        chunks=[vectors],
    )
    return vectors


def make_config(root: Path, model: str = "SASRec", **settings: Any) -> Config:
    """RecBole's configuration of a sequential model that trains without negative items."""
    sys.argv = sys.argv[:1]  # RecBole would take pytest's options for its own
    defaults: dict[str, Any] = {
        "data_path": str(root),
        "train_neg_sample_args": None,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": 5,
        "checkpoint_dir": str(root / "saved"),
        "use_gpu": False,
        "user_inter_num_interval": None,
        "item_inter_num_interval": None,
    }
    return Config(model=model, dataset=NAME, config_dict={**defaults, **settings})


def rows_of(lengths: Sequence[int], items: int = 7, seed: int = 0) -> list[Row]:
    """Interactions (user, item, time) of users u0, u1, ... at shuffled, distinct, small times."""
    random = np.random.default_rng(seed)
    users = [f"u{number}" for number, length in enumerate(lengths) for _ in range(length)]
    times = random.permutation(len(users))
    taken = random.integers(0, items, size=len(users))
    return [(user, f"i{item}", time) for user, item, time in zip(users, taken, times, strict=True)]


def make_dataset(root: Path, **settings: Any) -> MMM4RecDataset:
    """Our data set of ``root/tiny``."""
    return MMM4RecDataset(make_config(root, **{"is_time": True, **settings}))


def six_users(root: Path) -> Path:
    """A data set of six users with one to nine interactions with i0 to i6, and random text vectors of i0 to i8."""
    write_inter(root, rows_of([9, 1, 5, 2, 7, 4]))
    write_vectors(root, ITEMS)
    return root
