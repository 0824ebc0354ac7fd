"""The settings files that come with the package, found from any folder."""

from __future__ import annotations

from pathlib import Path

from recbole_mmm4rec.settings.defaults import properties_dir


def packaged(path: str) -> str:
    """A settings file by the address that it has in the repository, wherever the command stands.

    Args:
        path: of a file, such as ``properties/model/MMM4Rec-small.yaml``.

    Returns:
        ``path`` where there is such a file, or none of ours; else the package's own file.
    """
    own = properties_dir() / Path(path).relative_to("properties") if Path(path).parts[:1] == ("properties",) else None
    return str(own) if own is not None and own.is_file() and not Path(path).exists() else path
