"""What a comparison keeps from call to call: half-trained runs, ranks that were lost; who gets which card."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pattern_shop import NAME, write_pattern_shop
from test_compare_records import job
from tiny_comparison import OURS, SASREC, finished, tiny_plan

from recbole_mmm4rec.compare import worker
from recbole_mmm4rec.compare.job import Job
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.records import Records
from recbole_mmm4rec.compare.results import read_ranks
from recbole_mmm4rec.compare.runs import Runner, free_card, users_file, visible_cards

pytestmark = pytest.mark.usefixtures("own_folder")
SLOW = {"model": "SASRec", "settings": SASREC}
Outcome = Callable[[dict[str, Any]], dict[str, Any]]


class Pipe(io.StringIO):
    """What a worker is told, readable for ever; closing it says that its end was noticed."""

    def __init__(self, worker: type[Worker]) -> None:
        super().__init__()
        self.worker = worker

    def close(self) -> None:
        """Let others end."""
        self.worker.ended = False


class Worker:
    """Stands for the process of a run: says how it ended, once it is its turn to end."""

    started: list[Worker]
    ends: Iterator[int]
    """Numbers of workers in the order in which they end."""
    outcome: Outcome
    next: int | None = None
    ended = False
    """Whether one has ended, which the command has not noticed yet: one after the other."""

    def __init__(self, command: list[str], *, cwd: Path, env: dict[str, str], **_: Any) -> None:
        self.folder, self.env, self.stdin, self.pid = cwd, env, Pipe(type(self)), 2**30
        self.number, self.returncode = len(self.started), 0
        self.started.append(self)

    @property
    def order(self) -> dict[str, Any]:
        """The run, as the command has said it."""
        found: dict[str, Any] = json.loads(self.stdin.getvalue())
        return found

    def poll(self) -> int | None:
        """The exit status, of the one whose turn it is."""
        if self.ended:
            return None
        if self.next is None:
            type(self).next = next(self.ends)
        if self.number != self.next:
            return None
        type(self).next, type(self).ended = None, True
        order = self.order
        of = Job(**{field.name: order[field.name] for field in fields(Job)})
        protocol = of.protocol
        metrics = {f"{name.lower()}@{k}": 0.5 for name in protocol["metrics"] for k in protocol["topk"]}
        told = {"valid": metrics, "test": metrics, "history": [], **type(self).outcome(order)}
        users = Path(order["users_file"])
        users.parent.mkdir(exist_ok=True)
        users.write_text("ranks")
        (self.folder / "result.json").write_text(json.dumps(finished(of, **told)))
        return self.returncode

    def wait(self) -> None:
        """It is gone."""


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> type[Worker]:
    """The class of the processes of runs, which end in the order in which they began unless a test says otherwise."""

    class Fresh(Worker):
        started: list[Worker] = []  # noqa: RUF012  of this test
        ends = iter(range(100))
        outcome: Outcome = staticmethod(lambda order: {})

    names = {name: getattr(subprocess, name) for name in ("PIPE", "STDOUT")}
    monkeypatch.setattr("recbole_mmm4rec.compare.runs.subprocess", SimpleNamespace(**names, Popen=Fresh))
    return Fresh


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the pattern shop."""
    write_pattern_shop(tmp_path)
    return tmp_path


def call(plan: Plan, out: Path, jobs: int = 1, claimed: bool = True, retry_failed: bool = False) -> Records:
    """What one call of the command runs."""
    records = Records(out / "runs.jsonl")
    Runner(plan, records, out, jobs, retry_failed, claimed).run()
    return records


def state_of(order: dict[str, Any]) -> str | None:
    """What a run finds of an earlier one."""
    file = Path(order["unfinished"]) / "state"
    return file.read_text() if file.is_file() else None


# Half-trained runs


def test_a_row_that_is_taken_out_and_put_back_goes_on(shop: Path, workers: type[Worker]) -> None:
    out = shop / "out"
    both = tiny_plan(shop, models=["Pop", SLOW], seeds=[1])
    (slow,) = (found for found in both.waiting(Records(out / "none")) if found.model == "SASRec")
    (out / "unfinished" / slow.id).mkdir(parents=True)
    (out / "unfinished" / slow.id / "state").write_text("half-trained")
    call(tiny_plan(shop, models=["Pop"], seeds=[1]), out)
    assert [process.order["model"] for process in workers.started] == ["Pop"]
    found: list[str | None] = []

    def outcome(order: dict[str, Any]) -> dict[str, Any]:
        found.append(state_of(order))
        return {}

    workers.outcome = staticmethod(outcome)
    call(both, out)
    assert found == ["half-trained"]
    assert not (out / "unfinished").exists()


