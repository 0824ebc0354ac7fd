"""A server of files on loopback that breaks off, changes its mind, or knows no parts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves ``files``, path to bytes.

    Attributes:
        breaks: path to the byte at which its next answer breaks off; each counts once.
        most: bytes of any answer, which breaks off after them.
        waits: path to the byte at which its next answer stops until ``go`` is set; each counts once.
        odd: path to status and headers of its next answer, without a body; each counts once.
        tags: path to its ETag; "" for none.
        parts: whether it knows ``Range``.
        asked: path and ``Range`` of each request.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.breaks: dict[str, int] = {}
        self.most: int | None = None
        self.waits: dict[str, int] = {}
        self.go = threading.Event()
        self.odd: dict[str, tuple[int, dict[str, str]]] = {}
        self.tags = dict.fromkeys(files, '"1"')
        self.parts = True
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output clean."""

    def do_GET(self) -> None:
        """The file, or what is wanted of it."""
        server, path, wanted = self.server, self.path, self.headers.get("Range")
        server.asked.append((path, wanted))
        if path not in server.files:
            self.send_error(404)
            return
        if path in server.odd:
            self._answer_oddly(*server.odd.pop(path))
            return
        content, tag = server.files[path], server.tags[path]
        begin = 0
        if wanted and server.parts and self.headers.get("If-Range") == tag:
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - begin))
        if tag:
            self.send_header("ETag", tag)
        self.end_headers()
        end = len(content) if server.most is None else begin + server.most
        body = content[begin : min(end, server.breaks.pop(path, len(content)))]
        first = server.waits.pop(path, len(body))
        self.wfile.write(body[:first])
        if body[first:]:
            self.wfile.flush()
            server.go.wait(60)
            with contextlib.suppress(OSError):  # who asked is gone
                self.wfile.write(body[first:])
        self.close_connection = True

    def _answer_oddly(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[FileServer]:
    """The server, running."""
    server = FileServer(files)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
