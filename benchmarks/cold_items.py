"""How well a trained model recommends items that it was not trained on.

    python -m benchmarks.cold_items --data dataset --sets scientific beauty-2014 ml-1m --out build/cold_items

A tenth of a set's items, drawn with a seed, is left out: no training, no history has them. Then they are added by their
features alone, and the users whose last item is among them are asked for: Hit@10 among all items and among the new ones
alone, beside chance, popularity, and a model of the same settings that was trained on everything ("warm"). Trainings of
a set: warm, and without the items: no ID tables; with them. What stands in for the ID row of a new item: nothing
(zeros), the mean of the trained rows, that of the items with the nearest features. The price is Hit@10 of the users
whose next item was trained, before and after the new ones are added.

OUT/NAME.jsonl has a line a finished training, on disk before the next one begins; the same command goes on after a
kill. --report writes OUT/NAME.md of what is there. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.cold_split import History, counts, draw_items, histories_of, write_part, write_without
from benchmarks.results_log import RunLog
from benchmarks.standing import standing_in
from benchmarks.suite import say
from benchmarks.transfer.sets import set_hashes
from dataset_prep.files.set_files import SetFiles
from recbole_mmm4rec.base.command_line import Parser, command
from recbole_mmm4rec.base.files import writable_folder
from recbole_mmm4rec.features.store import FeatureStore
from recbole_mmm4rec.network.new_items import rows_of_nearest, side_of_new_items
from recbole_mmm4rec.run.build import build, make_config
from recbole_mmm4rec.settings.reading import read_yaml
from recbole_mmm4rec.training.history import best_epoch

SMALL = machine.ROOT / "properties" / "model" / "MMM4Rec-small.yaml"
COMMON: dict[str, Any] = {
    "neighbour_weight": 0,
    "valid_metric": "Hit@10",
    "stopping_step": 3,
    "train_unit": "user",
    "resume": False,
    "show_progress": sys.stderr.isatty(),
    "state": "WARNING",
}
K = 10
BEFORE = "before"
"""The new items are not there yet."""


ARMS: dict[str, dict[str, Any]] = {"warm": {}, "no ID": {"is_modality_bias": False}, "ID": {}}
"""The trainings of a set by name, with what is particular to each."""


class Judge:
    """Ranks of targets by one trained model.

    Args:
        run: trained, with its best weights.
        new: ids of the items that are added.
        features: folder of the feature stores.
    """

    def __init__(self, run: Any, new: Sequence[str], features: Path) -> None:
        self.network, self.L = run.model.network.eval(), run.config["MAX_ITEM_LIST_LENGTH"]
        tokens = run.dataset.field2id_token[run.dataset.iid_field]
        self.number = {token: number for number, token in enumerate(tokens) if number}
        self.added = [item for item in new if item not in self.number]
        self.new = torch.zeros(len(tokens) + len(self.added), dtype=torch.bool)
        self.side = self.network.items.side()
        self.features, self.present = {}, {}
        for name in self.network.items.modalities:
            vectors, there = FeatureStore.open(features / name).align(self.added)
            self.features[name], self.present[name] = torch.from_numpy(vectors), torch.from_numpy(there)
        self.column = dict(self.number) | {item: len(tokens) + at for at, item in enumerate(self.added)}
        self.new[[self.column[item] for item in new]] = True

    @torch.no_grad()
    def users(self, histories: Sequence[History]) -> Tensor:
        """(B, D) user vectors; every history has an item that the model knows."""
        made = []
        for start in range(0, len(histories), 1024):
            part = histories[start : start + 1024]
            items, stamps = torch.zeros(len(part), self.L).long(), torch.zeros(len(part), self.L).long()
            lengths = torch.tensor([min(len(one.items), self.L) for one in part])
            for row, (one, length) in enumerate(zip(part, lengths.tolist(), strict=True)):
                items[row, :length] = torch.tensor([self.number[item] for item in one.items[-length:]])
                stamps[row, :length] = torch.tensor(one.stamps[-length:])
            made.append(self.network.user_vectors(items, lengths, stamps, self.side.tables))
        return torch.cat(made)

    def hits(self, users: Tensor, targets: Sequence[str], ids: Any = None) -> dict[str, float]:
        """Hit@10 of the targets among all items and among the new ones.

        Args:
            users: (B, D).
            targets: B ids.
            ids: what stands in for the new items' rows, or :data:`BEFORE`.
        """
        fused = self.side.fused
        if self.added and ids != BEFORE:
            fused = torch.cat([fused, side_of_new_items(self.network.items, self.features, self.present, ids).fused])
        wanted = torch.tensor([self.column[item] for item in targets]).unsqueeze(1)
        found = {"all": 0, "new": 0}
        for part, place in zip(users.split(512), wanted.split(512), strict=True):
            scores = part @ fused.T
            scores[:, 0] = float("-inf")
            above = scores > scores.gather(1, place)
            found["all"] += int((above.sum(1) < K).sum())
            found["new"] += int(((above & self.new[: len(fused)]).sum(1) < K).sum())
        return {name: count / len(targets) for name, count in found.items()}

    def stand_ins(self) -> dict[str, Mapping[str, Tensor] | None]:
        """By name what can take the place of an ID row: per modality (D,) or (J, D); None for nothing."""
        items = self.network.items
        if not items.bias or not self.added:
            return {"": None}
        mean = {name: table[1:].detach().mean(0) for name, table in items.bias.items()}
        made: dict[str, Any] = {"zeros": {name: torch.zeros_like(row) for name, row in mean.items()}, "mean": mean}
        made["nearest"] = rows_of_nearest(items, self.features, self.present)
        return made


def carry_out(arm: str, name: str, plan: dict[str, Any], options: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train once and ask for the targets."""
    now = out / "saved" / "now"
    shutil.rmtree(now, ignore_errors=True)
    files: SetFiles = plan["files"]
    settings = {**COMMON, **options, **ARMS[arm], "checkpoint_dir": str(now)}
    settings["data_path"] = str(files.folder.parent)
    if arm != "warm":
        write_without(files, plan["new"], out / "sets" / name)
        settings |= {"data_path": str(out / "sets"), "benchmark_filename": ["train", "valid", "test"]}
    with standing_in(out):
        run = build(make_config("MMM4Rec", name, [str(SMALL)], settings), count_flops=False)
        began = time.process_time()
        _, valid = run.trainer.fit(run.train, run.valid, show_progress=settings["show_progress"])
        seconds = time.process_time() - began
        run.trainer.evaluate(run.test, load_best_model=True)
    judge = Judge(run, sorted(plan["new"]), files.folder / "features")
    result: dict[str, Any] = {
        "best_epoch": best_epoch(run.trainer),
        "epochs": len(run.trainer.valid_history),
        "cpu_seconds": round(seconds, 1),
        "valid": {metric: float(value) for metric, value in valid.items()},
    }
    new, cold, kept = plan["new"], plan["targets"], plan["others"]
    shorten = arm != "warm"
    users = judge.users([one.without(new) if shorten else one for one in cold])
    others = judge.users([one.without(new) if shorten else one for one in kept])
    targets, known = [one.target for one in cold], [one.target for one in kept]
    result["cold"] = {ids: judge.hits(users, targets, rows) for ids, rows in judge.stand_ins().items()}
    result["known"] = {ids: judge.hits(others, known, rows)["all"] for ids, rows in judge.stand_ins().items()}
    if shorten:
        result["before"] = judge.hits(others, known, BEFORE)["all"]
    else:
        without = judge.users([one.without(new) for one in cold])
        result["cold"]["same histories"] = judge.hits(without, targets)
    shutil.rmtree(now, ignore_errors=True)
    return result


