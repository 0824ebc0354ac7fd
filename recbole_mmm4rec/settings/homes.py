"""Our models, and where each is at home; imported with the package, so nothing large is."""

from __future__ import annotations

MODELS = ("MMM4Rec",)
"""Names of our models, which have a network of ours."""

HOMES = {"MMM4Rec": "recbole_mmm4rec.model", "Neighbours": "recbole_mmm4rec.scoring.alone"}
"""The module of each class that ``--model`` may name and this plug-in brings: our models, and the counts alone."""

MODEL_MODULES = {f"recbole.model.sequential_recommender.{name.lower()}": name for name in HOMES}
"""Where RecBole looks for them (recbole/utils/utils.py:72)."""
