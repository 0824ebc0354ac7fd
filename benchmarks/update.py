"""Whether yesterday's model, gone on with, is as good as one trained anew, and how long each takes.

    python -m benchmarks.update --data dataset --sets online-retail ml-1m --out build/update

A set is split in two: yesterday and what is new. Where times are real, by time: what is after the 90 % quantile of all
time stamps is new. Where only the order of each user's items is known (--by-order), each user's last tenth is new, and
so is all of every twentieth user. Items that yesterday had none of come as new items with their vectors. Three runs:
training on yesterday, `mmm4rec update` with the rest, training anew on all. Test metrics are those of each user's last
item of all; a standard error is a quarter of the width of the 95 % interval over users that the model folder holds.
Processor seconds are of the whole run, data and test included.

OUT/NAME.jsonl has a line a finished run; the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.cold_split import HEADER, write_part
from benchmarks.results_log import RunLog
from benchmarks.standing import standing_in
from benchmarks.suite import say
from benchmarks.transfer.sets import set_hashes
from dataset_prep.files.set_files import SetFiles
from recbole_mmm4rec.base.command_line import Parser, command
from recbole_mmm4rec.base.files import writable_folder
from recbole_mmm4rec.features.store import FeatureStore
from recbole_mmm4rec.model_folder.read import Folder
from recbole_mmm4rec.recommend.update import update
from recbole_mmm4rec.run.quick_start import run_recbole
from recbole_mmm4rec.settings.reading import read_yaml

SMALL = machine.ROOT / "properties" / "model" / "MMM4Rec-small.yaml"
COMMON: dict[str, Any] = {
    "stopping_step": 3,
    "train_unit": "user",
    "resume": False,
    "show_progress": sys.stderr.isatty(),
    "state": "WARNING",
}
METRICS = ("hit@10", "ndcg@10")


def split(files: SetFiles, by_order: bool) -> tuple[list[list[str]], list[list[str]]]:
    """Yesterday's interactions and the new ones, as rows of user, item and time."""
    rows = list(files.interactions())
    if not by_order:
        cut = np.quantile([float(stamp) for _, _, stamp in rows], 0.9)
        return [row for row in rows if float(row[2]) <= cut], [row for row in rows if float(row[2]) > cut]
    old: list[list[str]] = []
    new: list[list[str]] = []
    for user, group in groupby(rows, key=lambda row: row[0]):
        taken = list(group)
        is_new = hashlib.sha256(user.encode()).digest()[0] % 20 == 0
        kept = 0 if is_new else len(taken) - max(1, round(0.1 * len(taken)))
        old += taken[:kept]
        new += taken[kept:]
    return old, new