def plan_of(files: SetFiles, share: float, seed: int) -> dict[str, Any]:
    """What is left out of a set and who is asked: ``new``, ``targets``, ``others``, ``chance``."""
    new = draw_items(files, share, seed)
    asked = [one for one in histories_of(files).values() if one.without(new).items]
    cold, others = [one for one in asked if one.target in new], [one for one in asked if one.target not in new]
    taken = counts(files)
    order = sorted(taken, key=lambda item: (-taken[item], item))
    best, best_new = set(order[:K]), set([item for item in order if item in new][:K])
    chance = {"random": {"all": K / len(taken), "new": K / len(new)}}
    chance["popularity, if it were known"] = {
        "all": sum(one.target in best for one in cold) / len(cold),
        "new": sum(one.target in best_new for one in cold) / len(cold),
    }
    sizes = {"items": len(taken), "new": len(new), "targets": len(cold), "others": len(others)}
    return {
        "files": files,
        "new": new,
        "targets": cold,
        "others": others,
        "chance": chance,
        "sizes": sizes,
    }


def report(name: str, plan: dict[str, Any], found: Mapping[str, dict[str, Any]]) -> str:
    """A set's table."""
    sizes = plan["sizes"]
    warm = found.get("warm", {}).get("cold", {}).get("", {}).get("all")
    lines = [
        f"**{name}**: {sizes['new']:,} of {sizes['items']:,} items are new; {sizes['targets']:,} users whose next item "
        f"is new, {sizes['others']:,} others.",
        "",
        "| training | in place of the ID | Hit@10, all items | of warm | among new | other users | before | epoch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, hits in plan["chance"].items():
        lines.append(f"| {row} | | {_at(hits['all'])} | {_share(hits['all'], warm)} | {_at(hits['new'])} | | | |")
    for arm in ARMS:
        result = found.get(arm)
        for ids, hits in (result or {}).get("cold", {}).items():
            known, best = result["known"].get(ids), result["best_epoch"]  # type: ignore[index]
            price = "" if known is None else _at(known)
            rates = f"{_at(hits['all'])} | {_share(hits['all'], warm)} | {_at(hits['new'])}"
            before = _at(result["before"]) if "before" in result else ""  # type: ignore[index, operator]
            lines.append(f"| {arm} | {ids} | {rates} | {price} | {before} | {best} |")
    return "\n".join(lines) + "\n"


def _at(value: float) -> str:
    return f"{value:.4f}"[1:] if value < 1 else f"{value:.4f}"


def _share(value: float, whole: float | None) -> str:
    return f"{value / whole:.0%}" if whole else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, write the table; status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    return command(_parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out.resolve()
    writable_folder(out, f"--out {arguments.out}")
    options = read_yaml(arguments.settings, "--settings") if arguments.settings else {}
    options["seed"] = arguments.seed
    where = machine.stamp("cpu")
    for name in arguments.sets:
        files = SetFiles(name, arguments.data.resolve() / name)
        files.require()
        if arguments.latest or arguments.users:
            files = write_part(files, arguments.users, arguments.latest, out / "parts" / name)
        plan = plan_of(files, arguments.share, arguments.seed)
        run = {"hardware": where["hardware"], "settings": options, "share": arguments.share} | set_hashes([files])
        log = RunLog(out / f"{name}.jsonl", run)
        for arm in ARMS:
            if not arguments.report and ("cold_items", arm) not in log.found:
                say(f"{name}: {arm}")
                log.add("cold_items", arm, where, carry_out(arm, name, plan, options, out))
        text = report(name, plan, {arm: entry["result"] for (_, arm), entry in log.found.items()})
        (out / f"{name}.md").write_text(text, encoding="utf-8")
        print(text, flush=True)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.cold_items", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("dataset"), metavar="PATH", help="folder of the data sets (%(default)s)")
    add("--sets", nargs="+", required=True, metavar="SET", help="with feature stores")
    add("--out", type=Path, default=machine.ROOT / "build" / "cold_items", help="folder of all that comes out")
    add("--users", type=int, metavar="N", help="of a set, the first N by the hash of their ids (all)")
    add("--latest", type=int, metavar="N", help="of a user's interactions (all)")
    add("--share", type=float, default=0.1, help="of the items (%(default)s)")
    add("--seed", type=int, default=2020, metavar="N", help="of the draw and the trainings (%(default)s)")
    add("--settings", type=Path, metavar="FILE", help="further settings of all runs (YAML)")
    add("--report", action="store_true", help="run nothing, write the table of what is there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
