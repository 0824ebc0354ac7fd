"""Connections whose responses end at a deadline, headers among them.

A time-out of a socket is a wait for the next byte: a server that sends one now and then would be waited for for ever.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from http.client import HTTPResponse
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

LOOK_EVERY = 0.5
"""Seconds between two looks at whether the client was stopped."""


class Deadline(threading.local):
    """Until when the responses of this thread must have ended.

    Args:
        stopped: ends all waits when it is set.

    Attributes:
        at: seconds of ``time.monotonic``.
    """

    at: float = float("inf")

    def __init__(self, stopped: threading.Event) -> None:
        self.stopped = stopped

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            TimeoutError: none, or the client was stopped.
        """
        left = self.at - time.monotonic()
        if left <= 0 or self.stopped.is_set():
            raise TimeoutError("timed out")
        return left


def pools(deadline: Deadline, **given: Any) -> urllib3.PoolManager:
    """Connection pools that keep a deadline.

    Args:
        deadline: of the thread that asks.
        given: as for ``urllib3.PoolManager``.
    """

    class Response(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
            super().__init__(sock, *args, **more)
            self.fp = io.BufferedReader(_Timed(self.fp, sock, deadline))

    class Plain(HTTPConnection):
        response_class = Response

    class Secure(HTTPSConnection):
        response_class = Response

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    manager = urllib3.PoolManager(**given)
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return manager


class _Timed(io.RawIOBase):
    """A socket's bytes until the deadline.

    Args:
        held: the file that keeps the socket open.
        sock: the socket.
        deadline: of the thread that reads.
    """

    def __init__(self, held: Any, sock: socket.socket, deadline: Deadline) -> None:
        self._held, self._sock, self._deadline = held, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self._sock.settimeout(min(self._deadline.left(), LOOK_EVERY))
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                continue  # the deadline tells

    def close(self) -> None:
        self._held.close()
        super().close()
