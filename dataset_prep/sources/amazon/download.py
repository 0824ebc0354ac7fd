"""Fetches large public files: goes on where it was broken off, and lets nobody use what is not whole."""

from __future__ import annotations

import gzip
import json
import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
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
"""Sixty seconds without a byte are a failure; a file may take days, and any number of tries that bring more of it."""

logger = logging.getLogger(__name__)


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
        UserError: a file cannot be had, is not the one that is known, or does not find room. What came of it stays,
            and the same command goes on with it.
    """
    with alone(folder, "download", f"--raw {folder}"):
        downloads = [_Download(file, f"{base.rstrip('/')}/{file.path}", folder, limits) for file in files]
        check_room(folder, sum(one.known_to_come() for one in downloads))
        return [one.bring() for one in downloads]


def check_room(folder: Path, coming: int) -> None:
    """Raise a UserError where so many bytes do not fit into a folder."""
    free = disk_usage(folder).free
    if coming > free:
        raise UserError(
            f"--raw {folder}: {coming:,} bytes are to come, {free:,} are free there; make room, or name another folder"
        )


class _Download:
    """One file on its way: ``.NAME.part`` with ``.NAME.note``, then NAME with ``.NAME.fetched``.

    A whole file that is not the known one stands aside as ``NAME.other``.
    """

    def __init__(self, file: PublicFile, url: str, folder: Path, limits: FetchLimits) -> None:
        self.file, self.url = file, url
        self.folder, self.whole, self.other = folder, folder / file.name, folder / f"{file.name}.other"
        self.part, self.note, self.fetched = (
            folder / f".{file.name}.{suffix}" for suffix in ("part", "note", "fetched")
        )
        self.client = Client(limits, 1)

    def known_to_come(self) -> int:
        """Bytes that are missing, as far as the size is known."""
        if self.whole.is_file() or self.other.is_file():
            return 0
        return max(0, (self.file.bytes or 0) - self._here())

    def bring(self) -> Path:
        """The file, whole and checked."""
        if self.whole.is_file():
            self._check_again()
            return self.whole
        found = self.other if self.other.is_file() else self._fetch()
        digest = self._checked(found)
        with whole_file(self.fetched) as file:
            file.write(json.dumps({"url": self.url, "bytes": found.stat().st_size, "sha256": digest}).encode())
        os.replace(found, self.whole)
        self.note.unlink(missing_ok=True)
        return self.whole

    def _here(self) -> int:
        """Bytes that have come."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def _fetch(self) -> Path:
        """All bytes of the file, not looked at yet."""
        try:
            self.client.patiently(self._once, self._here)
        except FetchError as error:
            here = f"{self._here():,} bytes are in {self.part}"
            raise UserError(f"{self.url}: {error}; {here}, and the same command goes on from there") from None
        return self.part

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
            here, total = 0, self._begun(response)
        check_room(self.folder, (total or here) - here)
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

    def _begun(self, response: urllib3.BaseHTTPResponse) -> int | None:
        """Note what the server says of the whole file, which begins; its bytes, where they are told."""
        refuse(response)
        total = _length(response)
        if total is not None and self.file.bytes not in (None, total):
            logger.warning("%s: %d bytes, known are %d: perhaps another version", self.url, total, self.file.bytes)
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        note = _Note(self.url, "" if validator.startswith("W/") else validator, total)
        self.part.unlink(missing_ok=True)  # before the note: a part never stands beside another file's
        with whole_file(self.note) as file:
            file.write(json.dumps(vars(note)).encode())
        return total

    def _checked(self, found: Path) -> str:
        """The SHA-256 of a whole file that may be used.

        Raises:
            UserError: it is another file than the known one, and stands aside then; or it is damaged, and is gone, so
                that the same command fetches it anew.
        """
        digest = hash_file(found)
        if self.file.sha256 is None:
            damage = self._damage(found)
            if damage is not None:
                for gone in (found, self.note, self.fetched):
                    gone.unlink(missing_ok=True)
                raise UserError(
                    f"{self.url}: not the file that is known: {damage}; it was removed: try once more, "
                    f"or add {self.file.option} FILE with one from elsewhere"
                )
        elif digest != self.file.sha256:
            os.replace(found, self.other)  # gigabytes, and the hash that is known may be wrong
            self.note.unlink(missing_ok=True)
            raise self._unknown(self.other, digest)
        return digest

    def _unknown(self, path: Path, digest: str) -> UserError:
        return UserError(
            f"{path}: not the file that is known: its SHA-256 is {digest}, known is {self.file.sha256}; if it is right "
            f"all the same, add {self.file.option} {path}; if not, remove it, and the same command fetches it anew"
        )

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
        if self.file.sha256 is not None:
            digest = hash_file(self.whole)
            if digest != self.file.sha256:
                raise self._unknown(self.whole, digest)
            return
        damage = self._damage(self.whole)
        if damage is not None:
            raise UserError(
                f"{self.whole}: not the file that is known: {damage}; put the right one there, or remove it, and the "
                "same command fetches it"
            )


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
