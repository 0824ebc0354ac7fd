"""Our models, and where each is at home; imported with the package, so nothing large is."""

from __future__ import annotations

MODELS = ("MMM4Rec",)
"""Names of our models, which have a network of ours."""

PRETRAINED = (*MODELS, "UniSRec")
"""Models that can be pre-trained (``stage: pretrain``) and start from that (``pretrained``)."""

STARTS = ("pretrained", "pretrained_layers", "frozen", "unfreeze_after", "learning_rates")
"""What a training starts from and how it goes on; ignored by a model that has no such thing."""

RIVALS = {
    "Mamba4Rec": "recbole_mmm4rec.rivals.mamba4rec",
    "TiM4Rec": "recbole_mmm4rec.rivals.tim4rec",
    "UniSRec": "recbole_mmm4rec.rivals.unisrec",
}
"""Models of others, written anew here (docs/rivals.md), and the module of each."""

HOMES = {"MMM4Rec": "recbole_mmm4rec.model", "Neighbours": "recbole_mmm4rec.scoring.alone", **RIVALS}
"""The module of each class that ``--model`` may name and this plug-in brings: our models, the counts alone, rivals."""

_OWN = "recbole_mmm4rec.data.dataset:MMM4RecDataset"
_IDS = "recbole_mmm4rec.rivals.ids:IdsAlone"
DATASETS = {**dict.fromkeys(MODELS, _OWN), "Mamba4Rec": _IDS, "TiM4Rec": _IDS, "UniSRec": _OWN}
"""The class of the data set of each model that does not take RecBole's."""

TRAINERS = {
    **dict.fromkeys(MODELS, "recbole_mmm4rec.training.trainer:MMM4RecTrainer"),
    **dict.fromkeys(RIVALS, "recbole_mmm4rec.training.in_pieces:RanksInPieces"),
    "Neighbours": "recbole_mmm4rec.training.counting:NeighboursTrainer",
}
"""The class of the trainer of each model that does not take RecBole's."""

MODEL_MODULES = {f"recbole.model.sequential_recommender.{name.lower()}": name for name in HOMES}
"""Where RecBole looks for them (recbole/utils/utils.py:72)."""
