"""The benchmark of pre-training: sources that grow, runs that go on after a kill, and what the tables say."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pattern_shop import COLOURS, ITEMS, NAME, SHAPES, TINY_MODEL, write_pattern_shop
from shop import python

from benchmarks.transfer import __main__ as transfer
from benchmarks.transfer.plan import Checkpoints, plan
from benchmarks.transfer.plot import draw
from benchmarks.transfer.report import Found, fine_tuned, fit, trends, zero_shot
from benchmarks.transfer.sets import Source, prepare_sources, set_hashes
from dataset_prep.files.set_files import SetFiles
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.features.store import hash_inputs, write_store

SOURCES = ("food", "home")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A target and two sources of the same kind, with different users."""
    for seed, name in enumerate(("shop", *SOURCES)):
        write_pattern_shop(tmp_path / "made", users=24, seed=seed)
        folder = Path(shutil.move(tmp_path / "made" / NAME, tmp_path / "data" / name))
        (folder / f"{NAME}.inter").rename(folder / f"{name}.inter")
        texts = [f"shape {item[1]}" for item in ITEMS]
        lines = ["item_id:token\ttext:token_seq", *map("\t".join, zip(ITEMS, texts, strict=True))]
        (folder / f"{name}.item").write_text("\n".join(lines) + "\n")
        shutil.rmtree(folder / "features")
        write_store(
            folder / "features" / "text",
            modality="text",
            encoder="one-hot",
            encoder_hash=None,
            encoder_version=None,
            settings={"column": "text"},
            dim=SHAPES,
            dtype="float32",
            normalized=True,
            input_hash=hash_inputs(zip(ITEMS, texts, strict=True)),
            dataset=name,
            items=ITEMS,
            present=np.ones(len(ITEMS), dtype=bool),
            chunks=[np.repeat(np.eye(SHAPES, dtype=np.float32), COLOURS, axis=0)],
        )
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY_MODEL, "epochs": 3}))
    return tmp_path / "data"


def command(data: Path, *more: str) -> list[str]:
    out = ["--out", str(data.parent / "out"), "--settings", str(data.parent / "tiny.yaml")]
    sources = ["--target", "shop", "--sources", *SOURCES]
    return ["--data", str(data), *sources, *out, "--shares", "50", "100", "--checkpoints", "1", "2", *more]


def records(data: Path) -> list[dict[str, Any]]:
    lines = (data.parent / "out" / "runs.jsonl").read_text().splitlines()[1:]
    return [json.loads(line) for line in lines]


