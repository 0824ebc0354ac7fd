"""Settings that name columns: the column's kind is looked at, and what is not applied is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import recbole_mmm4rec  # noqa: F401 (repairs RecBole)
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run.quick_start import run_recbole

pytestmark = pytest.mark.usefixtures("own_folder")


def shop(folder: Path, part: str = "") -> None:
    """Twelve users of six items each, with ratings of which none is below 1."""
    (folder / "shop").mkdir(parents=True, exist_ok=True)
    rows = [f"u{u}\ti{(u + n) % 9}\t{1 + n % 5}\t{100 + n}" for u in range(12) for n in range(6)]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "shop" / f"shop{part}.inter").write_text("\n".join([header, *rows]) + "\n")


def run(folder: Path, model: str = "BPR", **changes: Any) -> dict[str, Any]:
    given = {"data_path": str(folder), "epochs": 1, "load_col": None, "checkpoint_dir": str(folder / "saved")}
    given |= {"show_progress": False, "topk": [3], "valid_metric": "MRR@3", **changes}
    return run_recbole(model=model, dataset="shop", config_dict=given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"val_interval": {"item_id": "[3,inf)"}},
            "val_interval: item_id=.* token and needs a list of names",
        ),
        ({"val_interval": {"rating": ["3"]}}, "val_interval: rating=.* float and needs an interval such as"),
        ({"threshold": {"user_id": 3}}, "threshold: column 'user_id' is of type token, not of numbers"),
        ({"numerical_features": ["user_id"]}, "numerical_features: column 'user_id' is of type token, not of numbers"),
    ],
)
def test_a_column_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    shop(tmp_path)
    with pytest.raises(UserError, match=words):
        run(tmp_path, **changes)


def test_filters_of_ready_made_splits_are_said_to_be_idle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in (".train", ".valid", ".test"):
        shop(tmp_path, part)
    parts = ["train", "valid", "test"]
    run(tmp_path, benchmark_filename=parts, user_inter_num_interval="[100,inf)")
    assert "user_inter_num_interval: ready-made splits (benchmark_filename) are not filtered" in caplog.text


def test_a_column_that_no_file_has_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shop(tmp_path)
    run(tmp_path, load_col={"inter": ["user_id", "item_id", "timestamp", "nope"]})
    assert "load_col: no file of shop has the columns nope" in caplog.text


def test_a_validation_that_is_no_number_is_one_line(tmp_path: Path) -> None:
    shop(tmp_path)
    labels = {"threshold": {"rating": 0}, "metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}}
    with pytest.raises(UserError, match="valid_metric=AUC: no validation gave a number"):
        run(tmp_path, "FM", **labels)
