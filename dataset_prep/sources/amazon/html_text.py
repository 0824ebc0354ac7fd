"""Plain text from HTML."""

from __future__ import annotations

import html
import re

from lxml import etree
from lxml import html as lxml_html

from recbole_mmm4rec.base.texts import MAX_CHARS

_ROUNDS = 3  # descriptions are often escaped twice; the last round is for the tags
# What no parser has to follow into its depth: scripts, styles and comments with what is in them, and tags.
_TAGS = re.compile(r"<(script|style)\b.*?(</\1\s*>|\Z)|<!--.*?(-->|\Z)|</?[a-z!?][^<>]*>?", re.DOTALL | re.IGNORECASE)
_NO_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # libxml2 refuses some of them


def plain_text(text: str) -> str:
    """The text without tags, comments, scripts and styles, entities resolved; where a tag was stands a blank.

    Args:
        text: may hold HTML, also escaped; cut to ``MAX_CHARS`` characters.
    """
    text = text[:MAX_CHARS]
    if not (text.isascii() and text.isprintable()):
        text = _NO_CHARACTERS.sub("", text)
    for _ in range(_ROUNDS):
        if "<" in text:
            text = _without_tags(text)
        elif "&" in text:
            text = html.unescape(text)
        else:
            break
    return " ".join(text.split())


def _without_tags(text: str) -> str:
    parser = lxml_html.HTMLParser(remove_comments=True, remove_pis=True, no_network=True)
    tree = lxml_html.document_fromstring(f"<div>{text}", parser=parser)
    if any("Excessive depth" in error.message for error in parser.error_log):  # what lies deeper was left out
        return html.unescape(_TAGS.sub(" ", text))
    etree.strip_elements(tree, "script", "style", with_tail=False)
    return " ".join(tree.itertext())
