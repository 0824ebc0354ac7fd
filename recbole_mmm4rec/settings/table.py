"""The files that are made of the rows: the defaults of MMM4Rec and the table of the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_mmm4rec.settings.defaults import properties_dir, recbole_properties, settings_in
from recbole_mmm4rec.settings.registry import PARTS
from recbole_mmm4rec.settings.setting import RECBOLE, Counts, Setting

_YAML_HEAD = """\
# Defaults of MMM4Rec: the paper's sizes, and training settings that work from scratch on small shops.
# The paper's own training settings: --config_files=properties/model/MMM4Rec-paper.yaml
# Axes: B users, I items, L positions, D width, E = expand * D, P head width, H = E / P heads, N state, G groups
# Made by `python -m recbole_mmm4rec.settings --write` from recbole_mmm4rec/settings/rows: change it there.
"""

_DOCS_HEAD = """\
# Settings

Every setting that is checked or that counts for something, by the part that it belongs to. MMM4Rec's defaults also
stand in [properties/model/MMM4Rec.yaml](../properties/model/MMM4Rec.yaml); RecBole's models have settings of their own
beside these. A value that a setting cannot have is refused in one line, whichever way it comes: command line, YAML file
or Python.

This page is made by `python -m recbole_mmm4rec.settings --write` from the rows in `recbole_mmm4rec/settings/rows`.

What a setting counts for, beside the result:

"""

WORDS = {
    Counts.DATA: ("data", "it changes the data set: one that was saved under another value is not used again"),
    Counts.SHAPE: (
        "weights",
        "a fine-tuning shares it with its pre-training; the command that is shown at the end names it",
    ),
    Counts.MEANING: ("meaning", "weights fit under any value but mean something else: a warning says so"),
    Counts.PROTOCOL: ("protocol", "all models of a comparison share it: it stands under `protocol` or `datasets`"),
    Counts.COMMAND: ("each run", "a comparison sets it for each run"),
    Counts.ELSEWHERE: ("own place", "a comparison file says it elsewhere than among settings"),
    Counts.FIXED: ("not searched", "a search cannot try values of it"),
    Counts.RESUMED: ("may change", "it may differ between a run and the one that goes on with it"),
    Counts.LAUNCH: ("launch", "it says on which processes a run happens"),
    Counts.COMPUTED: ("computed", "it is computed, and refused where somebody sets it"),
}
"""Each flag in the table's words, and what it means."""


def yaml_text() -> str:
    """The text of ``properties/model/MMM4Rec.yaml``."""
    lines = [_YAML_HEAD.rstrip("\n")]
    for part, rows in PARTS.items():
        written = [row for row in rows if row.default is not RECBOLE]
        if written:
            lines += ["", f"# {part}", *(line for row in written for line in _yaml_lines(row))]
    return "\n".join(lines) + "\n"


def _yaml_lines(row: Setting) -> Iterator[str]:
    comment = f"# ({row.kind.short}) {row.about}"
    if isinstance(row.default, dict):
        yield f"{row.name + ':':<30}{comment}"
        yield from (f"    {key}: {_plain(value)}" for key, value in row.default.items())
    else:
        yield f"{f'{row.name}: {_plain(row.default)}':<29} {comment}"


def _plain(value: Any) -> str:
    if value is None:
        return "~"
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, list) else str(value)


def docs_text() -> str:
    """The text of ``docs/settings.md``."""
    theirs = {
        **settings_in(recbole_properties() / "dataset" / "sample.yaml"),
        **settings_in(recbole_properties() / "overall.yaml"),
    }
    lines = [_DOCS_HEAD + "\n".join(f"- **{word}**: {meaning}." for word, meaning in WORDS.values())]
    for part, rows in PARTS.items():
        lines += [
            "",
            f"## {part}",
            "",
            "| setting | models | what it is | may be | default | counts for |",
            "|---|---|---|---|---|---|",
            *(_docs_line(row, theirs) for row in rows),
        ]
    return "\n".join(lines) + "\n"


def _docs_line(row: Setting, theirs: dict[str, Any]) -> str:
    counts = [word for flag, (word, _) in WORDS.items() if flag in row.counts]
    about = row.about + (f" Instead: {row.instead}." if row.instead else "")
    may_be = row.kind.wanted or "nothing"
    models = ", ".join([*(["MMM4Rec"] if row.ours else []), *row.models]) or "all"
    cells = (f"`{row.name}`", models, about, may_be, _default(row, theirs), ", ".join(counts))
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\t", "\\t") for cell in cells) + " |"


def _default(row: Setting, theirs: dict[str, Any]) -> str:
    found = [] if row.default is RECBOLE else [f"`{row.default!r}`"]
    if row.name in theirs and not row.ours and theirs[row.name] != row.default:
        found.append(f"RecBole: `{theirs[row.name]!r}`")
    return "; ".join(found)


def files() -> dict[Path, str]:
    """The files that are made of the rows, and their texts."""
    root = properties_dir().parent
    return {properties_dir() / "model" / "MMM4Rec.yaml": yaml_text(), root / "docs" / "settings.md": docs_text()}
