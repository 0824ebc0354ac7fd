"""The fuzzer's readers of settings and logs: command lines, YAML, spaces, comparisons, records, notes, ranks."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzzing.cases import ROOT, Case, Reader, lines, parquet
from fuzzing.data import ITEMS, TABLE, user_files
from fuzzing.watch import mistakes

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.origins import origins_of
from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.compare.job import Job
from recbole_mmm4rec.compare.published_rows import read_published
from recbole_mmm4rec.compare.records import Records
from recbole_mmm4rec.compare.results import read_ranks
from recbole_mmm4rec.compare.runs import users_file
from recbole_mmm4rec.recommend.batch import recommend_file
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.run.build import build_data, make_config, same_devices
from recbole_mmm4rec.run.cli import parse_arguments, parse_value
from recbole_mmm4rec.settings.keys import check_setting, read_settings
from recbole_mmm4rec.training.user_ranks import user_metric
from recbole_mmm4rec.tune.report import read_test, report, trials_csv
from recbole_mmm4rec.tune.space import make_parameter, same_text
from recbole_mmm4rec.tune.space_files import read_space
from recbole_mmm4rec.tune.study import Study, claim
from recbole_mmm4rec.tune.trials import Trials, best

SPACE = [make_parameter("a", "choice", [1, "x"], "here"), make_parameter("b", "loguniform", [1e-4, 1.0], "here")]
STUDY = Study("Pop", "shop", {"epochs": 2}, SPACE, "d", "r", "hit@10", True, 4, 3)
JOB = Job("x", "run", "d", "Pop", {}, 1, None, {"metrics": ["Hit"], "topk": [10]}, "f", "r")
DATE = "2024-05-06T07:08:09+00:00"
MODELS = ("MMM4Rec", "SASRec", "BPR", "LightGCN")


def _trial(params: dict[str, Any]) -> dict[str, Any]:
    scores = {
        "score": 0.5,
        "bigger": True,
        "valid": {"hit@10": 0.5},
        "best_epoch": 1,
        "epochs": 2,
        "history": [[1, 0.5]],
    }
    always = {"id": same_text(params), "trial": 1, "params": params, "status": "done", "error": "", "seconds": 1.5}
    return {**always, **scores, "date": DATE}


def _run() -> dict[str, Any]:
    metrics = {"hit@10": 0.5}
    history = [{"epoch": 2, "seconds": 4.0, "result": metrics}]
    facts = {"parameters": 7, "best_epoch": 2, "epochs": 3, "train_seconds": 5.0, "time_up": False, "peak_bytes": 2**20}
    said = {"gpu_peak_bytes": None, "device": "cpu", "threads": 1, "environment": {"processor": "p"}, "targets": "t"}
    always = {"id": JOB.id, **vars(JOB), "status": "done", "date": DATE}
    return {**always, **facts, **said, "valid": metrics, "test": metrics, "history": history}


def _line(folder: Path) -> None:
    given = parse_arguments((folder / "line").read_bytes().decode("utf-8", "replace").split(" "))
    model = given.get("model", "MMM4Rec")
    for key, text in given.items():
        check_setting(key, parse_value(text), model if model in MODELS else "MMM4Rec", f"--{key}={text}")


def _yaml(folder: Path) -> None:
    for model in MODELS[:2]:
        read_settings(str(folder / "settings.yaml"), model)


def _built(data: Path, with_data: bool) -> Callable[[Path], Callable[[Path], None]]:
    """A configuration of RecBole's, and the data set that it asks for."""

    def begin(inside: Path) -> Callable[[Path], None]:
        os.chdir(inside)
        logging.disable(logging.CRITICAL)

        def read(folder: Path) -> None:
            read_settings(str(folder / "settings.yaml"), "MMM4Rec")
            places = {"data_path": str(data), "checkpoint_dir": str(folder), "use_gpu": False}
            with same_devices():
                config = make_config("MMM4Rec", "kiosk", [str(folder / "settings.yaml")], places)
            if with_data:
                build_data(config)

        return read

    return begin


def _space(folder: Path) -> None:
    for one in read_space(next(folder.iterdir())):
        one.describe()
        one.position(one.value(one.position(one.examples[0])))


def _comparison(folder: Path) -> None:
    read_comparison(folder / "compare.yaml")


def _published(folder: Path) -> None:
    read_published(folder / "published.yaml")


def _trials(folder: Path) -> None:
    trials = Trials(folder / "trials.jsonl", SPACE)
    best(trials.all())
    tested = read_test(folder / "test.json")
    report(STUDY, trials.all(), None, tested, folder).encode()
    trials_csv(STUDY, trials.all()).encode()
    claim(STUDY, folder)


