"""The site of these pages: ``make docs`` builds it into docs/_build/html.

Pages are plain Markdown that reads as well in the repository. What the site needs besides is made here, in
docs/_made/ (not in git): the pages that lie outside of this folder, the public names with their docstrings, the
settings files. Links to files outside of this folder lead there.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
MADE = DOCS / "_made"
sys.path.insert(0, str(ROOT))

from recbole_mmm4rec import __all__ as NAMES  # noqa: E402
from recbole_mmm4rec import __version__  # noqa: E402

project = "recbole-mmm4rec"
author = "the authors of recbole-mmm4rec"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
templates_path: list[str] = []
html_theme = "furo"
html_title = f"recbole-mmm4rec {release}"
html_show_sourcelink = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "off"  # notebooks are stored with their outputs; tests/docs runs them
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True

OUTSIDE = {
    "CHANGELOG.md": "changes",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "README.md": "readme",
    "examples/README.md": "examples",
}
"""Pages beside this folder → their names on the site."""
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def links(text: str, page: Path, made: bool) -> str:
    """A page's text with the links of the site: what lies outside of docs/ is found where it was made.

    Args:
        text: Markdown, with links as they are right beside ``page``.
        page: the file that the text comes from.
        made: whether the text goes to docs/_made/ instead of to where ``page`` is.

    Returns:
        The text with those links changed.
    """
    here = MADE if made else page.parent

    def changed(found: re.Match[str]) -> str:
        head, target, anchor, tail = found.groups()
        file = (page.parent / target).resolve()
        if "://" in target or target.startswith(("mailto:", "/")) or not file.is_relative_to(ROOT):
            return found[0]
        name = str(file.relative_to(ROOT))
        if name in OUTSIDE:
            file = MADE / f"{OUTSIDE[name]}.md"
        elif file.is_dir() and (ROOT / "properties") in (file, *file.parents):
            file, anchor = MADE / "properties.md", ""
        elif file.suffix == ".ipynb":
            file = MADE / file.name
        return f"{head}{os.path.relpath(file, here)}{anchor or ''}{tail}"

    return LINK.sub(changed, text)


def make_pages() -> None:
    """Write docs/_made/."""
    MADE.mkdir(exist_ok=True)
    for name, page in OUTSIDE.items():
        _write(f"{page}.md", links((ROOT / name).read_text(encoding="utf-8"), ROOT / name, made=True))
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        _write(notebook.name, links(notebook.read_text(encoding="utf-8"), notebook, made=True))
    files = sorted((ROOT / "properties").rglob("*.yaml"))
    parts = [f"## {file.relative_to(ROOT)}\n\n```yaml\n{file.read_text(encoding='utf-8')}```\n" for file in files]
    _write(
        "properties.md",
        "# Settings files\n\nWhat lies in `properties/`; `--config_files` takes any of them.\n\n" + "\n".join(parts),
    )
    _write(
        "names.rst",
        "Public names and their docstrings\n=================================\n\n" + "\n".join(map(_entry, NAMES)),
    )


def _entry(name: str) -> str:
    import recbole_mmm4rec

    value = getattr(recbole_mmm4rec, name)
    kind = "class" if isinstance(value, type) else "function" if callable(value) else "data"
    return f".. auto{kind}:: recbole_mmm4rec.{name}\n"


def _write(name: str, text: str) -> None:
    file = MADE / name
    if not file.exists() or file.read_text(encoding="utf-8") != text:  # else Sphinx would read it again
        file.write_text(text, encoding="utf-8")


def setup(app: object) -> None:
    """Sphinx's entry: make the pages before any is read, and change links as each is."""
    make_pages()

    def on_read(app: object, name: str, source: list[str]) -> None:
        file = DOCS / f"{name}.md"
        if file.exists() and file.parent == DOCS:
            source[0] = links(source[0], file, made=False)

    app.connect("source-read", on_read)  # type: ignore[attr-defined]
