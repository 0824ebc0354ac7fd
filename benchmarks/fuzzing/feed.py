"""Inputs and the processes that read them."""

from __future__ import annotations

import json
import mmap
import os
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuzzing.cases import Case, Reader
from fuzzing.damage import input_of
from fuzzing.log import Log
from fuzzing.watch import ASKED, Hang, Watch, allowed_memory, mistakes, where

from recbole_mmm4rec.base.errors import UserError

CHUNK = 500
"""Inputs of a line in the log."""
MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where inputs lie."""
DEAF = 60.0
"""Seconds without a sign after which a reader is ended from outside."""

Found = tuple[str, str, str]


class Place:
    """A folder that holds one input after the other; what is the same is not written again."""

    def __init__(self, folder: Path, cleared: bool) -> None:
        self.folder, self._cleared, self._there = folder, cleared, Case()
        folder.mkdir(parents=True)

    def fill(self, case: Case) -> None:
        """Write an input."""
        if self._cleared:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            self._there = {}
        for name in self._there.keys() - case.keys():
            (self.folder / name).unlink(missing_ok=True)
        for name, data in case.items():
            if self._there.get(name) != data:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(data)
        self._there = dict(case)


def outcome(reader: Reader, read: Any, place: Place, case: Case, watch: Watch) -> tuple[str, list[Found]]:
    """What came of one input: "read", "refused" or "tripped", and what was found."""
    place.fill(case)
    found: list[Found] = []
    word = "read"
    try:
        with watch.looking():
            read(place.folder)
    except UserError as error:
        word = "refused"
        found += mistakes(str(error), where(traceback.extract_tb(error.__traceback__)))
    except Hang as error:
        found.append(("hang", str(error), where(traceback.extract_tb(error.__traceback__))))
    except MemoryError as error:
        found.append(("memory", repr(error)[:200], where(traceback.extract_tb(error.__traceback__))))
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        found.append(("traceback", f"{type(error).__name__}: {error}"[:300], where(frames)))
    found += watch.seen
    return ("tripped" if found else word), found


def work(
    reader: Reader,
    numbers: Iterator[int],
    told: int,
    seed: int,
    deadline: float,
    now: mmap.mmap,
    base: Path,
    given: Case | None,
) -> None:
    """Read inputs, in a process of its own; a line of JSON each chunk, and each finding, to ``told``."""
    inside = base / "inside"
    os.makedirs(inside / "tmp")
    os.environ["TMPDIR"] = tempfile.tempdir = str(inside / "tmp")
    os.chdir(inside)
    sys.argv = ["mmm4rec"]
    sys.dont_write_bytecode = True  # a reader that is the first to import a module would write into its folder
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    place = Place(inside / "input", reader.cleared)
    read = reader.begin(inside) if reader.begin else reader.read
    for case in reader.cases[:3]:  # what is imported late is imported now
        place.fill(reader.mend(dict(case)))
        with suppress(UserError):
            read(place.folder)
    watch = Watch(inside)
    allowed_memory(ASKED)
    counted: Counter[str] = Counter()
    began = time.process_time()

    def tell(record: dict[str, Any]) -> None:
        os.write(told, json.dumps(record).encode() + b"\n")

    for number in numbers:
        now[:8] = struct.pack("<q", number)
        case = input_of(reader, seed, number) if given is None else given
        word, found = outcome(reader, read, place, case, watch)
        if sorted(os.listdir(base)) != ["inside"]:
            found.append(("outside", f"beside its folder: {sorted(os.listdir(base))}", ""))
        counted[word if not found else "tripped"] += 1
        for kind, what, spot in found:
            tell({"number": number, "kind": kind, "what": what, "where": spot})
        last = time.monotonic() > deadline
        if counted.total() == CHUNK or last or any(kind in ("memory", "hang") for kind, _, _ in found):
            tell({"end": number + 1, **counted, "seconds": round(time.process_time() - began, 3)})
            counted.clear()
            began = time.process_time()
        if last or any(kind == "memory" for kind, _, _ in found):
            break
    else:
        if counted:
            tell({"end": number + 1, **counted, "seconds": round(time.process_time() - began, 3)})
    os._exit(0)


def feed(reader: Reader, numbers: Any, log: Log, deadline: float, bar: Any = None, given: Case | None = None) -> None:
    """Give a reader its inputs, in as many processes as it takes; one that dies has found something.

    Args:
        reader: who reads.
        numbers: of the inputs, a range.
        log: takes what is told.
        deadline: of ``time.monotonic``.
        bar: to be moved on.
        given: the input to read instead of the numbered ones.
    """
    now = mmap.mmap(-1, 8)
    while numbers and time.monotonic() < deadline:
        begin = numbers[0]
        now[:8] = struct.pack("<q", begin - 1)
        ours, theirs = os.pipe()
        base = Path(tempfile.mkdtemp(prefix="fuzz-", dir=MEMORY_DISK))
        child = os.fork()
        if not child:
            os.close(ours)
            try:
                os.setsid()
                work(reader, iter(numbers), theirs, log.seed, deadline, now, base, given)
            except BaseException:
                os.write(theirs, json.dumps({"broken": traceback.format_exc()}).encode() + b"\n")
                os._exit(70)
        os.close(theirs)
        end = _listen(reader, child, ours, log, now)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        last = struct.unpack("<q", now[:8])[0]
        if status:
            log.add(reader, {"number": last, "kind": "death", "what": f"exit {status}", "where": ""})
            log.add(reader, {"end": last + 1, "tripped": 1})
            end = last + 1
        shutil.rmtree(base, ignore_errors=True)
        if bar is not None:
            bar.update(max(0, end - begin))
        numbers = range(max(end, begin), numbers.stop)


def _listen(reader: Reader, child: int, pipe: int, log: Log, now: mmap.mmap) -> int:
    """Take what a process tells until it ends; the number after its last input."""
    end, seen, heard, rest = -1, b"", time.monotonic(), b""
    while True:
        ready, _, _ = select.select([pipe], [], [], 1.0)
        if now[:8] != seen:
            seen, heard = now[:8], time.monotonic()
        if time.monotonic() - heard > DEAF:
            os.killpg(child, signal.SIGKILL)
        if not ready:
            continue
        part = os.read(pipe, 2**16)
        if not part:
            os.close(pipe)
            return end
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            record = json.loads(line)
            if "broken" in record:
                os.close(pipe)
                raise RuntimeError(f"{reader.name}: {record['broken']}")
            log.add(reader, record)
            end = record.get("end", end)