def test_sources_grow_and_hold_one_another(data: Path, tmp_path: Path) -> None:
    before = sorted(data.rglob("*"))
    small, large, merged = prepare_sources(data, "shop", SOURCES, (50, 100), tmp_path / "sets")
    assert (small.users, large.users, merged.users) == (12, 24, 48)
    assert small.interactions < large.interactions < merged.interactions
    assert (small.merged, large.merged, merged.merged) == (False, False, True)
    part, whole = ((tmp_path / "sets" / one.name / f"{one.name}.inter").read_text() for one in (small, large))
    assert set(part.splitlines()) < set(whole.splitlines())
    assert sorted(data.rglob("*")) == before
    again = prepare_sources(data, "shop", SOURCES, (25, 50, 100), tmp_path / "sets")
    assert again[1:] == [small, large, merged]
    quarter = (tmp_path / "sets" / "food-25" / "food-25.inter").read_text()
    assert set(quarter.splitlines()) < set(part.splitlines())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--sources", "food", "food"], "'food' is named twice"),
        (["--sources", "shop"], "'shop' is named twice, or is the target"),
        (["--target", "shops"], "shops.inter: no such file"),
        (["--settings", "none.yaml"], "--settings 'none.yaml' does not exist"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    change: list[str], said: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transfer.main(command(data, *change)) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (data.parent / "out" / "runs.jsonl").exists()


def test_a_set_without_vectors_and_the_set_folder_itself(data: Path) -> None:
    with pytest.raises(UserError, match="name another folder"):
        prepare_sources(data, "shop", SOURCES, (100,), data)
    shutil.rmtree(data / "home" / "features")
    with pytest.raises(UserError, match=r"run 'mmm4rec prep embed home --out "):
        prepare_sources(data, "shop", SOURCES, (100,), data.parent / "sets")


def test_a_wrong_number_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        transfer.main(command(data, "--shares", "101"))
    assert stopped.value.code == 2
    assert "'101' is no whole number from 1 to 100" in capsys.readouterr().err


KILLED = """
import os, signal, sys
from benchmarks.transfer import __main__ as transfer
carry_out, done = transfer.carry_out, []
def counted(*arguments):
    if len(done) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(arguments[0])
    return carry_out(*arguments)
transfer.carry_out = counted
transfer.main({arguments!r})
"""


@pytest.mark.usefixtures("own_folder")
def test_killed_it_goes_on_and_says_what_an_undisturbed_one_says(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = python("-c", KILLED.format(arguments=command(data)), cwd=data.parent)
    assert done.returncode == -signal.SIGKILL, done.stderr
    first = records(data)
    assert len(first) == 8
    carried: list[str] = []
    original = transfer.carry_out
    monkeypatch.setattr(transfer, "carry_out", lambda run, *rest: carried.append(run.name) or original(run, *rest))
    assert transfer.main(command(data)) == 0
    names = [entry["cell"] for entry in records(data)]
    assert len(set(names)) == len(names) == 16
    assert names[8:] == carried
    text = (data.parent / "out" / "table.md").read_text()
    assert text in capsys.readouterr().out
    for ending in ("svg", "png"):
        assert (data.parent / "out" / f"curves.{ending}").stat().st_size > 1000
    carried.clear()
    assert transfer.main(command(data)) == 0
    assert not carried
    before = (data.parent / "out" / "runs.jsonl").read_bytes()
    assert transfer.main(command(data, "--report")) == 0
    assert text in capsys.readouterr().out
    for options, told in (
        (["--patience", "9"], "runs.jsonl has other settings: {"),
        (["--out", str(data.parent / "no")], "runs.jsonl is not there"),
    ):
        assert transfer.main(command(data, "--report", *options)) == 2
        assert told in capsys.readouterr().err
    assert (data.parent / "out" / "runs.jsonl").read_bytes() == before
    assert not carried
    # a second pre-training gives the same checkpoint, hence the same figures
    out = data.parent / "out"
    kept = [json.dumps(entry) for entry in records(data) if not entry["cell"].startswith("zero-shot food, 1")]
    header = (out / "runs.jsonl").read_text().splitlines()[0]
    lost = next(entry for entry in records(data) if entry["cell"].startswith("zero-shot food, 1"))
    (out / "runs.jsonl").write_text("\n".join([header, *kept]) + "\n")
    shutil.rmtree(out / "saved")
    assert transfer.main(command(data)) == 0
    assert [name.split(",")[0] for name in carried] == ["pretrain food", "zero-shot food"]
    assert records(data)[-1]["result"]["valid"] == lost["result"]["valid"]


def found(source: str, values: list[float], kind: str = "train", ids: bool = True) -> Found:
    """A run that validated with these Hit@10, the first before training."""
    after = 0 if source == "none" else 2
    run = {"kind": kind, "source": source, "after": after, "seed": 1, "ids": ids, "rate": 1.0}
    results = [{"hit@10": value, "ndcg@10": value / 2} for value in values]
    best = values.index(max(values))
    history = [{"epoch": epoch, "result": result} for epoch, result in enumerate(results)]
    return Found(run, history, best, results[best], {"hit@10": 0.1, "ndcg@10": 0.05})


def test_what_the_tables_say() -> None:
    sources = [Source("food-50", 5, 1000), Source("food", 10, 10_000)]
    runs = [
        found("none", [0.01, 0.10, 0.12, 0.125, 0.13]),
        found("food-50", [0.02, 0.11, 0.13, 0.12]),
        found("food", [0.03, 0.12, 0.125]),
        found("food", [0.03, 0.13], ids=False),
        found("food", [0.03], kind="zero-shot", ids=False),
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in fine_tuned(runs, sources).splitlines()[2:]]
    assert rows[0][6:11] == [".0100", ".1000", ".1300", "4", "4"]
    assert rows[1][6:11] == [".0200", ".1100", ".1300", "2", "2"]
    assert rows[2][6:11] == [".0300", ".1200", ".1250", "2", "never"]
    assert rows[3][10] == "?"  # nothing without ID tables was trained from scratch
    assert zero_shot(runs, sources).splitlines()[2] == "| food | 10,000 | 2 | 1 | .0300 | .0150 | .1000 | .0500 |"


def test_the_line_and_where_it_leads() -> None:
    line = fit([100, 1000, 10_000], [0.02, 0.03, 0.04])
    assert line.slope == pytest.approx(0.01)
    assert line.at(1e6) == pytest.approx(0.06)
    assert line.decades(0.06, line.slope) == pytest.approx(6)
    assert line.decades(0.06, 0.015) == pytest.approx(5)  # from the middle, 1,000 and 0.03
    assert line.decades(0.06, -0.01) is None
    bent = fit([100, 1000, 10_000], [0.02, 0.033, 0.04])
    # residuals (-1, 2, -1) / 1000 by hand: s² = 6e-6 / 1, over the spread 2 of the logarithms; t(1) = 12.706
    assert bent.margin == pytest.approx(12.706 * math.sqrt(6e-6 / 2), rel=1e-3)
    sources = [Source(f"food-{share}", share, 10 * 10**at) for at, share in enumerate((1, 10, 100), 1)]
    sources.append(Source("food-and-home", 200, 100_000, merged=True))
    runs = [found("none", [0.0, 0.05, 0.06])]
    runs += [found(one.name, [0.0, 0.02 + 0.01 * at, 0.05]) for at, one in enumerate(sources)]
    text = trends(runs, sources, users=900)
    assert "| after epoch 1 | shares of the first | 3 | +0.0100 ± 0.0000 | +2.0 | +2.0 |" in text
    assert "| after epoch 1 | all | 4 | +0.0100 ± 0.0000 | +1.0 | +1.0 |" in text
    assert f"over 900 users is .{round(1e4 * math.sqrt(0.06 * 0.94 / 900)):04d}" in text
    assert trends([], sources, users=900) == "Nothing was trained from scratch yet."


def test_the_users_rates_hold_for_every_run() -> None:
    sources = [Source("food", 10, 2000)]
    rates = {
        run.rate: transfer.settings_of(run, Path("out"), {"learning_rates": {"ids": 3}})["learning_rates"]
        for run in plan(sources, Checkpoints((1,), (1,)), [7])
        if run.kind == "train"
    }
    assert rates == {1.0: {"ids": 3}, 0.1: {"ids": 3, "transferred": 0.1}}


def test_other_features_are_another_set(data: Path) -> None:
    files = [SetFiles("food", data / "food")]
    before = set_hashes(files)
    manifest = data / "food" / "features" / "text" / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    assert set_hashes(files) != before


def test_more_sources_than_colours_are_drawn(tmp_path: Path) -> None:
    sources = [Source(f"food-{number}", number, 100 * number) for number in range(1, 14)]
    draw([found("none", [0.0, 0.05])] + [found(one.name, [0.0, 0.04]) for one in sources], sources, tmp_path / "plot")
    assert (tmp_path / "plot.svg").stat().st_size > 1000


def test_the_runs_of_a_plan() -> None:
    sources = [Source("food-50", 5, 1000), Source("food", 10, 2000), Source("food-and-home", 20, 4000, merged=True)]
    runs = plan(sources, Checkpoints((1, 2), (1,)), [7])
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    for run in runs:
        if run.kind != "pretrain" and run.after:
            before = [other for other in runs[: runs.index(run)] if other.kind == "pretrain"]
            assert any(other.source == run.source and run.after in other.keep for other in before)
    assert sum(run.rate != 1 for run in runs) == 1
    assert {(run.source, run.after) for run in runs if run.kind == "train" and not run.ids} == {
        ("none", 0),
        ("food-and-home", 1),
    }
    assert [run.after for run in runs if run.source == "food-and-home"] == [1] * 5
    assert transfer.checkpoint_of("food", 7, 2, Path("out")).name == "food-seed7-epoch0002.safetensors"