@pytest.mark.parametrize(("later", "state"), [(90, "60"), (None, "60"), (30, None)])
def test_a_run_that_the_limit_ended_goes_on_under_a_higher_one(
    shop: Path, workers: type[Worker], later: float | None, state: str | None
) -> None:
    out, found = shop / "out", []

    def outcome(order: dict[str, Any]) -> dict[str, Any]:
        found.append(state_of(order))
        place = Path(order["unfinished"])
        place.mkdir(parents=True, exist_ok=True)
        (place / "state").write_text(f"{order['max_seconds']:g}" if order["max_seconds"] else "")
        return {"max_seconds": order["max_seconds"], "time_up": len(found) == 1}

    workers.outcome = staticmethod(outcome)
    call(tiny_plan(shop, models=[SLOW], seeds=[1], max_seconds=60), out)
    records = call(tiny_plan(shop, models=[SLOW], seeds=[1], max_seconds=later), out)
    assert found == [None, state]
    assert len(next(iter(records.by_id.values()))) == 2
    assert [kept.name[-4:] for kept in out.glob("unfinished/*")] == ([] if state else ["-60s"])
    call(tiny_plan(shop, models=[SLOW], seeds=[1], max_seconds=later), out)
    assert len(found) == 2


def test_a_pretraining_goes_on_under_a_higher_limit_but_takes_nothing_from_one_at_work(
    shop: Path, workers: type[Worker]
) -> None:
    """Its limit is in its identity, so that rows know which one they start from."""
    runner = Runner(tiny_plan(shop), Records(shop / "runs.jsonl"), shop / "out", 2, False)
    first, longer = (job(kind="pretraining", max_seconds=limit) for limit in (60.0, 90.0))
    assert first.id != longer.id
    runner._unfinished(first).mkdir(parents=True)
    runner.running[first.id] = runner._start(first)
    runner._take_over(longer)
    assert runner._unfinished(first).is_dir()
    runner.running.clear()
    runner._take_over(job(kind="pretraining", max_seconds=90.0, seed=2))
    runner._take_over(replace(first, max_seconds=50.0))
    assert runner._unfinished(first).is_dir()
    runner._take_over(longer)
    assert runner._unfinished(longer).is_dir()
    assert not runner._unfinished(first).exists()


def order_of(shop: Path, kind: str, name: str) -> dict[str, Any]:
    """A training of three epochs as a worker gets it."""
    model, settings = {"run": ("SASRec", SASREC), "pretraining": ("MMM4Rec", OURS)}[kind]
    plan = tiny_plan(shop, models=[{"model": model, "settings": {**settings, "epochs": 3}}], seeds=[1])
    row, dataset = next(iter(plan.cells()))
    given = replace(plan.run(row, dataset, 1, {}), kind=kind, expected={})
    places = {"users_file": f"{name}.parquet", "checkpoint_file": f"{name}.safetensors", "unfinished": name}
    places = {key: str(shop / place) for key, place in places.items()}
    return {**vars(given), **places, "data_path": str(shop), "threads": 1, "pretrained_file": None}


@pytest.mark.parametrize("kind", ["run", "pretraining"])
def test_more_time_ends_as_if_there_had_been_no_limit(shop: Path, kind: str) -> None:
    whole = worker.run(order_of(shop, kind, "whole"))
    order = order_of(shop, kind, "limited")
    first = worker.run({**order, "max_seconds": 1e-9})
    assert (first["time_up"], first["epochs"], whole["epochs"]) == (True, 1, 3)
    again = worker.run({**order, "max_seconds": first["train_seconds"]})  # as when its ranks are lost
    assert (again["time_up"], again["epochs"], again.get("test")) == (True, 1, first.get("test"))
    more = worker.run({**order, "max_seconds": 1e9})
    assert (more["time_up"], more["epochs"], more["history"][0]) == (False, 3, first["history"][0])
    assert more["train_seconds"] > first["train_seconds"]  # which are counted
    assert [entry["result"] for entry in more["history"]] == [entry["result"] for entry in whole["history"]]
    assert (more.get("test"), more["best_epoch"]) == (whole.get("test"), whole["best_epoch"])