def _runs(folder: Path) -> None:
    records = Records(folder / "runs.jsonl")
    done, failed = records.done(JOB), records.failed(JOB)
    if done:
        max(done["peak_bytes"], done["gpu_peak_bytes"] or 0)
        sum(entry["result"]["hit@10"] for entry in done["history"])
        done["test"]["hit@10"] / max(1, done["epochs"])
    if failed:
        failed["error"].encode()


def _ranks(folder: Path) -> None:
    ranks = read_ranks(folder, {"id": "a", "max_seconds": None})
    user_metric(ranks["rank"].to_numpy(), "hit@10")


def _prepared(folder: Path) -> None:
    origins_of(folder, "set")


def _lists(model: Path) -> Callable[[Path], Callable[[Path], None]]:
    """Lists for the users of a file, some of which an earlier command has made."""

    def begin(inside: Path) -> Callable[[Path], None]:
        recommender = Recommender.load(model)

        def read(folder: Path) -> None:
            source = next(file for file in folder.iterdir() if file.name.startswith("users"))
            recommend_file(recommender, source, folder / "lists.csv", 3, show_progress=False)

        return read

    return begin


def _command(model: Path) -> Callable[[Path], Callable[[Path], None]]:
    """Commands as they are typed; training ones are not among them."""

    def begin(inside: Path) -> Callable[[Path], None]:
        from recbole_mmm4rec.commands.__main__ import main

        os.chdir(inside)

        def read(folder: Path) -> None:
            text = (folder / "line").read_bytes().decode("utf-8", "surrogateescape")
            try:
                words = shlex.split(text.replace("MODEL", str(model)).replace("FOLDER", str(folder)))
            except ValueError:  # no shell gives this to a program
                return
            words = [word.replace("\0", "") for word in words]
            own = (str(model), str(folder))
            if any(".." in word or ("/" in word and not word.startswith(own)) for word in words):
                return  # whoever types a place elsewhere wants it
            if words[:1] not in (["recommend"], ["explain"], ["prep"]) or words[1:2] in (["images"], ["embed"]):
                return
            out, told = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
                try:
                    code = main(words)
                except SystemExit as error:
                    code = error.code if isinstance(error.code, int) else 1
            out.getvalue().encode("utf-8", "surrogateescape")
            if code:
                said = told.getvalue()
                if code != 2 or len(said.splitlines()) != 1 or mistakes(said.removesuffix("\n"), ""):
                    raise AssertionError(f"exit {code}: {said[-200:]}")
                raise UserError(said.removeprefix("error: "))

        return read

    return begin


LINES = (
    "--model=SASRec --dataset=ml-100k --epochs=5 --learning_rate=1e-3 --topk=[5,10] "
    "--eval_args={'split':{'LS':'valid_and_test'}}",
    "-m MMM4Rec -d shop --train_batch_size 256 --user_inter_num_interval=[3,inf) --loss_type=CE --seed=7",
    "--dataset=shop --modalities=[text,image] --ssd_backend=torch --dropout_prob=0.4 --d_state=64 --resume=True",
    "--model=BPR --metrics=['Recall','NDCG'] --valid_metric=NDCG@10 --train_neg_sample_args=None --load_col=None",
)
_TABLES = "prep table --interactions FOLDER/inter.csv --items FOLDER/items.csv --name made --out FOLDER/out"
TYPED = (
    "recommend MODEL --history 'k01 k02' --timestamps '1 2' --k 3 --where category=garden --modalities text --json",
    "recommend MODEL --history k01 --only 'k03 k04' --exclude k05 --include-seen",
    "recommend MODEL --input FOLDER/users.csv --output FOLDER/lists.csv --k 2",
    "explain MODEL --history 'k01 k02' --item k03 --timestamps '1 2'",
    f"{_TABLES} --keep category --min-rating 2",
    f"{_TABLES} --columns text=category --since 2020-01-01 --k-core 1",
)
_RANGES = b"learning_rate: {loguniform: [0.0001, 0.01]}\nhidden_size: [32, 64]\ndropout_prob: {uniform: [0, 0.5]}\n"
_BY_KIND = b"choice:\n  a: [1, 2]\n  b: ['[1]', x]\nloguniform:\n  c: [-8, 0]\nuniform: {d: [0, 1]}\n"
_BY_LINE = b"learning_rate choice [0.01,0.005]\nmlp_hidden_size choice ['[64,64]','[32]']\n# x\nreg loguniform -8,0\n"
SPACES: list[Case] = [
    {"space.yaml": _RANGES + b"n_layers: {quniform: [1, 4, 1]}\n"},
    {"space.yaml": _BY_KIND},
    {"space.test": _BY_LINE + b"q quniform 1,9,2\n"},
]
SETTINGS = b"""\
epochs: 2
topk: [5, 10]
learning_rate: 1e-3
modalities: [text, image]
eval_args: {split: {LS: valid_and_test}, order: TO, mode: full}
load_col: {inter: [user_id, item_id, timestamp]}
user_inter_num_interval: '[2,inf)'
val_interval: {timestamp: '[0,inf)'}
MAX_ITEM_LIST_LENGTH: 8
seed: 3
"""


