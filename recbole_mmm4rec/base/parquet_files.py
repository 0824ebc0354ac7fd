"""Files of Arrow's, read so that a damaged or foreign one is told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_mmm4rec.base.errors import UserError


@contextmanager
def arrow_mistakes(path: Path, what: str = "no Parquet file, or cut off") -> Iterator[None]:
    """Within it what Arrow says of a file becomes one line; it says it by errors of many kinds.

    Args:
        path: the file.
        what: it then is.

    Raises:
        UserError: naming the file; others pass as they are.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:  # absent, or a release that refuses this NumPy
        raise UserError(f"{path}: reading Parquet needs pyarrow ({error}): pip install 'pyarrow<26'") from None
    try:
        yield
    except UserError:
        raise
    # Beside its own: no UTF-8, a date or duration that Python does not have, a time zone that nobody knows
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError, LookupError) as error:
        raise UserError(f"{path}: {what} ({error})") from None
