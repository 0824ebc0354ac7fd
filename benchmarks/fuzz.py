"""Feeds damaged files, settings and requests to every reader: none may end in anything but a result or one line.

    python benchmarks/fuzz.py --minutes 5        # the same line goes on, until every reader has had its inputs
    python benchmarks/fuzz.py --again            # the inputs that were found to trip a reader, once more
    python benchmarks/fuzz.py --only pictures --goal 1000

Good files are made by the program itself; an input is one of them with some damage (fuzzing/damage.py), drawn from the
seed, the reader's name and the input's number. Readers run in a copy of this process, one at a time. Found is: any
exception but the program's own mistakes of users (a status below 500 of the service), a message of more than one line,
more than 10 s, more than 1 GiB, a process that dies, a file that is written outside of the input's folder, a call to
another program, code that is run, an object that is unpickled, and the network. Each goes into the log with its input.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a copy of a process has one thread
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzzing import cases
from fuzzing.cases import Reader
from fuzzing.feed import CHUNK, feed
from fuzzing.log import Log, table
from machine import processor
from tqdm import tqdm


def all_readers(corpus: Path) -> list[Reader]:
    """Every reader of the program."""
    from fuzzing import amazon, data, models, service, settings

    rooms = (data, amazon, settings, models, service)
    return [reader for room in rooms for reader in room.readers(corpus)]


def again(readers: list[Reader], log: Log, corpus: Path) -> int:
    """Read the kept inputs once more; how many still trip their reader."""
    left = 0
    by_name = {reader.name: reader for reader in readers}
    for record in log.found:
        if "input" not in record or record["reader"] not in by_name:
            continue
        reader = by_name[record["reader"]]
        case = cases.files_of(Path(record["input"]))
        trial = Log(Path(tempfile.mkdtemp()) / "again.jsonl", log.seed)
        feed(reader, range(0, 1), trial, time.monotonic() + 600, given=case)
        still = [f"{one['kind']}: {one['what'][:160]} {one['where']}" for one in trial.found]
        left += bool(still)
        print(f"{record['reader']} {record['number']}: {'; '.join(still) or 'mended'}", flush=True)
    return left


def main(argv: list[str] | None = None) -> int:
    """Feed the readers; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="READER", help="readers whose names begin so")
    parser.add_argument("--goal", type=int, help="inputs of each reader (default: each its own, a million in all)")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--seed", type=int, default=1, help="of the damage (default: 1)")
    parser.add_argument("--log", type=Path, default=Path("build/fuzz.jsonl"), help="what was done; goes on from it")
    parser.add_argument("--again", action="store_true", help="the inputs that were found, once more")
    parser.add_argument("--list", action="store_true", help="the table alone")
    given = parser.parse_args(argv)
    begin = time.monotonic()
    log_file = given.log.resolve()
    os.environ["XDG_STATE_HOME"] = str(log_file.with_suffix("") / "state")
    corpus = cases.made(log_file.with_suffix("") / "made")
    readers = all_readers(corpus)
    chosen = [one for one in readers if not given.only or one.name.startswith(tuple(given.only))]
    log = Log(log_file, given.seed)
    if given.again:
        return min(1, again(chosen, log, corpus))
    deadline = begin + 60 * given.minutes
    goals = {reader.name: given.goal or reader.goal for reader in chosen}
    before = len(log.found)
    with tqdm(
        total=sum(goals.values()), unit=" inputs", ncols=100, disable=given.list or not sys.stderr.isatty()
    ) as bar:
        bar.update(sum(min(goals[name], log.done(name)) for name in goals))
        while not given.list and time.monotonic() < deadline:
            left = [one for one in chosen if log.done(one.name) < goals[one.name]]
            if not left:
                break
            reader = min(left, key=lambda one: log.done(one.name) / goals[one.name])  # all get on evenly
            bar.set_description(reader.name[:24])
            done = log.done(reader.name)
            part = min(goals[reader.name], done + max(CHUNK, goals[reader.name] // 20))
            feed(reader, range(done, part), log, deadline, bar)
    print(processor())
    print("\n".join(table(chosen, log)))
    return 1 if len(log.found) > before else 0


if __name__ == "__main__":
    sys.exit(main())
