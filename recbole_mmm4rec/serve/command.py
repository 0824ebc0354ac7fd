"""``mmm4rec serve DIR``: the command, its sockets and its signals."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import ipaddress
import logging
import re
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_mmm4rec.base.command_line import Parser, command, whole
from recbole_mmm4rec.base.errors import MissingPackageError, UserError
from recbole_mmm4rec.model_folder.manifest import look_at

if TYPE_CHECKING:
    from recbole_mmm4rec.serve.app import Service

_EXAMPLES = """\
examples:
  mmm4rec serve saved/MMM4Rec-shop
  curl -H 'content-type: application/json' -d '{"history": ["ID", "ID"]}' http://127.0.0.1:8000/recommend

The page is at /, all addresses at /api. SIGTERM and Ctrl-C answer what has come, then end; a second one ends at once.
SIGHUP loads DIR again while requests go on: let DIR be a link, set it to the new folder (ln -sfn NEW DIR), and send the
signal.
"""
DRAIN = 30
"""Seconds for what is under way when the service ends."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m recbole_mmm4rec.serve.command") -> int:
    """Serve until told to end; arguments and status as of :func:`~recbole_mmm4rec.base.command_line.command`."""
    how = {"terminable": True, "kill_safe": True, "interrupted": lambda: "nothing was written"}
    return command(_parser(prog), _serve, argv, **how)


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Recommendations of a trained model over HTTP, with a page to try them.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the model folder that a training has left")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=_port, default=8000, help="(default: 8000; 0: any that is free)")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        type=_name,
        metavar="HOST",
        help="a further host name that requests may come to, where the service listens on this machine alone",
    )
    parser.add_argument("--allow-adding", action="store_true", help="let POST /items add items, in memory")
    parser.add_argument("--max-k", type=whole, default=100, metavar="N", help="items of an answer (default: 100)")
    parser.add_argument(
        "--max-history", type=whole, default=1_000, metavar="N", help="items of a request's history (default: 1000)"
    )
    parser.add_argument("--threads", type=whole, default=1, metavar="N", help="threads of a computation (default: 1)")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port, a number from 0 to 65535")
    return int(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no host name; write it without http:// and port: shop.example")
    return text


def _serve(given: Any) -> int:
    listening = _listening(given.host, given.port)  # before the model is loaded: a port in use is told at once
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can have the folder loaded again
    try:
        look_at(given.folder)
        _need_packages()
        service = _service(given)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        what = service.current.about
        print(
            f"serving {what['name']}: {what['items']:,} items at http://{shown}:{port} "
            "(SIGHUP loads the folder again, Ctrl-C ends)",
            flush=True,
        )
        _run(service, listening)
    finally:
        listening.close()
        signal.signal(signal.SIGHUP, hangup)
    return 0


def _need_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f"{error.name} is not installed: pip install 'recbole-mmm4rec[serve]'", name=error.name
        ) from None


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):  # the second of what can be no name at all
        raise UserError(f"--host {host}: no address of this machine") from None
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(1_024)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: another program listens there already; name another") from None
        if error.errno == errno.EACCES:
            raise UserError(f"--port {port}: not allowed to this user; name one above 1023") from None
        raise UserError(f"--host {host}: no address of this machine ({error.strerror})") from None
    return listening


def _service(given: Any) -> Service:
    from recbole_mmm4rec.serve.app import Service
    from recbole_mmm4rec.serve.current import Current, Kept
    from recbole_mmm4rec.serve.limits import Limits
    from recbole_mmm4rec.serve.process import Process

    current = Current(given.folder, lambda folder: Process(given.threads, folder))
    encoders = Kept(lambda: Process(given.threads), "encoders")
    limits = Limits(k=given.max_k, history=given.max_history)
    return Service(current, encoders, limits, _hosts(given.host, given.name), given.allow_adding)


def _hosts(host: str, names: Sequence[str]) -> list[str] | None:
    """The names under which the service answers; None: any, where it listens to other machines."""
    try:
        near = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = False
    if not near and not names:
        return None
    return ["127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host, *names]


def _run(service: Service, listening: socket.socket) -> None:
    import uvicorn

    _log_lines()
    config = uvicorn.Config(
        service.app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=DRAIN,
        ws="none",
    )
    server = uvicorn.Server(config)
    server.capture_signals = lambda: _signals(server, service)  # type: ignore[method-assign]
    try:
        server.run(sockets=[listening])
    finally:
        service.close()


@contextlib.contextmanager
def _signals(server: Any, service: Service) -> Iterator[None]:
    """While the service runs: SIGTERM and Ctrl-C end it when all is answered, SIGHUP loads the folder again."""
    loop, before = asyncio.get_running_loop(), {}

    def end() -> None:
        server.force_exit = server.should_exit  # a second time: at once
        server.should_exit = True

    does = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: service.change}
    for number, handler in does.items():
        before[number] = signal.getsignal(number)
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in does:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def _log_lines() -> None:
    log = logging.getLogger("recbole_mmm4rec.serve")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
