"""Whether the past items that an explanation names are those that carried the score.

    python -m benchmarks.explanations --data dataset --sets ml-100k scientific --out build/explanations

Of each set two small models with neighbours are trained, which differ in their seed. Test users with two past items or
more are drawn; their history is what came before their last item. Explained are the best recommendation and the last
item itself, with neighbours and without. Then past items are taken away once more, by the recommender's `scores` and
not by the explanation's own code, and it is counted how often that of the named one does more than that of another one,
every other one in turn. By chance that is half.

- score: the score falls further. An explanation finds its drops by leaving items out; this says that it does.
- probability: the item's share of the softmax over all items falls further. All scores move; not by construction.
- other seed: the score that the other model gives falls further. Not by construction.
- two: the first two named against two others drawn, ten draws; of histories of four or more. Not by construction.
- by shares: the item with the largest exact share of the neighbours' part, judged by the whole score.
- newest: the newest item in place of the named one, for comparison.

Models stay in OUT, results in OUT/SET.json; the same command goes on after a kill. OUT/table.md has all there is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import machine
from benchmarks.standing import standing_in
from benchmarks.suite import say
from recbole_mmm4rec.base.command_line import Parser, command
from recbole_mmm4rec.base.files import whole_file
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.run.quick_start import run_recbole

FILES = [machine.ROOT / "properties" / "model" / f"MMM4Rec-{name}.yaml" for name in ("small", "neighbours")]
SETTINGS: dict[str, Any] = {
    "train_unit": "user",
    "valid_metric": "Hit@10",
    "epochs": 5,
    "show_progress": False,
    "state": "WARNING",
}
SEEDS = (2020, 2021)
PAIRS = 10
FIGURES = ("score", "probability", "other seed", "two", "by shares", "newest")


def trained(data: Path, name: str, seed: int, out: Path) -> Recommender:
    """A model of a set, trained if it is not there."""
    folder = out / f"{name}-{seed}"
    if not folder.exists():
        say(f"{name}: training with seed {seed}")
        (out / "saved").mkdir(parents=True, exist_ok=True)
        places = {"data_path": str(data), "checkpoint_dir": str(out / "saved"), "seed": seed}
        with standing_in(out):
            files = [str(file) for file in FILES]
            result = run_recbole("MMM4Rec", name, config_file_list=files, config_dict={**SETTINGS, **places})
        Path(result["model_folder"]).rename(folder)
    return Recommender.load(folder)


def test_users(model: Recommender, count: int, seed: int) -> list[tuple[list[str], list[int], str]]:
    """Histories of two items or more with their times, cut to the newest L, and the items that came next."""
    table = model.content.table("interactions.parquet").to_pandas()
    found = []
    for _, rows in table.groupby("user_id", observed=True, sort=True):
        if rows["part"].iloc[-1] == 2 and len(rows) >= 3:
            items = [model.items.ids[number - 1] for number in rows["item"]]
            kept = slice(-model.max_len - 1, -1)
            found.append((items[kept], rows["timestamp"].tolist()[kept], items[-1]))
    order = np.random.default_rng(seed).permutation(len(found))[:count]
    return [found[place] for place in sorted(order)]


class Judge:
    """What taking past items away does to scores, by one model and one user.

    Args:
        model: of one seed.
        history, times: of the user.
        removed: places that are taken away together, one tuple a case.
        neighbours: as for the recommender.
    """

    def __init__(
        self,
        model: Recommender,
        history: list[str],
        times: list[int],
        removed: list[tuple[int, ...]],
        neighbours: bool | None,
    ) -> None:
        cases = [(), *removed]
        kept = [[at for at in range(len(history)) if at not in case] for case in cases]
        lists, stamps = ([[part[at] for at in places] for places in kept] for part in (history, times))
        self.model = model
        self.scores = torch.from_numpy(model.scores(lists, timestamps=stamps, neighbours=neighbours)).double()
        self.shares = self.scores.log_softmax(1)

    def drops(self, item: str, probability: bool = False) -> np.ndarray:
        """(cases,) what the score, or the logarithm of the probability, of an item loses."""
        column = (self.shares if probability else self.scores)[:, self.model.items.known(item) - 1]
        return (column[0] - column[1:]).numpy()


def judged(models: Sequence[Recommender], user: Any, neighbours: bool | None, rng: np.random.Generator) -> list[Any]:
    """Of one user's best item and next item: figure → share of the others that do less, and how exact the sum is."""
    history, times, target = user
    length, model = len(history), models[0]
    singles: list[tuple[int, ...]] = [(at,) for at in range(length)]
    best = model.recommend(history, 1, timestamps=times, neighbours=neighbours).items[0].item
    told = {
        kind: model.explain(history, item, timestamps=times, neighbours=neighbours)
        for kind, item in (("best", best), ("next", target))
    }
    cases = list(singles)
    if length >= 4:
        for found in told.values():
            two = [one.position for one in found.past[:2]]
            others = [at for at in range(length) if at not in two]
            cases += [tuple(two)] + [tuple(rng.choice(others, 2, replace=False)) for _ in range(PAIRS)]
    own = Judge(model, history, times, cases, neighbours)
    other = Judge(models[1], history, times, singles, neighbours)
    made = []
    for place, (kind, found) in enumerate(told.items()):
        item, named = found.item, found.past[0].position
        drops = own.drops(item)
        row: dict[str, Any] = {
            "item": kind,
            "score": beaten(drops[:length], named),
            "probability": beaten(own.drops(item, probability=True)[:length], named),
            "other seed": beaten(other.drops(item), named),
            "newest": beaten(drops[:length], length - 1),
            "is newest": named == length - 1,
            "difference": abs(float(own.scores[0, model.items.known(item) - 1]) - found.score),
        }
        if length >= 4:
            pairs = drops[length + place * (PAIRS + 1) :][: PAIRS + 1]
            row["two"] = beaten(pairs, 0)
        if found.neighbours:
            row["by shares"] = beaten(drops[:length], max(found.past, key=lambda one: one.neighbours).position)
        made.append(row)
    return made