def readers(corpus: Path) -> list[Reader]:
    """All of settings and logs."""
    packaged = [(file, file.read_bytes()) for file in sorted((ROOT / "properties").rglob("*.yaml"))]
    written: list[Case] = [
        {"settings.yaml": data} for file, data in packaged if file.parent.name in ("model", "dataset")
    ]
    written.append({"settings.yaml": SETTINGS})
    compared: list[Case] = [
        {"compare.yaml": data}
        for file, data in packaged
        if file.parent.name == "compare" and file.name != "published.yaml"
    ]
    told = next(data for file, data in packaged if file.name == "published.yaml")
    spaces = [*SPACES, *({"space.yaml": data} for file, data in packaged if file.parent.name == "tune")]
    trials = lines(_trial({"a": "x", "b": 0.5}), {**_trial({"a": 1, "b": 0.1}), "status": "failed", "error": "no"})
    tested = json.dumps({"trial": 1, "test": {"hit@10": 0.5}, "model_file": "x"}).encode()
    study: Case = {"trials.jsonl": trials, "test.json": tested, "study.json": json.dumps(STUDY.parts()).encode()}
    runs: Case = {
        "runs.jsonl": lines(_run(), {**_run(), "status": "failed", "error": "no"}, {**_run(), "kind": "pretraining"})
    }
    prepared: list[Case] = [
        {
            "set/set.prep.json": json.dumps({"source": "merge", "options": {"sets": ["set", "b"]}}).encode(),
            "b/b.prep.json": b"{}",
        },
    ]
    part = json.dumps({"users": 2, "popular": 0, "unknown": 0, "kept": 0}).encode()
    parts = {
        ".lists.csv.parts/part-000000.csv": b"a,1,k01,0.5,False\r\n",
        ".lists.csv.parts/part-000000.json": part,
        ".lists.csv.parts/job.json": b"{}",
    }
    begun: list[Case] = [{**one, **parts} for one in user_files()]
    ranks: Case = {users_file(Path(), "a", None).as_posix(): parquet(user=["a", "b"], rank=np.int32([1, 4]))}
    model = (corpus / "kiosk" / "model").resolve()
    data = corpus / "kiosk" / "dataset"
    users = {"users.csv": user_files()[0]["users.csv"], "inter.csv": TABLE, "items.csv": ITEMS}
    tabular = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", ".json": "json"}
    return [
        Reader("command lines, settings", 110_000, [{"line": one.encode()} for one in LINES], {"": "words"}, _line),
        Reader(
            "command lines, other commands",
            2_000,
            [{"line": one.encode(), **users} for one in TYPED],
            {"line": "words"},
            begin=_command(model),
            cleared=True,
        ),
        Reader("settings in YAML", 5_000, written, {"": "yaml"}, _yaml),
        Reader(
            "settings as RecBole takes them", 1_000, written[-1:], {"": "yaml"}, begin=_built(data, False), cleared=True
        ),
        Reader("settings with their data", 500, written[-1:], {"": "yaml"}, begin=_built(data, True), cleared=True),
        Reader("spaces of searches", 6_000, spaces, {".yaml": "yaml", ".test": "words"}, _space, cleared=True),
        Reader("comparisons", 3_000, compared, {"": "yaml"}, _comparison),
        Reader("published rows", 2_000, [{"published.yaml": told}], {"": "yaml"}, _published),
        Reader("trials of searches", 35_000, [study], {".jsonl": "jsonl", ".json": "json"}, _trials),
        Reader("runs of comparisons", 60_000, [runs], {"": "jsonl"}, _runs),
        Reader("ranks of users", 6_000, [ranks], {"": "parquet"}, _ranks),
        Reader("records of preparations", 30_000, prepared, {"": "json"}, _prepared),
        Reader("lists that go on", 1_500, begun, tabular, begin=_lists(model), cleared=True),
    ]
