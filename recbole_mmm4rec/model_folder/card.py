"""``MODEL_CARD.md``: what a model was trained on, how good it is, what it cannot do, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from recbole_mmm4rec.model_folder.contents import Contents

_HEAD = """\
---
library_name: recbole-mmm4rec
tags:
- recommender-system
- sequential-recommendation
- multi-modal
---
# {model} on {dataset}

The next item of a customer, from the items before, their texts and pictures: multi-modal Mamba
([arXiv 2506.02916](https://arxiv.org/abs/2506.02916)) as `recbole-mmm4rec` trains it.

```
mmm4rec recommend DIR --history "{history}"
```
"""
_LIMITS = """\
## Limits

- It knows the items of this shop, and those that are added later by text or picture. Of a history the newest
  {max_len} items count.
- It learned what customers of this shop took next, popular items more often than others. It says nothing about why, and
  repeats what the data hold, their habits and gaps among them.
- The metrics rank all items once for each customer, for an item that was left out of training. They do not say what a
  list does when it is shown to people.
- Scores order items of one list. They are no probabilities and are not comparable across models.
- Texts, pictures and interactions of the shop are part of this folder: whoever has it can read them.
"""


def card_of(contents: Contents) -> str:
    """The text of the card."""
    items = contents.items
    popular = np.argsort(-items["popularity"].to_numpy(), kind="stable")[:2]
    history = " ".join(items["item_id"][int(row)].as_py() for row in popular)
    parts = [
        _HEAD.format(model=contents.model, dataset=contents.dataset, history=history),
        _data(contents),
        _metrics(contents),
        _settings(contents),
        _LIMITS.format(max_len=contents.network.config.max_len),
    ]
    if contents.run.get("command"):
        parts.append(_again(contents.run["command"], contents.run.get("before")))
    return "\n".join(parts)


def _again(command: str, before: str | None) -> str:
    """How to make it again; of an updated model also what made the one that it went on from."""
    text = f"## How to make it again\n\n```\n{command}\n```\n\n"
    if before:
        text += f"with the same tables, from the model that this command made:\n\n```\n{before}\n```\n\n"
    return text + "with the same data set; `manifest.json` names the versions of all that took part.\n"


def _data(contents: Contents) -> str:
    items, table = contents.items, contents.interactions
    rows = [("items", f"{items.num_rows:,}")]
    if table is not None and table.num_rows:
        users = table["user_id"].cast(pa.string()).combine_chunks().dictionary_encode().indices.to_numpy()
        sizes, trained = np.bincount(users), int((table["part"].to_numpy() == 0).sum())
        times = table["timestamp"].to_numpy()
        rows[:0] = [("users", f"{len(sizes):,}")]
        rows += [
            ("interactions", f"{table.num_rows:,}, of them {trained:,} for training"),
            ("interactions of a user", f"{sizes.mean():.1f} (median {np.median(sizes):.0f}, most {sizes.max()})"),
            ("filled", f"{table.num_rows / (len(sizes) * items.num_rows):.3%} of users × items"),
            ("from, to", f"{_day(times.min())}, {_day(times.max())}"),
        ]
    for name in ("text", "image"):
        share = float(np.mean(items[f"has_{name}"].to_numpy()))
        encoder = contents.encoders.get(name, {}).get("encoder")
        used = f", encoded by {encoder}" if encoder else ", not used"
        rows.append((f"items with {'a text' if name == 'text' else 'a picture'}", f"{share:.1%}{used}"))
    return "## Data\n\n" + _table(("", contents.dataset), rows)


def _day(seconds: Any) -> str:
    try:
        return datetime.fromtimestamp(int(seconds), timezone.utc).date().isoformat()
    except (OverflowError, OSError, ValueError):
        return str(int(seconds))


def _metrics(contents: Contents) -> str:
    found = contents.metrics
    if not found.get("test"):
        return ""
    without = found.get("without", {})
    named = {"text": "texts", "image": "pictures"}
    head = ("", "validation", "test", *(f"test without {named.get(name, name)}" for name in without))
    rows = []
    for name, value in found["test"].items():
        valid = found.get("valid", {}).get(name)
        cells = ["" if valid is None else f"{valid:.4f}", _cell(value)]
        rows.append((name, *cells, *(_cell(part.get(name)) for part in without.values())))
    text = "## Metrics\n\n" + _table(head, rows)
    if found.get("users"):
        text += f"\nIn brackets: 95 % interval over the {found['users']:,} users of the test (percentile bootstrap).\n"
    return text + (
        "Without texts or pictures: the same weights, asked as if no item had any; what is left is the other modality, "
        f"the IDs{', neighbours' if contents.counts is not None else ''} and the time.\n"
    )


def _cell(value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    if "low" not in value:
        return f"{value['value']:.4f}"
    return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


def _settings(contents: Contents) -> str:
    config = contents.network.config
    weights = contents.network.named_parameters()
    network = sum(value.numel() for name, value in weights if not name.startswith("items.bias."))
    rows = [(f"`{name}`", f"{getattr(config, name)}") for name in config.setting_names()]
    if contents.neighbours is not None:
        rows += [(f"`neighbour_{name}`", str(value)) for name, value in contents.neighbours.items()]
    rows.append(("parameters without ID tables", f"{network:,}"))
    keys = ("seed", "learning_rate", "train_batch_size", "loss_type", "label_smoothing", "weight_decay", "valid_metric")
    rows += [(f"`{key}`", str(contents.run[key])) for key in keys if key in contents.run]
    return "## Settings\n\n" + _table(("", ""), rows)


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
