"""New Python processes as copies of this one, which has imported everything: seconds less for each.

For tests of what commands do to each other and to files when they are killed; that each of them starts in a process of
its own other tests show. ``pytest --new-processes`` starts all of them anew.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import types
from typing import Any

import torch._dynamo  # noqa: F401  every optimiser does, in one or two seconds
from tqdm import tqdm

_begin = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]
_get_context = multiprocessing.get_context


class Forked(subprocess.Popen[Any]):
    """Like ``subprocess.Popen``; a command of this Python is run in a copy of this process."""

    def _execute_child(self, *arguments: Any) -> None:
        given = _begin.bind(self, *arguments).arguments
        command = given["args"]
        if not isinstance(command, list) or command[0] != sys.executable or not _is_plain(command[1:]):
            super()._execute_child(*arguments)  # type: ignore[misc]
            return
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        self._child_created = True
        if not self.pid:
            _become(given)
        names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in names))  # type: ignore[attr-defined]


def _is_plain(words: list[str]) -> bool:
    """Whether words are a module, code or a script with arguments, and no option of Python's own."""
    while words and words[0] in ("-u", "-B"):
        words = words[1:]
    return bool(words) and (words[0] in ("-m", "-c") or words[0].endswith(".py"))


def _become(given: dict[str, Any]) -> None:
    """The copy: what Popen says, the program, and the end, without what this process does at its own."""
    gc.freeze()  # what the collector does not visit need not be copied
    code = 70
    tqdm.set_lock(threading.RLock())  # bars' own lock is one for all copies, and stays taken by one that is killed
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        if given["start_new_session"]:
            os.setsid()
        for place, name in enumerate(("p2cread", "c2pwrite", "errwrite")):
            if given[name] != -1:
                os.dup2(given[name], place)
        kept = {0, 1, 2, *given["pass_fds"]}
        _close_others(kept)
        if given["cwd"] is not None:
            os.chdir(given["cwd"])
        if given["env"] is not None:
            os.environ.clear()
            os.environ.update(given["env"])
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(place, mode, closefd=False) for place, mode in enumerate("rww"))
        sys.stdout.reconfigure(line_buffering=False)  # type: ignore[union-attr]
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
        code = _run([word for word in given["args"][1:] if word not in ("-u", "-B")])
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _close_others(kept: set[int]) -> None:
    """Nothing behind other numbers; they stay taken, since objects of this process will still close them."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in {int(name) for name in os.listdir("/proc/self/fd")} - kept - {nothing}:
        with contextlib.suppress(OSError):
            os.fstat(number)  # the list's own is gone by now
            os.dup2(nothing, number, inheritable=False)


def _run(words: list[str]) -> int:
    """Run a module, code or a script as Python does; the exit status."""
    sys.orig_argv = [sys.executable, *words]
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            sys.path.insert(0, os.getcwd())
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(words[1], "<string>", "exec"), vars(main))
        else:
            sys.argv = words
            sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
            runpy.run_path(words[0], run_name="__main__")
        code: Any = 0
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    return int(code or 0)


class _Process(multiprocessing.context.ForkProcess):
    """A copy of this process that has hold of what it was given alone, as a new one would."""

    def run(self) -> None:
        parent = multiprocessing.parent_process()
        _close_others({0, 1, 2, parent.sentinel if parent else 0, *_numbers((self._args, self._kwargs))})  # type: ignore[attr-defined]
        super().run()


class _Context(multiprocessing.context.ForkContext):
    Process = _Process  # type: ignore[assignment]


def _numbers(given: Any) -> set[int]:
    """Of the files behind pipes and queues."""
    if isinstance(given, dict):
        given = tuple(given.values())
    if isinstance(given, (tuple, list)):
        return set().union(*map(_numbers, given))
    ends = (given, *(getattr(given, name, None) for name in ("_reader", "_writer")))
    return {end.fileno() for end in ends if isinstance(end, multiprocessing.connection.Connection)}


def context(method: str | None = None) -> Any:
    """``multiprocessing.get_context`` that copies this process where it would begin a new one."""
    return _Context() if method == "spawn" else _get_context(method)