def beaten(drops: np.ndarray, named: int) -> float:
    """The share of the other cases whose drop is smaller; of equal ones half."""
    others = np.delete(drops, named)
    return float(((drops[named] > others) + 0.5 * (drops[named] == others)).mean())


def carry_out(data: Path, name: str, users: int, out: Path) -> dict[str, Any]:
    """Train what is missing, and judge."""
    models = [trained(data, name, seed, out) for seed in SEEDS]
    asked = test_users(models[0], users, SEEDS[0])
    rng = np.random.default_rng(SEEDS[0])
    rows: dict[str, list[Any]] = {}
    for label, neighbours in (("with neighbours", None), ("without", False)):
        bar = tqdm(asked, desc=f"{name}, {label}", disable=not sys.stderr.isatty())
        rows[label] = [row for user in bar for row in judged(models, user, neighbours, rng)]
    return {"users": len(asked), "stamp": machine.stamp("cpu"), "figures": summary(rows)}


def summary(rows: dict[str, list[Any]]) -> dict[str, Any]:
    """For each kind of model and item: figure → mean, standard error over users, users."""
    made: dict[str, Any] = {}
    for label, found in rows.items():
        for kind in ("best", "next"):
            chosen = [row for row in found if row["item"] == kind]
            values = {name: np.array([row[name] for row in chosen if name in row]) for name in FIGURES}
            made[f"{label}, {kind}"] = {
                name: [float(part.mean()), float(part.std(ddof=1) / len(part) ** 0.5), len(part)]
                for name, part in values.items()
                if len(part) > 1
            } | {
                "is newest": float(np.mean([row["is newest"] for row in chosen])),
                "difference": max(row["difference"] for row in chosen),
            }
    return made


def table(results: dict[str, dict[str, Any]]) -> str:
    """All that is there, in percent."""
    lines = [f"| set, model, item | {' | '.join(FIGURES)} | named is the newest | largest difference |"]
    lines.append("|---" * (len(FIGURES) + 3) + "|")
    for name, result in results.items():
        for label, found in result["figures"].items():
            cells = [_cell(found.get(figure)) for figure in FIGURES]
            cells += [f"{100 * found['is newest']:.0f}", f"{found['difference']:.1g}"]
            lines.append(f"| {name}, {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(figure: list[Any] | None) -> str:
    return "" if figure is None else f"{100 * figure[0]:.1f} ± {100 * figure[1]:.1f} ({figure[2]:,})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, write the table; status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in arguments.sets:
        file = out / f"{name}.json"
        if not file.exists():
            found = carry_out(arguments.data.resolve(), name, arguments.users, out)
            with whole_file(file) as made:
                made.write(json.dumps(found, indent=1).encode())
        results[name] = json.loads(file.read_text(encoding="utf-8"))
    (out / "table.md").write_text(table(results), encoding="utf-8")
    print(table(results), end="")
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.explanations", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("dataset"), metavar="PATH", help="folder of the data sets (%(default)s)")
    add("--sets", nargs="+", required=True, metavar="SET", help="with feature stores")
    add("--out", type=Path, default=machine.ROOT / "build" / "explanations", help="folder of all that comes out")
    add("--users", type=int, default=200, metavar="N", help="test users of a set, drawn (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
