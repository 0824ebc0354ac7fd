"""A picture server on loopback with every kind of trouble, and the pictures it serves."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from PIL import Image


def picture(colour: tuple[int, int, int] = (200, 30, 40), kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture with one colour and a gradient."""
    image = Image.new("RGB", size, colour)
    for x in range(size[0]):
        image.putpixel((x, x % size[1]), (x * 5 % 256, 255 - x * 3 % 256, 90))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def bomb_png(side: int = 50_000) -> bytes:
    """A few bytes that claim to be side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


class Server(ThreadingHTTPServer):
    """Counts requests by path; ``broken`` paths answer 503 while they are in it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.most_at_once = 0
        self.at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output clean."""

    def do_GET(self) -> None:
        """Every kind of answer."""
        server, path = self.server, self.path
        with server.lock:
            server.asked[path] += 1
            turn = server.asked[path]
        self._answer(path, turn)

    def _pause(self) -> None:
        """Counted until the answer begins: a client with its answer may ask again before this thread goes on."""
        with self.server.lock:
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        time.sleep(0.05)
        with self.server.lock:
            self.server.at_once -= 1

    def _answer(self, path: str, turn: int) -> None:
        kind = path.strip("/").split("/")[0].split("?")[0]
        if path in self.server.broken:
            self._send(503, b"")
        elif kind == "ok":
            self._send(200, picture((len(path) * 20 % 256, turn, 9), "JPEG" if path.endswith("jpg") else "PNG"))
        elif kind == "pause":
            self._pause()
            self._send(200, picture())
        elif kind == "flaky":
            self._send(500 if turn == 1 else 200, picture())
        elif kind == "busy":
            self._send(429 if turn == 1 else 200, picture(), {"Retry-After": "0"})
        elif kind == "to":
            self._send(302, b"", {"Location": unquote(path.removeprefix("/to/"))})
        elif kind == "loop":
            self._send(302, b"", {"Location": "/loop"})
        elif kind == "html.gif":
            self._send(200, b"<html><body>no</body></html>", {"Content-Type": "image/gif"})
        elif kind == "bomb.png":
            self._send(200, bomb_png())
        elif kind == "cut.jpg":
            self._send(200, picture(kind="JPEG", size=(200, 200))[:-900])
        elif kind == "large":
            self._send(200, b"x" * 300_000)
        elif kind == "endless":
            self._drip(b"x" * 60_000, 0.0)
        elif kind == "slow":
            self._drip(b"x", 0.05)
        elif kind == "headers":
            self._drip_headers()
        elif kind == "silent":
            self.close_connection = True
            self.connection.recv(1)  # until the client has seen enough
        elif kind == "odd":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 200 OK\r\nno header at all\r\nX: y\r\n\r\n" + picture())
        elif kind == "short":
            self._send(200, picture(), {"Content-Length": "99999"})
            self.close_connection = True
        elif kind == "empty":
            self._send(200, b"")
        else:
            self._send(404, b"gone")

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, piece: bytes, pause: float) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        try:
            for _ in range(200):
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(pause)
        except OSError:  # the client has seen enough
            return

    def _drip_headers(self) -> None:
        self.close_connection = True
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(200):
                for byte in f"X-{number}: y\r\n".encode():
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
        except OSError:  # the client has seen enough
            return


@contextmanager
def serving() -> Iterator[Server]:
    """A running server."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
