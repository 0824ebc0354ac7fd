"""``images``: puts the pictures of a data set's items into its folder and says why the others are missing."""

from __future__ import annotations

import filecmp
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from dataset_prep.images.client import FetchError, FetchLimits, PictureClient
from dataset_prep.images.files import (
    find_pictures,
    picture_folder,
    picture_stem,
    remove_leftovers,
    save_picture,
)
from dataset_prep.images.report import EMBED, FETCH, Missing, read_report, report_path, write_report
from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.base.command_names import prepare
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.pictures import (
    DEFAULT_MAX_PIXELS,
    MOST_PIXELS,
    BadPictureError,
    check_picture,
    need_pillow,
)

COLUMN = "image"


@dataclass(frozen=True)
class ImageOptions:
    """How pictures are brought.

    Attributes:
        folder: where local file names are looked up, or None.
        concurrency: threads.
        max_pixels: width times height of a picture.
        limits: of a fetch.
    """

    folder: Path | None = None
    concurrency: int = 16
    max_pixels: int = DEFAULT_MAX_PIXELS
    limits: FetchLimits = field(default_factory=FetchLimits)


def fetch_images(name: str, out: Path, options: ImageOptions) -> str:
    """Brings the pictures that are missing into ``OUT/NAME/images``.

    Args:
        name: of the data set; its ``.item`` file has a column ``image`` with URLs, largest first, or a file name.
        out: folder of data sets.
        options: how pictures are brought.

    Returns:
        What was done, for the screen.

    Raises:
        UserError: no such data set or column, or an option out of its range.
    """
    need_pillow()
    _check_options(options)
    items, wanted = read_item_column(out / name / f"{name}.item", COLUMN)
    folder = picture_folder(out / name)
    folder.mkdir(exist_ok=True)
    remove_leftovers(folder)
    there = find_pictures(folder)
    report = report_path(out / name)
    before = read_report(report)
    bring = _Bring(folder, options)
    missing: dict[str, Missing] = {}
    to_do: list[tuple[str, str]] = []
    for item, source in zip(items, wanted, strict=True):
        old = before.get(item)
        picture = there.get(picture_stem(item))
        if picture is not None and bring.has_another(source, picture):
            picture.unlink()
            to_do.append((item, source))
        elif picture is not None:
            if old is not None and old.stage == EMBED:
                missing[item] = old
        elif not source.strip():
            missing[item] = Missing(item, FETCH, "no image in the .item file")
        elif old is not None and not old.try_again and old.asked == bring.asked(source):
            missing[item] = old
        else:
            to_do.append((item, source))
    failed = _bring_all(bring, to_do, options.concurrency)
    missing.update((entry.item, entry) for entry in failed)
    write_report(report, missing.values())
    return _summary(name, len(items), len(to_do) - len(failed), missing, report)


