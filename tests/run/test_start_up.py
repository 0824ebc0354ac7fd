"""What a run imports: nothing large that it does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_data import NAME, six_users

UNUSED = [
    "sklearn",
    "scipy.stats",
    "ray",
    "matplotlib",
    "hyperopt",
    "wandb",
    "lightgbm",
    "xgboost",
    "plotly",
    "duckdb",
    "tensorflow",
    "transformers",
    "timm",
    "sentence_transformers",
    "open_clip",
    "torchvision",
    "torch._inductor.compile_fx",
    "pandas.plotting._matplotlib",
    "IPython",
    "recbole.quick_start.quick_start",
    "recbole.model.general_recommender.bpr",
    "recbole.model.context_aware_recommender.fm",
    "recbole.model.sequential_recommender.sine",
]

PROGRAM = """
import json, sys
from recbole_mmm4rec.run.cli import main
code = main({arguments!r})
print(json.dumps([code, [name for name in {unused!r} if name in sys.modules]]))
"""


SMALL = {
    "MMM4Rec": {"hidden_size": 16, "inner_size": 16, "d_state": 8, "n_groups": 1, "head_dim": 16},
    "GRU4Rec": {"embedding_size": 8, "hidden_size": 8},
}


@pytest.mark.parametrize("model", SMALL)
def test_a_run_imports_nothing_large_that_it_does_not_use(tmp_path: Path, model: str) -> None:
    six_users(tmp_path)
    settings = {"data_path": tmp_path, "epochs": 1, "MAX_ITEM_LIST_LENGTH": 5, "topk": [3], "valid_metric": "Hit@3"}
    settings |= SMALL[model]
    arguments = [f"--model={model}", f"--dataset={NAME}", *(f"--{key}={value}" for key, value in settings.items())]
    neighbours = ["recbole.model.sequential_recommender.sine"]  # in the package of RecBole's own sequential models
    unused = [name for name in UNUSED if model == "MMM4Rec" or name not in neighbours]
    program = PROGRAM.format(arguments=arguments, unused=unused)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TRITON_INTERPRET": "0"}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout.splitlines()[-1]) == [0, []], run.stderr


def test_a_model_is_loaded_without_pytorchs_compiler(model_folder: Path) -> None:
    """Its import takes longer than a recommendation; initial weights of tensors without memory would ask for it."""
    program = f"import sys\nfrom recbole_mmm4rec import Recommender\nRecommender.load({str(model_folder)!r})\n"
    program += "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
