"""The fenced blocks of README and docs, and what the comment above each says about running it.

A block of ``bash`` or ``python`` is run by ``make docs-test``, all of a page in order, in one folder. A comment right
above it says otherwise::

    <!-- not run: REASON -->            it is not run
    <!-- before: COMMANDS -->           these are run first: what the reader has and a fresh folder lacks
    <!-- with: OLD => NEW -->           NEW stands for OLD in what is run; a shell's words, such as $(ls saved/*.pth)
    <!-- in the background until: URL -->   it goes on while the page's other blocks run, from when URL answers

Commands are run at small size: ``page_runner.py`` says what is added.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from shop import REPOSITORY

PAGES = (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md")))
RUN = ("bash", "python")
SHOWN = ("text", "yaml", "json", "http", "html", "{toctree}")
"""Languages of blocks that are only shown."""
_WORDS = re.compile(r"<!--\s*(not run|before|with|in the background until):\s*(.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``place`` is PAGE:LINE of its fence."""

    place: str
    language: str
    code: str
    reason: str = ""
    before: tuple[str, ...] = ()
    instead: tuple[tuple[str, str], ...] = ()
    until: str = ""

    @property
    def to_run(self) -> str:
        """The code with what stands for the reader's own names put in."""
        code = self.code
        for old, new in self.instead:
            code = code.replace(old, new)
        return code


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    above: list[str] = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            above.append(token.content)
        elif token.type == "fence":
            assert token.map
            words = _WORDS.findall("\n".join(above))
            given = {kind: [html.unescape(text) for name, text in words if name == kind] for kind, _ in words}
            found.append(
                Block(
                    f"{page.relative_to(REPOSITORY)}:{token.map[0] + 1}",
                    token.info.strip(),
                    token.content,
                    " ".join(given.get("not run", ())),
                    tuple(given.get("before", ())),
                    tuple((old, new) for text in given.get("with", ()) for old, _, new in [text.partition(" => ")]),
                    "".join(given.get("in the background until", ())),
                )
            )
            above = []
        elif token.type not in ("list_item_close", "bullet_list_close", "ordered_list_close"):
            above = []
    return found