class _Bring:
    """Brings one picture after the other; safe to call from several threads."""

    def __init__(self, folder: Path, options: ImageOptions):
        self._folder, self._options = folder, options
        self._root = options.folder.resolve() if options.folder else None
        self.client = PictureClient(options.limits, options.concurrency)

    def asked(self, source: str) -> str:
        limits = self._options.limits
        what = [source, limits.max_bytes, self._options.max_pixels, limits.allow_private]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]

    def __call__(self, item: str, source: str) -> Missing | None:
        candidates = source.split() if "://" in source else [source.strip()]
        reasons: dict[str, None] = {}
        passing = False
        for candidate in candidates:
            try:
                data = self.client.get(candidate) if "://" in candidate else self._read(candidate)
                suffix = check_picture(data, self._options.max_pixels)
            except FetchError as error:
                reasons[str(error)] = None
                passing |= error.passing
            except BadPictureError as error:
                reasons[str(error)] = None
                passing |= "://" not in candidate  # reading it once more costs nothing
            else:
                save_picture(self._folder, item, data, suffix)
                return None
        return Missing(item, FETCH, "; ".join(reasons), passing, self.asked(source))

    def has_another(self, source: str, picture: Path) -> bool:
        """Whether the --images folder has other bytes for a file name than a picture that was brought before."""
        if self._root is None or not source.strip() or "://" in source:
            return False
        with suppress(FetchError, OSError):
            return not filecmp.cmp(self._local(source.strip()), picture, shallow=False)
        return False

    def _local(self, name: str) -> Path:
        if self._root is None:
            raise FetchError(f"'{name}' is a file name; say with --images DIR where it is", passing=True)
        limit = self._options.limits.max_bytes
        try:
            path = (self._root / name).resolve()
            if not path.is_relative_to(self._root):
                raise FetchError(f"'{name}' lies outside of the --images folder", passing=True)
            if not path.is_file():
                raise FetchError(f"no file '{name}' in the --images folder", passing=True)
            if path.stat().st_size > limit:
                raise FetchError(f"more than {limit:,} bytes", passing=True)
            return path
        except (OSError, ValueError, RuntimeError) as error:  # no permission, a NUL in the name, a link to itself
            raise _unreadable(name, error) from None

    def _read(self, name: str) -> bytes:
        path = self._local(name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> FetchError:
    return FetchError(f"'{name[:200]}' cannot be read ({type(error).__name__})", passing=True)


def _bring_all(bring: _Bring, to_do: list[tuple[str, str]], concurrency: int) -> list[Missing]:
    failed: list[Missing] = []
    with (
        ThreadPoolExecutor(concurrency) as pool,
        tqdm(total=len(to_do), unit=" items", desc="fetching", disable=not to_do) as progress,
    ):
        try:
            for outcome in _as_completed(pool, bring, to_do, 4 * concurrency):
                if outcome is not None:
                    failed.append(outcome)
                progress.set_postfix_str(f"{len(failed)} failed", refresh=False)
                progress.update()
        except BaseException:
            bring.client.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def _as_completed(
    pool: ThreadPoolExecutor, bring: _Bring, to_do: list[tuple[str, str]], window: int
) -> Iterator[Missing | None]:
    """Outcomes as they come; only ``window`` items wait in the pool, however many there are."""
    rest = iter(to_do)
    under_way: set[Future[Missing | None]] = {pool.submit(bring, *pair) for pair in islice(rest, window)}
    while under_way:
        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
        under_way |= {pool.submit(bring, *pair) for pair in islice(rest, len(done))}
        for future in done:
            yield future.result()


def _summary(name: str, items: int, new: int, missing: dict[str, Missing], report: Path) -> str:
    without = [entry for entry in missing.values() if entry.stage == FETCH]
    lines = [f"{name}: {items - len(without):,} of {items:,} items have a picture, {new:,} of them new"]
    common = sorted(Counter(entry.reason for entry in without).items(), key=lambda pair: (-pair[1], pair[0]))
    lines += [f"  {count:,} without: {reason}" for reason, count in common[:8]]
    again = sum(entry.try_again for entry in without)
    if again:
        lines.append(f"  {again:,} of these may come with another run")
    if missing:
        lines.append(f"every reason: {report}")
    lines.append(f"next: {prepare('embed', report.parent, '--image-encoder')}")
    return "\n".join(lines)


def _check_options(options: ImageOptions) -> None:
    limits = options.limits
    for flag, value, good, range_ in (
        ("--concurrency", options.concurrency, 1 <= options.concurrency <= 1024, "1 to 1024"),
        ("--rate", limits.rate, limits.rate is None or limits.rate > 0, "more than 0"),
        ("--max-bytes", limits.max_bytes, limits.max_bytes >= 1, "at least 1"),
        ("--max-pixels", options.max_pixels, 1 <= options.max_pixels <= MOST_PIXELS, f"1 to {MOST_PIXELS:,}"),
        ("--retries", limits.retries, 0 <= limits.retries <= 20, "0 to 20"),
        ("--timeout", limits.timeout, 0 < limits.timeout <= 3600, "seconds, more than 0, up to 3600"),
    ):
        if not good:
            raise UserError(f"{flag} {value}: must be {range_}")
    if options.folder is not None and not options.folder.is_dir():
        raise UserError(f"--images {options.folder}: no such folder")
