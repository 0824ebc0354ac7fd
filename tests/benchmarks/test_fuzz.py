"""The fuzzer finds what it looks for, in readers that do each of it; the same line goes on."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from shop import REPOSITORY

from recbole_mmm4rec.base.errors import UserError

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import fuzz
from fuzzing import feed as feeding
from fuzzing import watch
from fuzzing.cases import Reader, as_it_is, made
from fuzzing.damage import BY_KIND, damage, input_of
from fuzzing.feed import feed
from fuzzing.log import Log, table
from fuzzing.models import with_hash


def writes_elsewhere(folder: Path) -> None:
    Path(os.environ["ELSEWHERE"]).open("w").close()


def takes_memory(folder: Path) -> None:
    bytearray(2**30)  # more than what earlier tests of this process may have left free


def never_ends(folder: Path) -> None:
    while True:
        time.sleep(0.01)


def hides_it_all(folder: Path) -> None:
    try:
        never_ends(folder)
    except Exception as error:
        raise UserError("damaged") from error


def dies(folder: Path) -> None:
    os.kill(os.getpid(), 9)


def refuses(folder: Path) -> None:
    raise UserError(f"{folder}: not\nso")


def says_nothing(folder: Path) -> None:
    raise UserError(" ")


FINDS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "nothing": (lambda folder: (folder / "a").read_bytes(), None),
    "a refusal": (refuses, None),
    "an error": (lambda folder: {}["x"], "traceback"),
    "a way out": (lambda folder: sys.exit(0), "traceback"),
    "a file elsewhere": (writes_elsewhere, "outside"),
    "a folder elsewhere": (lambda folder: (folder / f"../../../{os.getpid()}").mkdir(exist_ok=True), "outside"),
    "a program": (lambda folder: os.system("true"), "run"),
    "a process": (lambda folder: subprocess.run(["true"], check=True), "run"),
    "a pickle": (lambda folder: pickle.loads(pickle.dumps(Path("x"))), "run"),
    "code": (lambda folder: exec("1"), "run"),
    "memory": (takes_memory, "memory"),
    "time": (never_ends, "hang"),
    "time, hidden": (hides_it_all, "hang"),
    "an end": (dies, "death"),
    "silence": (says_nothing, "no message"),
}


@pytest.mark.parametrize("name", FINDS)
def test_what_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(feeding, "MEMORY_DISK", str(tmp_path))
    monkeypatch.setattr(watch, "SECONDS", 0.1 if name.startswith("time") else 60)
    monkeypatch.setattr(watch, "MEMORY", 2**25)
    read, kind = FINDS[name]
    began: list[bool] = []

    def later(folder: Path) -> None:
        if began:  # the first is the good one, before anything is watched
            read(folder)
        began.append(True)

    reader = Reader(name, 3, [{"a": b"x"}], {"": "bytes"}, later)
    log = Log(tmp_path / "log.jsonl", 1)
    feed(reader, range(3), log, time.monotonic() + 60)
    assert {one["kind"] for one in log.found} == ({kind} if kind else set())
    assert log.done(name) == 3
    counts = log.counts[name]
    assert counts["tripped"] == (3 if kind else 0)
    assert counts["refused"] == (3 if name == "a refusal" else 0)
    again = Log(tmp_path / "log.jsonl", 1)
    assert (again.done(name), again.found) == (3, log.found)
    assert table([reader], again)[-1].startswith("| all | 3 |")
    assert Log(tmp_path / "log.jsonl", 2).done(name) == 0


def test_an_input_is_the_same_at_each_run() -> None:
    cases = [{"a.json": b'{"x": [1, 2, {"y": "z"}]}', "b.csv": b"a,b\n1,2\n"}]
    reader = Reader("one", 9, cases, {".json": "json", ".csv": "csv"})
    inputs = [input_of(reader, 1, number) for number in range(40)]
    assert inputs == [input_of(reader, 1, number) for number in range(40)]
    assert inputs[0] == cases[0]
    assert len({str(one) for one in inputs}) > 30
    assert inputs[1:] != [input_of(reader, 2, number) for number in range(1, 40)]


@pytest.mark.parametrize("kind", [*BY_KIND, "bytes"])
def test_any_damage_can_be_done_to_anything(kind: str) -> None:
    import random

    draw = random.Random(kind)
    content = b'{"x": 1}\na\tb,c\nk: v\n'
    for _ in range(60):
        content = damage(content, kind, draw, [b"other", b""])[:4_000]
        assert isinstance(content, bytes)


def test_hashes_are_made_right_again(tmp_path: Path) -> None:
    from recbole_mmm4rec.checkpoints.format import read, write

    file = tmp_path / "a.safetensors"
    write(file, {"epoch": 3, "words": "one"})
    changed = file.read_bytes().replace(b"one", b"two")
    file.write_bytes(changed)
    with pytest.raises(UserError, match="is damaged"):
        read(file)
    file.write_bytes(with_hash(changed))
    assert read(file)["words"] == "two"
    assert as_it_is({"a": b"x"}) == {"a": b"x"}


def test_every_reader_gets_to_the_end_of_a_good_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that refuses all that it is given at its first line finds nothing, however often it is asked."""
    monkeypatch.setattr(feeding, "MEMORY_DISK", str(tmp_path))
    monkeypatch.setattr(watch, "SECONDS", 60)
    hollow = []
    for reader in fuzz.all_readers(made(tmp_path / "made")):
        for number, case in enumerate(reader.cases):
            log = Log(tmp_path / reader.name.replace("/", "") / f"{number}.jsonl", 1)
            feed(reader, range(1), log, time.monotonic() + 300, given=reader.mend(dict(case)))
            assert not log.found
            if log.counts[reader.name]["read"]:
                break
        else:
            hollow.append(reader.name)
    assert hollow == []
