"""A small shop in RecBole's format, and processes that import the plug-in afresh."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {
    "epochs": 1,
    "train_batch_size": 512,
    "embedding_size": 8,
    "hidden_size": 8,
    "inner_size": 8,
    "n_layers": 1,
    "n_heads": 1,
    "MAX_ITEM_LIST_LENGTH": 5,
    "show_progress": False,
    "state": "ERROR",
}
"""Settings that make any model run in a second."""
GRAPH = {
    "inter": ["user_id", "item_id", "timestamp"],
    "kg": ["head_id", "relation_id", "tail_id"],
    "link": ["item_id", "entity_id"],
}
"""``load_col`` of a shop with a graph."""


def write_shop(folder: Path, name: str = "shop", users: int = 30, items: int = 20, seed: int = 0) -> pd.DataFrame:
    """Write ``folder/name/name.inter``: time stamps seconds apart near 1.5e9, in no order, some equal.

    Returns:
        The table in the order of the file, tokens as text.
    """
    generator = np.random.default_rng(seed)
    rows = [
        (f"u{user}", f"i{item}", 1_500_000_000 + int(second))
        for user in range(users)
        for item, second in zip(generator.permutation(items)[:10], generator.integers(0, 60, 10), strict=True)
    ]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).sample(frac=1, random_state=seed)
    table = table.reset_index(drop=True)
    (folder / name).mkdir(parents=True)
    header = ["user_id:token", "item_id:token", "timestamp:float"]
    table.to_csv(folder / name / f"{name}.inter", sep="\t", index=False, header=header)
    return table


def write_graph(folder: Path, name: str = "shop", items: int = 20) -> None:
    """Write ``.kg`` and ``.link`` beside the shop: each item an entity, two relations."""
    triples = "".join(f"e{number}\tr{number % 2}\te{(number + 3) % items}\n" for number in range(items))
    (folder / name / f"{name}.kg").write_text(f"head_id:token\trelation_id:token\ttail_id:token\n{triples}")
    links = "".join(f"i{number}\te{number}\n" for number in range(items))
    (folder / name / f"{name}.link").write_text(f"item_id:token\tentity_id:token\n{links}")


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Small settings for a shop in ``folder``; everything that is written lands there, too."""
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    return {**SMALL, "data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "load_col": columns, **changes}


def prepare(config: Any) -> tuple[Any, Any, Any, Any]:
    """Data set, training, validation and test loader, as RecBole makes them."""
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import init_seed

    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    return dataset, *data_preparation(config, dataset)


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a new process that can import the plug-in."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
