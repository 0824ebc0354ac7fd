"""What stands in an exported folder for a reader: how to use it, and what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from recbole_mmm4rec.base.machine import cores, processor
from recbole_mmm4rec.export import index as indexes
from recbole_mmm4rec.export.histories import real_histories
from recbole_mmm4rec.export.index import Measured
from recbole_mmm4rec.recommend.recommender import Recommender

NO_NEIGHBOURS = (
    "This model adds to its scores how often items were taken together (neighbours). Towers and indexes do not: their "
    "scores are the network's alone, as `recommend(…, neighbours=False)` gives them."
)

_USE = """\
```python
import json, faiss, numpy as np, onnxruntime

ids = json.load(open("items.json", encoding="utf-8"))      # place p of an index is ids[p], and item number p + 1
number = {{name: place + 1 for place, name in enumerate(ids)}}
tower, index = onnxruntime.InferenceSession("user_tower.onnx"), faiss.read_index("{index}")
history = {history}
known = [{known} for {each} in history if item in number]  # oldest first
seen, newest, found = {{item for item, *_ in known}}, known[-{length}:], []
if known:  # without a known item nothing is to be found: show what is popular
    row = np.zeros(({width}, 1, {length}), np.int64)
    row[:, 0, : len(newest)] = np.array(newest).T
    given = {{"items": row[0], "lengths": np.array([len(newest)]){stamps}}}
    scores, places = index.search(tower.run(None, given)[0], 10 + len(seen))
    found = [(ids[p], float(s)) for p, s in zip(places[0], scores[0]) if p >= 0 and p + 1 not in seen]
print(found[:10])
```
"""

_NEW = """\
## New items

`item_tower.onnx` takes {inputs} of items that the model was not trained with, and gives
`item_side`, the rows to add to an index (`index.add(rows)`, and their ids to `ids`), {vectors}.
The user tower knows the items of the export alone: a new item can be recommended at once, and counts in histories
once `mmm4rec add` and `mmm4rec export` have run. What made the features: `encoders.json` of the model folder.
"""


def readme(recommender: Recommender, measured: Sequence[Measured], onnx: bool) -> str:
    """README.md of an exported folder.

    Args:
        recommender: the model.
        measured: its indexes.
        onnx: whether the towers are there.
    """
    content = recommender.content.manifest
    lines = [
        f"# {content['model']} on {content['dataset']}, exported",
        "",
        "Scores are inner products of a user vector with the rows of an index. Nothing of PyTorch is needed:"
        " `pip install onnxruntime faiss-cpu`. What was measured: [report.md](report.md).",
        "",
    ]
    if onnx and measured:
        lines += ["## Recommend", "", "In this folder:", "", _use(recommender, fastest(measured))]
    elif onnx:
        lines += ["There is no index here: `mmm4rec export DIR --faiss` writes one.", ""]
    else:
        lines += ["There are no towers here: `mmm4rec export DIR --onnx` writes them.", ""]
    if onnx:
        inputs = ", ".join(
            f"`{name}` (n, {table.shape[1]}) float32 and `has_{name}` (n,) bool"
            for name, table in recommender.network.items.features.items()
        )
        vectors = " and ".join(f"`{name}_vector`" for name in recommender.modalities)
        lines += [_NEW.format(inputs=inputs, vectors=f"and {vectors}, what stands for them in a history")]
    if recommender.has_neighbours:
        lines += ["## What is not here", "", NO_NEIGHBOURS, ""]
    return "\n".join(lines)


def fastest(measured: Sequence[Measured]) -> str:
    """The kind of index that answers most queries a second among those that find nearly all."""
    good = [seen for seen in measured if seen.recall >= indexes.RECALL - 0.01] or list(measured)
    return max(good, key=lambda seen: seen.one).kind


def _use(recommender: Recommender, kind: str) -> str:
    found = real_histories(recommender, 8)
    row = int(found.lengths[:-2].argmax())  # the last two are a long one and a short one
    size = min(int(found.lengths[row]), 4)
    names = [recommender.items.ids[number - 1] for number in found.items[row, :size].tolist()]
    timed = found.timestamps is not None
    times = found.timestamps[row, :size].tolist() if found.timestamps is not None else names
    history = [list(pair) for pair in zip(names, times, strict=True)] if timed else names
    return _USE.format(
        index=f"index_{kind}.faiss",
        history=json.dumps(history, ensure_ascii=False) + ("  # ids, and seconds since 1970" if timed else ""),
        known="(number[item], time)" if timed else "(number[item],)",
        each="item, time" if timed else "item",
        width=2 if timed else 1,
        stamps=', "timestamps": row[1]' if timed else "",
        length=recommender.max_len,
    )


def report(
    recommender: Recommender, differences: Mapping[str, float], measured: Sequence[Measured], histories: int
) -> str:
    """report.md of an exported folder.

    Args:
        recommender: the model.
        differences: file to the largest difference between ONNX Runtime and PyTorch.
        measured: what was seen of each index.
        histories: how many were used.
    """
    items, width = len(recommender.items), recommender.side.fused.shape[1]
    lines = [
        f"# Export of {recommender.content.manifest['dataset']}",
        "",
        f"{items:,} items, vectors of {width} numbers, {histories:,} histories of real users, cut at any length. "
        f"{processor()}, {cores()} cores.",
        "",
    ]
    if differences:
        lines += ["| tower | largest difference between ONNX Runtime and PyTorch |", "| --- | --- |"]
        lines += [f"| {name} | {value:.1e} |" for name, value in differences.items()] + [""]
    if measured:
        lines += [*table(measured), ""]
        lines += [
            f"Search is set to a recall of {indexes.RECALL} on half of the histories, and measured on the other half. "
            "recall@10: share of the exact ten best that were found; of items with equal scores any counts. Queries a "
            "second of one core: one by one, and all at once.",
            "",
        ]
    if recommender.has_neighbours:
        lines += [NO_NEIGHBOURS, ""]
    return "\n".join(lines)


def table(measured: Sequence[Measured]) -> list[str]:
    """The rows of a table in Markdown, with its head."""
    head = "| index | search | recall@10 | queries a second of a core, one by one | all at once | built in, s | MB |"
    rows = [
        f"| {seen.kind} | {seen.setting} | {seen.recall:.3f} | {seen.one:,.0f} | {seen.many:,.0f} | {seen.seconds:.1f} "
        f"| {seen.bytes / 1e6:,.1f} |"
        for seen in measured
    ]
    return [head, "|" + " --- |" * 7, *rows]
