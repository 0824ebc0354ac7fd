"""What the fuzzer watches while a file is read: time, memory, writes elsewhere, and anything that is run."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

SECONDS = 10.0
"""Of one input; on a busy machine up to three times as many pass as long as the process gets less than half of them."""
MEMORY = 2**30
"""Bytes that one input may add to the most that the process has held."""
ASKED = 6 * 2**30
"""Bytes that an input may ask for; the system refuses more, as it refuses what no machine has, and a line says so."""
LINE = 4_200
"""Characters of a message, at most."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
    "shutil.rmtree": (0,),
    "shutil.move": (0, 1),
}
_RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn")
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request")


class Hang(BaseException):
    """An input takes too long; no ``except Exception`` keeps it."""


class Watch:
    """Looks on while inputs are read; made once in a process, which it then belongs to.

    Args:
        inside: the folder in which files may be written.

    Attributes:
        seen: what an input did that it must not.
    """

    def __init__(self, inside: Path) -> None:
        self._inside = os.path.realpath(inside) + os.sep
        self._on = False
        self.seen: list[tuple[str, str, str]] = []
        self._began = self._used = 0.0
        self._again = 0
        forget_peak()
        self._peak = peak()
        signal.signal(signal.SIGALRM, self._late)
        sys.addaudithook(self._audit)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Within it one input is read."""
        self.seen.clear()
        self._again = 0
        self._began, self._used = time.monotonic(), time.process_time()
        self._on = True
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._on = False
            now = peak()
            if now > self._peak + MEMORY:
                self.seen.append(("memory", f"{(now - self._peak) >> 20:,} MiB more", ""))
            self._peak = max(self._peak, now)

    def _late(self, number: int, frame: FrameType | None) -> None:
        self._again += 1
        if self._again < 3 and time.process_time() - self._used < SECONDS * self._again / 2:
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            return
        raise Hang(f"{time.monotonic() - self._began:.0f} s")

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event == "open":
            path, mode, flags = given
            writes = flags & _WRITES if isinstance(flags, int) else False
            if isinstance(path, (str, bytes)) and (writes or (isinstance(mode, str) and set(mode) & set("wax+"))):
                self._place(event, path)
        elif event in _CHANGES:
            for at in _CHANGES[event]:
                if isinstance(given[at], (str, bytes, os.PathLike)):
                    self._place(event, given[at])
        elif event in _RUNS or event in _NETWORK:
            self._note("run" if event in _RUNS else "network", f"{event} {given[0]!r}"[:200])
        elif event == "pickle.find_class":
            self._note("run", f"pickle asks for {given[0]}.{given[1]}"[:200])
        elif event == "exec":
            code = given[0]
            name = getattr(code, "co_filename", "")
            if not os.path.isabs(name) and not name.startswith("<frozen"):
                self._note("run", f"exec of {name}")

    def _place(self, event: str, path: Any) -> None:
        self._on = False  # what is called here is no doing of the input's
        try:
            real = os.path.realpath(os.fsdecode(path))
        except ValueError:  # a zero byte
            real = ""
        finally:
            self._on = True
        if real and real != "/dev/null" and not (real + os.sep).startswith(self._inside):
            self._note("outside", f"{event} {real}"[:300])

    def _note(self, kind: str, what: str) -> None:
        self._on = False
        try:
            frames = traceback.extract_stack()[:-3]
            if not _benign(kind, what, frames):
                self.seen.append((kind, what, where(frames)))
        finally:
            self._on = True


def _benign(kind: str, what: str, frames: traceback.StackSummary) -> bool:
    """Whether it is Python's own: classes that the standard library makes from text, not from what was read."""
    files = [frame.filename for frame in frames]
    if what.startswith("exec of") and files and files[-1].endswith(("/dataclasses.py", "collections/__init__.py")):
        return True
    return any(name.startswith("<frozen importlib") for name in files) and kind != "outside"


def peak() -> int:
    """Bytes that this process has held at most, since :func:`forget_peak`."""
    told = Path("/proc/self/status").read_bytes()
    at = told.index(b"VmHWM:") + 6
    return int(told[at : told.index(b"kB", at)]) * 1024


def forget_peak() -> None:
    """Let the most that this process has held be what it holds now: what it is a copy of may have held more."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_bytes(b"5")


def allowed_memory(more: int) -> None:
    """Let this process have no more than it has, and ``more`` bytes."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))


def where(frames: traceback.StackSummary) -> str:
    """The last place of ours in a stack, and the last of all."""
    ours = [frame for frame in frames if "recbole_mmm4rec" in frame.filename or "dataset_prep" in frame.filename]
    told = [*ours[-1:], *frames[-1:]] if frames else []
    lines = [f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}" for frame in told]
    return " > ".join(dict.fromkeys(lines))


def mistakes(message: str, spot: str) -> list[tuple[str, str, str]]:
    """What is wrong with a message for a user: more than a line, no text, or endless.

    Args:
        message: what the user is told.
        spot: where it was raised.
    """
    found = []
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") for char in message):
        found.append(("more than a line", ascii(message[:200]), spot))
    if len(message) > LINE:
        found.append(("a long line", f"{len(message):,} characters: {message[:160]!a}", spot))
    if not message.strip():
        found.append(("no message", "", spot))
    return found
