"""In which space a search by words or picture should compare, and what a history should count beside it.

    python -m benchmarks.searching --folders build/explanations/ml-100k-2020 build/explanations/scientific-2020

Takes model folders (benchmarks.explanations leaves some). Of items drawn, a query is one, two or three words of its
text, drawn; of a folder with pictures also its small picture, turned by a few degrees and cut at the edges. Counted is
how often the item itself is found first, and among ten:

- encoder: cosine with the features, in the encoder's own space;
- adapters: query and features through the model's adapter, without the ID tables;
- with IDs: the query through the adapter, compared with the item's vectors as the model uses them.

With a history: the query is one word of a user's next item, added to the model's scores for the history in different
weights; validation's items choose, test's are reported.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mmm4rec.base.command_line import Parser, command
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.recommend.search import cosines, standardised

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
SEED = 2020


def words_of(text: str, count: int, rng: np.random.Generator) -> str:
    """Some words of a text, drawn, in its order."""
    words = text.split()
    return " ".join(words[at] for at in sorted(rng.permutation(len(words))[:count]))


def ranks(scores: Tensor, own: Sequence[int]) -> np.ndarray:
    """(n,) places of items in rows of scores, (n, I+1); 1 is the best, ties count half."""
    value = scores.gather(1, torch.tensor(own).unsqueeze(1))
    above, equal = (scores > value).sum(1), (scores == value).sum(1) - 1
    return np.asarray(above + equal / 2 + 1)


def spaces(model: Recommender, modality: str, vectors: np.ndarray) -> dict[str, Tensor]:
    """Space → (n, I+1) cosines of queries."""
    found = {"encoder": torch.stack([cosines(model, modality, vector) for vector in vectors])}
    items, adapter = model.network.items, model.network.items.adapter[modality]
    queries = F.normalize(adapter(torch.as_tensor(vectors)), dim=1)
    for name, table in (
        ("adapters", adapter(items.features[modality].take(slice(None)))),
        ("with IDs", model.side.tables[modality]),
    ):
        found[name] = (queries @ F.normalize(table.float(), dim=1).T).masked_fill(
            torch.isinf(found["encoder"]), -torch.inf
        )
    return found


def altered(data: bytes, rng: np.random.Generator) -> bytes:
    """The same picture, turned by up to 8 degrees, cut at the edges, as a coarse JPEG."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = picture.size
    cut = rng.uniform(0.02, 0.1, 4) * [width, height, width, height]
    picture = picture.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    made = io.BytesIO()
    picture.crop((int(cut[0]), int(cut[1]), int(width - cut[2]), int(height - cut[3]))).save(made, "JPEG", quality=60)
    return made.getvalue()


def encoded(model: Recommender, modality: str, sources: Sequence[Any]) -> np.ndarray:
    """(n, F) vectors of queries."""
    encoder = model.encoders.get(modality)
    made = [
        encoder.encode([encoder.prepare(one) for one in sources[start : start + 64]])
        for start in range(0, len(sources), 64)
    ]
    return np.concatenate(made)


@torch.no_grad()
def own_items(model: Recommender, count: int) -> list[str]:
    """Lines of a table: how often an item is found by part of its text, and by its picture."""
    rng, lines = np.random.default_rng(SEED), []
    numbers = (rng.permutation(len(model.items))[:count] + 1).tolist()
    queries: list[tuple[str, str, list[int], list[Any]]] = []
    texts = dict(zip(numbers, model.items.texts(numbers), strict=True))
    chosen = [number for number in numbers if len(texts[number].split()) >= 3]
    if "text" in model.modalities:
        for size in (1, 2, 3):
            sources = [words_of(texts[number], size, rng) for number in chosen]
            queries.append((f"{size} of its words", "text", chosen, sources))
    if "image" in model.modalities:
        pictures = {number: model.items.picture(model.items.ids[number - 1]) for number in numbers}
        there = [number for number in numbers if pictures[number] is not None]
        queries.append(("its picture, altered", "image", there, [altered(pictures[one] or b"", rng) for one in there]))
    for name, modality, own, sources in queries:
        for space, scores in spaces(model, modality, encoded(model, modality, sources)).items():
            found = ranks(scores, own)
            rates = " | ".join(_rate(found <= at) for at in (1, 10))
            lines.append(f"| {model.folder.name}, {name} | {space} | {rates} | {len(own):,} |")
    return lines


@torch.no_grad()
def with_history(model: Recommender, count: int) -> list[str]:
    """Lines of a table: how often a user's next item is found by one of its words and the history."""
    table = model.content.table("interactions.parquet").to_pandas()
    lines = []
    for part, label in ((1, "validation"), (2, "test")):
        rng = np.random.default_rng([SEED, part])
        users = []
        for _, rows in table.groupby("user_id", observed=True, sort=True):
            place = np.flatnonzero(rows["part"].to_numpy() == part)
            if (
                len(place)
                and place[0] >= 1
                and len(model.items.texts([int(rows["item"].iloc[place[0]])])[0].split()) >= 3
            ):
                users.append((rows["item"].tolist()[: place[0] + 1], rows["timestamp"].tolist()[: place[0]]))
        users = [users[at] for at in rng.permutation(len(users))[:count]]
        own = [items[-1] for items, _ in users]
        vectors = encoded(model, "text", [words_of(text, 1, rng) for text in model.items.texts(own)])
        query = torch.stack([standardised(cosines(model, "text", vector)) for vector in vectors])
        ids = model.items.ids
        histories = [[ids[number - 1] for number in items[:-1]] for items, _ in users]
        scores = torch.from_numpy(model.scores(histories, timestamps=[times for _, times in users]))
        liked = torch.cat([torch.zeros(len(users), 1), torch.stack([standardised(row) for row in scores])], 1)
        arms = {f"history × {weight:g}": query + weight * liked for weight in WEIGHTS}
        arms["history alone"] = liked.masked_fill(torch.isinf(query), -torch.inf)
        for name, values in arms.items():
            found = ranks(values, own)
            rates = " | ".join(_rate(found <= at) for at in (1, 10))
            lines.append(
                f"| {model.folder.name}, {label} | {name} | {rates} | {(1 / found).mean():.3f} | {len(own):,} |"
            )
    return lines


def _rate(hits: np.ndarray) -> str:
    return f"{100 * hits.mean():.1f} ± {100 * hits.std(ddof=1) / len(hits) ** 0.5:.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    parser = Parser(prog="python -m benchmarks.searching", description=__doc__)
    parser.add_argument("--folders", nargs="+", type=Path, required=True, metavar="DIR", help="model folders")
    parser.add_argument("--count", type=int, default=500, metavar="N", help="items and users of each (%(default)s)")
    return command(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    models = [Recommender.load(folder) for folder in arguments.folders]
    print("| folder, query | space | first | among ten | items |\n|---|---|---|---|---|")
    for model in models:
        print("\n".join(own_items(model, arguments.count)), flush=True)
    print("\n| folder, next items of | weight | first | among ten | MRR | users |\n|---|---|---|---|---|---|")
    for model in models:
        if "text" in model.modalities:
            print("\n".join(with_history(model, arguments.count)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
