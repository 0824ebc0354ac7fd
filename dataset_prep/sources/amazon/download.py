"""Fetches large public files: goes on where it was broken off, and lets nobody use what is not whole."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from tqdm import tqdm

from dataset_prep.images.client import Client, FetchError, FetchLimits, refuse
from dataset_prep.sources.amazon.public_files import PublicFile
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file, whole_file
from recbole_mmm4rec.base.locks import alone

CHUNK = 1 << 20
HEADERS = {"User-Agent": "recbole-mmm4rec", "Accept": "*/*", "Accept-Encoding": "identity"}
LIMITS = FetchLimits(timeout=60.0, retries=5, backoff=2.0)
"""Sixty seconds without a byte are a failure; a file may take days."""


@dataclass(frozen=True)
class _Note:
    """What a server said of a file of which a part is here, beside that part.

    Attributes:
        url: where it was asked for.
        validator: its ETag or date; "" where the server gives none, and then nothing can be gone on with.
        total: bytes of the whole file, or None.
    """

    url: str
    validator: str
    total: int | None


def download(files: Sequence[PublicFile], base: str, folder: Path, limits: FetchLimits = LIMITS) -> list[Path]:
    """Fetch what is not there, and check what is.

    Args:
        files: what is wanted.
        base: address that their paths follow.
        folder: where they go; one command at a time works there.
        limits: of the requests; ``max_bytes`` counts for nothing.

    Returns:
        The files, in their order, each whole.

    Raises:
        UserError: a file cannot be had, or is not the one that is known. What came of it stays, and the same command
            goes on with it.
    """
    with alone(folder, "download", f"--raw {folder}"):
        return [_Download(file, f"{base.rstrip('/')}/{file.path}", folder, limits).bring() for file in files]


class _Download:
    """One file on its way: ``.NAME.part`` with ``.NAME.note``, then NAME with ``.NAME.fetched``."""

    def __init__(self, file: PublicFile, url: str, folder: Path, limits: FetchLimits) -> None:
        self.file, self.url = file, url
        self.whole = folder / file.name
        self.part, self.note, self.fetched = (
            folder / f".{file.name}.{suffix}" for suffix in ("part", "note", "fetched")
        )
        self.client = Client(limits, 1)

    def bring(self) -> Path:
        """The file, whole and checked."""
        if self.whole.is_file():
            self._check_again()
            return self.whole
        try:
            self.client.patiently(self._once)
        except FetchError as error:
            here = self.part.stat().st_size if self.part.is_file() else 0
            raise UserError(
                f"{self.url}: {error}; {here:,} bytes are in {self.part}, and the same command goes on from there"
            ) from None
        digest = self._checked(self.part)
        with whole_file(self.fetched) as file:
            file.write(json.dumps({"url": self.url, "bytes": self.part.stat().st_size, "sha256": digest}).encode())
        os.replace(self.part, self.whole)
        self.note.unlink(missing_ok=True)
        return self.whole

    def _once(self) -> None:
        """One request, for what is missing."""
        before, here = self._noted()
        headers = dict(HEADERS)
        if here and before is not None:
            if here == before.total:
                return
            headers |= {"Range": f"bytes={here}-", "If-Range": before.validator}
        self.client.follow(self.url, headers, lambda response: self._take(response, here, before))

    def _noted(self) -> tuple[_Note | None, int]:
        """What was said of the part that is here, and its bytes; nothing that could be of another file."""
        try:
            told = json.loads(self.note.read_bytes())
            note = _Note(str(told["url"]), str(told["validator"]), told["total"])
            size = self.part.stat().st_size
            too_much = not isinstance(note.total, int | None) or (note.total is not None and size > note.total)
        except (OSError, ValueError, KeyError, TypeError):
            return None, 0
        return (None, 0) if note.url != self.url or not note.validator or too_much else (note, size)

    def _take(self, response: urllib3.BaseHTTPResponse, here: int, before: _Note | None) -> None:
        """Write what comes behind what is there, or anew where the server begins anew."""
        goes_on = response.status == 206 and before is not None and here > 0
        if not goes_on and response.status in (206, 416):
            self.note.unlink(missing_ok=True)  # nothing that was asked for: the next try begins anew
            raise FetchError(f"HTTP {response.status} for a part", passing=True)
        if goes_on:
            start, total = _range(response)
            if start != here or before is None or (before.total is not None and total != before.total):
                self.note.unlink(missing_ok=True)
                raise FetchError("another file than the one that was begun", passing=True)
        else:
            refuse(response)
            here, total = 0, _length(response)
            validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            note = _Note(self.url, "" if validator.startswith("W/") else validator, total)
            self.part.unlink(missing_ok=True)  # before the note: a part never stands beside another file's
            with whole_file(self.note) as file:
                file.write(json.dumps(vars(note)).encode())
        bar = tqdm(total=total, initial=here, unit="B", unit_scale=True, desc=self.file.name, dynamic_ncols=True)
        with bar, self.part.open("ab" if here else "wb") as file:
            while chunk := response.read1(CHUNK, decode_content=False):
                file.write(chunk)
                bar.update(len(chunk))
                self.client.patience()
            file.flush()
            os.fsync(file.fileno())
        size = self.part.stat().st_size
        if total is not None and size != total:
            raise FetchError(f"broken off at {size:,} of {total:,} bytes", passing=True)

    def _checked(self, path: Path) -> str:
        """The SHA-256 of a file that is what it should be.

        Raises:
            UserError: it is not; it is gone then, so that the same command fetches it anew.
        """
        digest = hash_file(path)
        complaint = None
        if self.file.sha256 is not None:
            if digest != self.file.sha256:
                complaint = f"its SHA-256 is {digest}, known is {self.file.sha256}"
        else:
            complaint = self._damage(path)
        if complaint is None:
            return digest
        for gone in (path, self.note, self.fetched):
            gone.unlink(missing_ok=True)
        raise UserError(f"{self.url}: not the file that is known: {complaint}; it was removed, try once more")

    def _damage(self, path: Path) -> str | None:
        """What is wrong with a file without a known hash: a gzip file has a checksum of its own."""
        if not path.stat().st_size:
            return "it is empty"
        try:
            with gzip.open(path) if self.file.name.endswith(".gz") else path.open("rb") as file:
                while file.read(CHUNK):
                    pass
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            return f"it is damaged ({error})"
        return None

    def _check_again(self) -> None:
        """A file that is there: the bytes that were fetched and checked, or as good as those."""
        try:
            told: dict[str, Any] = json.loads(self.fetched.read_bytes())
            known = (told["bytes"], told["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            self._checked_by_hand()
            return
        if (self.whole.stat().st_size, hash_file(self.whole)) != known:
            raise UserError(
                f"{self.whole}: changed since it was fetched; remove it, and the same command fetches it anew"
            )

    def _checked_by_hand(self) -> None:
        """A file that somebody else put there is checked like a fetched one, and stays whatever comes out."""
        if self.file.sha256 is not None and hash_file(self.whole) != self.file.sha256:
            raise UserError(
                f"{self.whole}: not the file that is known by its SHA-256; put the right one there, or none"
            )
        complaint = None if self.file.sha256 is not None else self._damage(self.whole)
        if complaint is not None:
            raise UserError(f"{self.whole}: not the file that is known: {complaint}; put the right one there, or none")


def _length(response: urllib3.BaseHTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length[:20]) if length.isascii() and length.isdigit() else None


def _range(response: urllib3.BaseHTTPResponse) -> tuple[int | None, int | None]:
    """First byte and total of ``Content-Range: bytes 7-9/10``."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not (first.isascii() and first.isdigit()):
        return None, None
    return int(first[:20]), int(total[:20]) if total.isascii() and total.isdigit() else None