def prepare(files: SetFiles, by_order: bool, folder: Path) -> dict[str, Any]:
    """Write yesterday's set and the tables of what is new; returns sizes and the arguments of an update."""
    old, new = split(files, by_order)
    home = folder / "yesterday" / files.name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / f"{files.name}.inter").write_text(HEADER + "".join("\t".join(row) + "\n" for row in old), encoding="utf-8")
    for name in (files.file("item").name, "features"):
        (home / name).symlink_to((files.folder / name).resolve())
    with (folder / "new.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["user_id", "item_id", "timestamp"], *new])
    items = sorted({row[1] for row in new} - {row[1] for row in old})
    given: dict[str, Any] = {"interactions": folder / "new.csv"}
    if items:
        given |= _items(files, items, folder)
    sizes = {"yesterday": len(old), "new": len(new), "new users": len({r[0] for r in new} - {r[0] for r in old})}
    return {"given": given, "sizes": sizes | {"new items": len(items)}}


def _items(files: SetFiles, items: Sequence[str], folder: Path) -> dict[str, Any]:
    """The table of new items with the vectors that the set has of them."""
    text = dict(zip(files.tokens(), files.values("text"), strict=True))
    stores = {file.name: FeatureStore.open(file) for file in sorted((files.folder / "features").iterdir())
              if file.name in ("text", "image")}  # fmt: skip
    found = {name: store.align(items) for name, store in stores.items()}
    rows = []
    for at, item in enumerate(items):
        row: dict[str, Any] = {"item_id": item, "text": text.get(item, "")}
        row |= {f"{name}_vector": vectors[at] for name, (vectors, there) in found.items() if there[at]}
        rows.append(row)
    return {"items": rows}


def measured(work: Callable[[], Path]) -> dict[str, Any]:
    """Processor seconds of a run and the metrics of the model folder that it gives."""
    began = time.process_time()
    folder = work()
    seconds = time.process_time() - began
    found = Folder(folder).json("metrics.json")
    return {
        "folder": str(folder),
        "cpu_seconds": round(seconds, 1),
        "users": found["users"],
        "test": {name: found["test"][name] for name in METRICS},
    }


def train(data: Path, name: str, settings: dict[str, Any], out: Path, target: Path) -> Path:
    """A training with its model folder at ``target``."""
    shutil.rmtree(target, ignore_errors=True)
    with standing_in(out):
        files, more = [str(SMALL)], {"data_path": str(data), "checkpoint_dir": str(out / "saved")}
        result = run_recbole("MMM4Rec", name, files, settings | more)
    shutil.move(result["model_folder"], target)
    shutil.rmtree(out / "saved", ignore_errors=True)
    return target


def report(name: str, sizes: dict[str, int], found: dict[str, dict[str, Any]]) -> str:
    """A set's table."""
    lines = [
        f"**{name}**: yesterday {sizes['yesterday']:,} interactions; {sizes['new']:,} new ones, with "
        f"{sizes['new users']:,} new users and {sizes['new items']:,} new items.",
        "",
        "| | test Hit@10 | NDCG@10 | processor seconds |",
        "|---|---|---|---|",
    ]
    for stage, result in found.items():
        cells = [f"{at['value']:.4f} ± {(at['high'] - at['low']) / 4:.4f}" for at in result["test"].values()]
        lines.append(f"| {stage} | {' | '.join(cells)} | {result['cpu_seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, write the tables; status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out.resolve()
    writable_folder(out, f"--out {arguments.out}")
    settings = read_yaml(arguments.settings, "--settings") if arguments.settings else {}
    settings = {**COMMON, **settings, "seed": arguments.seed}
    where = machine.stamp("cpu")
    for name in arguments.sets:
        files = SetFiles(name, arguments.data.resolve() / name)
        files.require()
        folder = out / name
        files = write_part(files, arguments.users, arguments.latest, folder / "all" / name)
        key = {"hardware": where["hardware"], "settings": settings, "by_order": name in arguments.by_order}
        log = RunLog(out / f"{name}.jsonl", {**key, **set_hashes([files])})
        plan = prepare(files, name in arguments.by_order, folder)
        yesterday, new = folder / "model-yesterday", folder / "model-updated"

        def go_on(given: dict[str, Any] = plan["given"], old: Path = yesterday, target: Path = new) -> Path:
            shutil.rmtree(target, ignore_errors=True)
            return update(old, **given, output=target, show_progress=False).folder

        def anew(name: str = name, folder: Path = folder) -> Path:
            return train(folder / "all", name, settings, folder, folder / "model-anew")

        def first(name: str = name, folder: Path = folder, target: Path = yesterday) -> Path:
            return train(folder / "yesterday", name, settings, folder, target)

        for stage, work in (("yesterday", first), ("updated", go_on), ("trained anew", anew)):
            if ("update", stage) not in log.found:
                say(f"{name}: {stage}")
                log.add("update", stage, where, measured(work))
        found = {stage: entry["result"] for (_, stage), entry in log.found.items()}
        text = report(name, plan["sizes"], found)
        (out / f"{name}.md").write_text(text, encoding="utf-8")
        print(text, flush=True)
        print(json.dumps(plan["sizes"]), flush=True)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.update", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("dataset"), metavar="PATH", help="folder of the data sets (%(default)s)")
    add("--sets", nargs="+", required=True, metavar="SET", help="with feature stores")
    add("--by-order", nargs="*", default=["ml-1m"], metavar="SET", help="those without real times (%(default)s)")
    add("--out", type=Path, default=machine.ROOT / "build" / "update", help="folder of all that comes out")
    add("--users", type=int, metavar="N", help="of a set, the first N by the hash of their ids (all)")
    add("--latest", type=int, metavar="N", help="of a user's interactions (all)")
    add("--seed", type=int, default=2020, metavar="N", help="of the trainings (%(default)s)")
    add("--settings", type=Path, metavar="FILE", help="further settings of all runs (YAML)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
