"""A model that began with a pre-training comes back as it was kept, whether the file of its start is there or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import NAME, pattern_settings, write_pattern_shop
from recbole.utils import get_trainer

from recbole_mmm4rec.run.quick_start import load_data_and_model, run_recbole

pytestmark = pytest.mark.usefixtures("own_folder")

SMALL: dict[str, Any] = {"n_layers": 1, "n_heads": 2, "hidden_size": 8, "inner_size": 12, "n_exps": 2}


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("MMM4Rec", {"frozen": ["transferred"], "unfreeze_after": 1, "learning_rates": {"transferred": 0.5}}),
        ("UniSRec", {"frozen": ["position_embedding"]}),
    ],
)
@pytest.mark.parametrize("there", [True, False], ids=["there", "gone"])
def test_the_start_is_behind_it(tmp_path: Path, model: str, changes: dict[str, Any], there: bool) -> None:
    write_pattern_shop(tmp_path)
    given = pattern_settings(tmp_path, epochs=2)
    if model == "UniSRec":
        given = {key: given[key] for key in ("data_path", "checkpoint_dir", "epochs", "topk") if key in given} | SMALL
        given |= {"modalities": ["text"], "MAX_ITEM_LIST_LENGTH": 5}
    first = run_recbole(
        model, NAME, config_dict={**given, "stage": "pretrain", "checkpoint_dir": str(tmp_path / "one")}
    )
    second = run_recbole(model, NAME, config_dict={**given, **changes, "pretrained": first["saved_model_file"]})
    if not there:
        for file in (tmp_path / "one").iterdir():
            file.unlink()
    config, loaded, _, _, _, test = load_data_and_model(second["saved_model_file"])
    before = {name: weight.clone() for name, weight in loaded.state_dict().items()}
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, loaded)
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.state_dict().items())
    assert trainer.evaluate(test, load_best_model=False) == second["test_result"]
