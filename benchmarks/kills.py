"""Kills commands at random moments and checks that the same command, typed again, ends as if nothing had happened.

Each command runs once undisturbed. Then, for each kill: a copy of the data, the command, kill -9 for it and all that it
has started at a random moment of the undisturbed time, and the command again, to its end. Weights, metrics and files
are compared with the undisturbed ones; times alone may differ. What was found goes into a log; the same line goes on.

The commands run in copies of this process, which has imported everything: a kill ends one of them as it ends any
process, and a second of start-up is saved each time.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a copy of a process has one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from machine import processor
from PIL import Image
from prepare_amazon import make_files
from tqdm import tqdm

import recbole_mmm4rec  # noqa: F401  (registers the model)
from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.features.store import write_store

TINY = [
    *("--hidden_size=32", "--inner_size=32", "--d_state=8", "--n_groups=2", "--head_dim=16", "--data_path=dataset"),
    *("--MAX_ITEM_LIST_LENGTH=8", "--train_batch_size=64", "--show_progress=False", "--state=ERROR", "--topk=[10]"),
]
OFTEN = ["--resume=True", "--checkpoint_every_minutes=0.0005"]
CE = ["--train_neg_sample_args=None", "--n_layers=1", "--n_heads=2", "--embedding_size=32"]
TRAIN = ["train", "--dataset=shop", "--epochs=4", *TINY, *OFTEN]
EMBED = ["prep", "embed", "shop", "--text-encoder", "all-MiniLM-L6-v2", "--device", "cpu", "--out", "dataset"]
TUNE = ["tune", "--model=BPR", "--dataset=shop", "--algo", "random", "--max-evals", "4", "--out", "out"]
COMMANDS: dict[str, list[str]] = {
    "train": [*TRAIN, "--model=MMM4Rec"],
    "train, averaged": [*TRAIN, "--model=MMM4Rec", "--weight_average=0.9", "--accumulation_steps=2"],
    "train, users": [*TRAIN, "--model=MMM4Rec", "--train_unit=user"],
    "two processes": ["train", "--dataset=shop", "--epochs=4", *TINY, *OFTEN, "--model=MMM4Rec", "--nproc=2"],
    "pretrain": [*TRAIN, "--model=MMM4Rec", "--stage=pretrain", "--pretrain_checkpoint_every=2"],
    "SASRec": [*TRAIN, "--model=SASRec", *CE],
    "GRU4Rec": [*TRAIN, "--model=GRU4Rec", *CE],
    "BPR": [*TRAIN, "--model=BPR"],
    "LightGCN": [*TRAIN, "--model=LightGCN"],
    "tune": [*TUNE, "--space", "space.yaml", "--config_files", "tune.yaml"],
    "compare": ["compare", "--config", "compare.yaml", "--out", "out"],
    "embed": EMBED,
    "images": ["prep", "images", "gallery", "--out", "dataset", "--images", "pictures"],
    "update": ["update", "model", "--interactions", "today.csv", "--output", "new", "--epochs", "3"],
    "amazon": ["prep", "amazon", "--reviews", "reviews.json", "--meta", "meta.json", "--name", "other", "--out", "out"],
}
QUICK = ("train", "pretrain", "SASRec", "BPR", "amazon")
_TIMES = ("seconds", "date", "time", "duration", "bytes", "environment", "peak")
_THERE = "it is there already"
_FOLDERS_OF_TIMES = {"work", "logs", "plots"}
_OF_TIMES = ("made", "sha256", "files", "model_file", "data_fingerprint", "port")
"""Keys of manifests and settings: when, where, and hashes and names of files with times, which are compared anyway."""


def make_data(folder: Path) -> None:
    """A shop of 120 users and 60 items with random vectors, and dumps of Amazon's kind."""
    draw = np.random.default_rng(0)
    items = [f"i{number}" for number in range(60)]
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(120):
        times = np.sort(draw.integers(1_500_000_000, 1_600_000_000, 10))
        chosen = zip(draw.permutation(60)[:10], times, strict=True)
        rows += [f"u{user}\ti{item}\t{time}" for item, time in chosen]
    shop = folder / "dataset" / "shop"
    shop.mkdir(parents=True)
    (shop / "shop.inter").write_text("\n".join(rows) + "\n")
    texts = [f"{item}\tthing number {number} of colour {number % 7}" for number, item in enumerate(items)]
    (shop / "shop.item").write_text("\n".join(["item_id:token\ttext:token_seq", *texts]) + "\n")
    vectors = draw.normal(size=(60, 24)).astype(np.float32)
    write_store(
        shop / "features" / "text",
        **{"modality": "text", "encoder": "random", "encoder_hash": None, "encoder_version": None, "settings": {}},
        **{"dim": 24, "dtype": "float32", "normalized": False, "input_hash": None, "dataset": "shop", "items": items},
        present=np.ones(60, bool),
        chunks=[vectors],
    )
    small = "epochs: 2\ndata_path: dataset\nshow_progress: False\nstate: ERROR\ntopk: [10]\n"
    (folder / "tune.yaml").write_text(small)
    (folder / "space.yaml").write_text("learning_rate: [0.001, 0.01]\nembedding_size: [8, 16]\n")
    (folder / "compare.yaml").write_text(
        "datasets: [shop]\nmodels: [{model: BPR, settings: {epochs: 2}}, Pop]\nseeds: [1]\nprotocol: {topk: [10]}\n"
    )
    make_files(folder, 3_000)
    _make_gallery(folder, draw)
    today = [f"u{user},i{draw.integers(60)},{1_600_000_000 + user}" for user in range(0, 160, 2)]
    (folder / "today.csv").write_text("\n".join(["user_id,item_id,timestamp", *today]) + "\n")


