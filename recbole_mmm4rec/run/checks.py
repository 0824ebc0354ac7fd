"""What of a configuration RecBole would find out late, or never: refused in one line."""

from __future__ import annotations

from typing import Any

from recbole.config import Config
from recbole.data.dataloader import UserDataLoader
from recbole.data.utils import get_dataloader
from recbole.utils import EvaluatorType, InputType, ModelType

from recbole_mmm4rec.base.errors import UserError, did_you_mean


def check_valid_metric(config: Config) -> None:
    """Refuse a ``valid_metric`` that is not computed: RecBole would find that out after the first epoch."""
    names = {metric.lower() for metric in config["metrics"]}
    if config["eval_type"] == EvaluatorType.RANKING:
        whole = names & {"gauc"}  # which has no cut-off
        names = whole | {f"{name}@{k}" for name in names - whole for k in config["topk"]}
    if config["valid_metric"].lower() not in names:
        cut = next((name for name in sorted(names) if name.startswith(f"{config['valid_metric'].lower()}@")), None)
        hint = did_you_mean(cut or config["valid_metric"], sorted(names))
        raise UserError(
            f"valid_metric={config['valid_metric']!r} is not among the metrics that metrics={config['metrics']} and "
            f"topk={config['topk']} give{hint}"
        )


def check_negatives(config: Config) -> None:
    """Refuse a model that compares items with drawn ones without any; those of whole users draw none."""
    draws = config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE and get_dataloader(config, "train") is not UserDataLoader
    if draws and config["train_neg_sample_args"]["distribution"] == "none":
        raise UserError(
            f"train_neg_sample_args=None: {config['model']} compares each item with one that is drawn; leave it out, "
            "or write {'distribution': 'uniform', 'sample_num': 1}"
        )


def check_labels(config: Config, dataset: Any) -> None:
    """Refuse an evaluation or a training that compares with labels where there are none."""
    modes = sorted({config["eval_args"]["mode"][phase] for phase in ("valid", "test")})
    if "labeled" in modes and config["eval_type"] == EvaluatorType.RANKING:
        raise UserError(
            f"eval_args: mode labeled compares scores with labels, which metrics={config['metrics']} do not; set mode "
            "to full or uni100, or metrics such as ['AUC', 'LogLoss']"
        )
    learns = config["MODEL_TYPE"] in (ModelType.CONTEXT, ModelType.DECISIONTREE)
    makes = config["train_neg_sample_args"]["distribution"] != "none"
    label = config["LABEL_FIELD"]
    if label in dataset.field2type or not ("labeled" in modes or (learns and not makes)):
        return
    needed = "eval_args: mode labeled" if "labeled" in modes else config["model"]
    raise UserError(
        f"{needed} needs the column {label!r} (LABEL_FIELD), and loaded are {', '.join(dataset.field2type)}; load it "
        f"with load_col, make it from another column, as with threshold={{'rating': 3}}, or rank: metrics=['MRR'], "
        "valid_metric=MRR@10, mode full and train_neg_sample_args={'distribution': 'uniform', 'sample_num': 1}"
    )