# Ranks


def test_runs_whose_ranks_are_lost_are_made_again(
    shop: Path, workers: type[Worker], capsys: pytest.CaptureFixture[str]
) -> None:
    out, plan = shop / "out", tiny_plan(shop, models=["Pop", SLOW], seeds=[1, 2])
    records = call(plan, out)
    (pop, _), (slow, _) = (
        [found for found in records.by_id.values() if found[0]["model"] == model] for model in ("Pop", "SASRec")
    )
    users_file(out, pop[0]["id"], None).unlink()
    users_file(out, slow[0]["id"], None).write_bytes(b"")  # what a loss of power leaves
    capsys.readouterr()
    workers.started.clear()
    workers.ends = iter(range(2))
    records = call(plan, out)
    made = [(process.order["model"], process.order["seed"]) for process in workers.started]
    assert sorted(made) == [("Pop", 1), ("SASRec", 1)]
    said = capsys.readouterr().err
    for record in (pop[0], slow[0]):
        file = users_file(out, record["id"], None)
        assert f"{record['label']}: {file} is gone, so it is run again\n" in said
        assert file.read_text() == "ranks"
    call(plan, out)
    assert len(workers.started) == 2


@pytest.mark.parametrize("search", [{}, {"search": [{"learning_rate": rate} for rate in (0.1, 0.2)]}], ids=str)
def test_a_failure_that_was_settled_keeps_no_run_whose_ranks_are_lost_from_being_made_again(
    shop: Path, workers: type[Worker], capsys: pytest.CaptureFixture[str], search: dict[str, Any]
) -> None:
    out, plan = shop / "out", tiny_plan(shop, models=[{**SLOW, **search}], seeds=[1])
    (job, *_) = plan.waiting(Records(out / "none"))
    failed = {**finished(job), "status": "failed", "error": "no room on the disk"}
    out.mkdir()
    Records(out / "runs.jsonl").add(failed)
    records = call(plan, out, retry_failed=True)
    assert [record["status"] for record in records.by_id[job.id]] == ["failed", "done"]
    users_file(out, job.id, None).unlink()
    workers.started.clear()
    workers.ends = iter(range(9))
    capsys.readouterr()
    records = call(plan, out)
    assert [process.order["seed"] for process in workers.started] == [1]
    assert f"{users_file(out, job.id, None)} is gone, so it is run again" in capsys.readouterr().err
    for found in (records, Records(out / "runs.jsonl")):
        assert found.done(job)
        assert found.failed(job) is None
    # what fails when it is made again has failed: it is not tried at each call, nor said to be
    users_file(out, job.id, None).unlink()
    Records(out / "runs.jsonl").add(failed)
    records = call(plan, out)
    assert len(workers.started) == 1
    assert (records.failed(job) or {})["error"] == failed["error"]
    assert "run again" not in capsys.readouterr().err


def test_ranks_that_no_table_asks_for_may_be_gone(shop: Path, workers: type[Worker]) -> None:
    out, rates = shop / "out", [{"learning_rate": rate} for rate in (0.1, 0.2)]
    plan = tiny_plan(shop, models=[{**SLOW, "search": rates}], seeds=[1])
    call(plan, out)
    chosen, other = plan.trials(*next(iter(plan.cells())))
    users_file(out, other.id, None).unlink()
    call(plan, out)
    assert len(workers.started) == 2
    users_file(out, chosen.id, None).unlink()
    call(plan, out)
    assert [process.order["settings"]["learning_rate"] for process in workers.started] == [0.1, 0.2, 0.1]