def _make_gallery(folder: Path, draw: np.random.Generator) -> None:
    """Pictures as files, and a data set whose items name them; one is no picture, one is not there."""
    (folder / "pictures").mkdir()
    rows = ["item_id:token\timage:token"]
    for number in range(200):
        name = f"{number}.png"
        if number != 7:
            pixels = draw.integers(0, 256, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name)
        rows.append(f"i{number}\t{name}")
    (folder / "pictures" / "8.png").write_bytes(b"no picture")
    gallery = folder / "dataset" / "gallery"
    gallery.mkdir()
    (gallery / "gallery.item").write_text("\n".join(rows) + "\n")
    (gallery / "gallery.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu0\ti0\t1500000000\n")


def make_model(folder: Path) -> None:
    """The shop and a model folder of it, which an update goes on with."""
    make_data(folder)
    finish(folder, [*TRAIN, "--model=MMM4Rec"])
    (model,) = (place for place in (folder / "saved").iterdir() if place.is_dir())
    model.rename(folder / "model")
    for rest in ("saved", "log", "log_tensorboard", "told.txt"):
        place = folder / rest
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


def start(folder: Path, command: list[str]) -> int:
    """Begin a command in a copy of this process; its number."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        tqdm.set_lock(threading.RLock())  # bars' own lock is one for all copies, and stays taken by one that is killed
        os.chdir(folder)
        told = os.open("told.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(told, 1)
        os.dup2(told, 2)
        sys.argv = ["mmm4rec", *command]
        from recbole_mmm4rec.commands.__main__ import main

        code = main(command)
        sys.stdout.flush()
        os._exit(int(code or 0))
    except SystemExit as error:
        os._exit(error.code if isinstance(error.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        os._exit(70)


def ended(child: int) -> int:
    """The exit status; negative after a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finish(folder: Path, command: list[str], after_a_kill: bool = False) -> dict[str, str]:
    """Run a command to its end; what it left. One that was killed when all was done may say that instead of metrics."""
    code = ended(start(folder, command))
    if code == 2 and _THERE in (folder / "told.txt").read_text(errors="replace") and after_a_kill:
        return {name: word for name, word in left(folder).items() if name != "told"}
    if code:
        raise RuntimeError(f"exit {code}: " + (folder / "told.txt").read_text(errors="replace")[-800:])
    return left(folder)


def left(folder: Path) -> dict[str, str]:
    """A word for each file that a command left but those of times, and for the metrics that it told."""
    skipped = ("log", "log_tensorboard", "work", "logs", "told.txt")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    found = {}
    for file in files:
        name = file.relative_to(folder)
        if name.parts[0] in skipped or _FOLDERS_OF_TIMES.intersection(name.parts) or file.suffix == ".log":
            continue
        key = "best model" if name.parts[0] == "saved" and "pretrain" not in file.name else str(name)
        if name.parts[0] == "saved" and len(name.parts) > 2:
            key = "model folder/" + "/".join(name.parts[2:])
        found[key] = _word(file)
    told = (folder / "told.txt").read_text(errors="replace").splitlines()
    table = [line for line in told if line.strip().startswith(("test", "valid"))]
    found["told"] = "\n".join(table)
    return found


