"""Writes docs/licences.md: the licence of each package that this one needs, by what is installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
HEAD = """\
# Licences of the packages

Of what `pip install '.[EXTRA]'` brings, as the packages themselves say it; `make licences` writes this page from what
is installed. A package that several need stands once, at the first. This program itself is MIT.

| package | version | needed by | licence |
|---|---|---|---|
"""
EXTRAS = ("", "text", "cpu", "prep", "images", "bench", "tune", "serve", "export", "hub", "gpu")


def licence(name: str) -> str:
    """The licence, in a few words."""
    told = distribution(name).metadata
    words = [told.get("License-Expression") or ""]
    words += [line.rpartition(":: ")[2] for line in told.get_all("Classifier") or () if line.startswith("License ::")]
    words.append((told.get("License") or "").strip().split("\n")[0][:60])
    return next((word for word in words if word and word not in ("UNKNOWN", "OSI Approved")), "not said")


def needs(name: str, extra: str) -> list[str]:
    """The packages that one asks for."""
    found = []
    for line in distribution(name).requires or ():
        wanted = Requirement(line)
        plain = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        asked = wanted.marker is not None and extra and wanted.marker.evaluate({"extra": extra})
        if (plain and not extra) or (asked and not plain):
            found.append(re.sub(r"[-_.]+", "-", wanted.name).lower())
    return found


def main() -> None:
    """Write the page."""
    rows, seen = [], {"recbole-mmm4rec"}
    for extra in EXTRAS:
        waiting = [(name, extra or "always") for name in needs("recbole-mmm4rec", extra)]
        while waiting:
            name, why = waiting.pop(0)
            if name in seen:
                continue
            seen.add(name)
            try:
                rows.append(f"| {name} | {distribution(name).version} | {why} | {licence(name)} |")
                waiting += [(other, name) for other in needs(name, "")]
            except PackageNotFoundError:
                rows.append(f"| {name} | – | {why} | not installed here |")
    (ROOT / "docs" / "licences.md").write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