def test_ranks_are_on_the_disk_before_the_record_is(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = [], os.fsync

    def noted(number: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)
        fsync(number)

    monkeypatch.setattr(os, "fsync", noted)
    worker.run(order_of(shop, "run", "ranks"))
    assert [name for name in synced if name.startswith(".ranks.parquet.")]
    worker.run(order_of(shop, "pretraining", "model"))
    assert [name for name in synced if name.startswith(".model.safetensors.")]
    with pytest.raises(Exception, match=r"missing, though runs\.jsonl has its run; without --no-run it is made again"):
        read_ranks(shop, {"id": "a", "max_seconds": None})


# Cards, and another command


@pytest.mark.parametrize(
    ("named", "cards"),
    [(None, ["0", "1", "2"]), ("", []), ("5", ["5"]), ("1, GPU-8a,MIG-7", ["1", "GPU-8a", "MIG-7"]), ("1,-1,2", ["1"])],
)
def test_cards_that_runs_may_take(named: str | None, cards: list[str]) -> None:
    environment = {"PATH": "/bin"} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    assert visible_cards(environment, lambda: 3) == cards


def test_the_card_that_fewest_runs_have() -> None:
    assert free_card(["4", "5"], []) == "4"
    assert free_card(["4", "5"], ["4"]) == "5"
    assert free_card(["4", "5"], ["5", "4", "5"]) == "4"
    assert free_card([], [None]) is None


def test_three_cards_do_three_runs_at_once(shop: Path, workers: type[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    plan = tiny_plan(shop, models=["Pop"], seeds=[1, 2, 3, 4, 5, 6, 7])
    workers.ends = iter([1, 0, 3, 2, 4, 5, 6])
    call(plan, shop / "three", jobs=3)
    cards = [process.env["CUDA_VISIBLE_DEVICES"] for process in workers.started]
    assert cards == ["4", "5", "6", "5", "4", "5", "6"]  # each takes that of the one that has just ended


@pytest.mark.parametrize(
    ("named", "jobs", "cards"),
    [(None, 2, ["0", "1"]), (None, 1, [None] * 2), ("6", 2, ["6"] * 2), ("6,7", 1, ["6,7"] * 2), ("", 2, [""] * 2)],
)
def test_cards_in_the_environment_of_runs(
    shop: Path,
    workers: type[Worker],
    monkeypatch: pytest.MonkeyPatch,
    named: str | None,
    jobs: int,
    cards: list[str | None],
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    plan = tiny_plan(shop, models=["Pop"], seeds=[1, 2])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    call(plan, shop / "out", jobs=jobs)
    assert [process.env.get("CUDA_VISIBLE_DEVICES") for process in workers.started] == cards


@pytest.mark.parametrize("claimed", [True, False])
def test_where_nothing_is_locked_another_commands_runs_keep_their_folders(
    shop: Path, workers: type[Worker], claimed: bool
) -> None:
    other = shop / "out" / "work" / "elsewhere-7" / "run"
    other.mkdir(parents=True)
    call(tiny_plan(shop, models=["Pop"], seeds=[1]), shop / "out", claimed=claimed)
    assert other.is_dir() is not claimed
    assert list((shop / "out").glob("work/*")) == ([] if claimed else [other.parent])
    assert [process.order["dataset"] for process in workers.started] == [NAME]


@pytest.mark.parametrize("claimed", [True, False])
def test_a_process_of_the_name_of_a_killed_one_begins_where_nothing_is_locked(
    shop: Path, workers: type[Worker], claimed: bool
) -> None:
    """As a container that is started again: the same host, the same number."""
    out, plan = shop / "out", tiny_plan(shop, models=["Pop"], seeds=[1])
    (pop,) = plan.waiting(Records(out / "none"))
    killed = Runner(plan, Records(out / "none"), out, 1, False).work / pop.id
    killed.mkdir(parents=True)
    (killed / "result.json").write_text(json.dumps({"status": "failed", "error": "of before"}))
    assert call(plan, out, claimed=claimed).done(pop)
    assert not (out / "work").exists()


@pytest.mark.parametrize("claimed", [True, False])
def test_where_nothing_is_locked_no_state_is_taken_from_another_limits_run(
    shop: Path, workers: type[Worker], claimed: bool
) -> None:
    """Another command may be writing it."""
    out, found = shop / "out", []

    def outcome(order: dict[str, Any]) -> dict[str, Any]:
        found.append(state_of(order))
        return {}

    workers.outcome = staticmethod(outcome)
    plan = tiny_plan(shop, models=[SLOW], seeds=[1], max_seconds=90)
    (slow,) = plan.waiting(Records(out / "none"))
    state = Runner(plan, Records(out / "none"), out, 1, False)._unfinished(replace(slow, max_seconds=60.0))
    state.mkdir(parents=True)
    (state / "state").write_text("half-trained")
    call(plan, out, claimed=claimed)
    assert found == ["half-trained" if claimed else None]
    assert state.is_dir() is not claimed