def _word(file: Path) -> str:
    """What must not differ in a file."""
    if file.suffix == ".safetensors" and file.parent.name in ("saved", "pretrained"):
        state = read(file)
        history = [(one[0], one[2], one[3]) for one in state.get("valid_history", ())]
        total = hashlib.sha256(repr((state["epoch"], history, state.get("train_loss_dict"))).encode())
        for name, weight in sorted(state["state_dict"].items()):
            total.update(name.encode() + weight.contiguous().numpy().tobytes())
        return total.hexdigest()
    if file.suffix in (".json", ".jsonl"):
        text = file.read_text()
        try:
            lines = [json.loads(line) for line in (text.splitlines() if file.suffix == ".jsonl" else [text])]
        except ValueError:
            return "no JSON"
        kept = json.dumps([_without_times(one) for one in lines], sort_keys=True)
        return hashlib.sha256(kept.encode()).hexdigest()
    if file.suffix == ".csv":
        with file.open() as opened:
            rows = [_without_times(row) for row in csv.DictReader(opened)]
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    if file.suffix in (".html", ".md", ".tex"):  # tables of times among them; the records beside them are compared
        return "page"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not any(word in str(key).lower() for word in _TIMES)}
        return {key: _without_times(one) for key, one in kept.items() if key not in _OF_TIMES}
    if isinstance(value, list):
        return [_without_times(one) for one in value]
    return value


def kill_once(data: Path, folder: Path, command: list[str], moment: float, again: float) -> tuple[int, dict[str, str]]:
    """Kill a command once or twice, and let it end; how many kills struck, and what it left."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(data, folder)
    struck = 0
    for seconds in (moment, again):
        if seconds <= 0:
            continue
        child = start(folder, command)
        time.sleep(seconds)
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(child, signal.SIGKILL)
        struck += ended(child) == -signal.SIGKILL
    return struck, finish(folder, command, after_a_kill=True)


def check(name: str, kills: int, seed: int, log: Path, made: Callable[[Path], None]) -> tuple[int, int, int]:
    """Kill one command often enough; runs, kills that struck, and runs that ended otherwise, the log's among them."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {line["number"]: line for line in lines if (line["command"], line["seed"]) == (name, seed)}
    with tempfile.TemporaryDirectory() as place:
        data, run = Path(place) / "data", Path(place) / "run"  # one path for all runs: settings name it
        if len(done) < kills:
            data.mkdir()
            made(data)
            shutil.copytree(data, run)
            begin = time.monotonic()
            expected = finish(run, COMMANDS[name])
            seconds = time.monotonic() - begin
        for number in range(kills):
            if number in done:
                continue
            draw = random.Random(f"{seed} {name} {number}")
            moment, again = seconds * draw.random(), seconds * draw.random() * draw.choice((0, 1))
            struck, found = kill_once(data, run, COMMANDS[name], moment, again)
            compared = (expected.keys() | found.keys()) - ({"told"} - found.keys())
            other = sorted(key for key in compared if expected.get(key) != found.get(key))
            line = {"command": name, "seed": seed, "number": number, "moment": round(moment, 3), "struck": struck}
            done[number] = {**line, "whole": round(seconds, 3), "other": other}
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as opened:
                opened.write(json.dumps(done[number]) + "\n")
            print(f"{name} {number + 1}: {struck} kills, {'same' if not other else f'OTHER: {other}'}", flush=True)
    counted = [done[number] for number in range(kills)]
    return len(counted), sum(line["struck"] for line in counted), sum(bool(line["other"]) for line in counted)


def main(argv: list[str] | None = None) -> int:
    """Kill and compare; 1 where a run ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="runs of each command that are killed (default: 20)")
    parser.add_argument("--only", nargs="*", default=[], help=f"some of: {', '.join(COMMANDS)}")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: 1)")
    parser.add_argument("--log", type=Path, default=Path("build/kills.jsonl"), help="what was found; goes on from it")
    parser.add_argument("--quick", action="store_true", help=f"2 kills each of {', '.join(QUICK)}")
    given = parser.parse_args(argv)
    names = given.only or (QUICK if given.quick else tuple(COMMANDS))
    kills = 2 if given.quick else given.kills
    print(processor())
    made = {"update": make_model}
    found = {name: check(name, kills, given.seed, given.log, made.get(name, make_data)) for name in names}
    print("\n| command | runs | kills | ended otherwise |\n|---|---|---|---|")
    for name, (runs, struck, other) in found.items():
        print(f"| {name} | {runs} | {struck} | {other} |")
    total = [sum(column) for column in zip(*found.values(), strict=True)]
    print(f"| all | {total[0]} | {total[1]} | {total[2]} |")
    return 1 if total[2] else 0


if __name__ == "__main__":
    sys.exit(main())
