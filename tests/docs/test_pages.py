"""The pages' blocks: each is run or says why not, and names commands, options, files and settings that there are."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from page_blocks import PAGES, RUN, SHOWN, Block, blocks
from shop import REPOSITORY

from recbole_mmm4rec.commands.__main__ import COMMANDS, main

pytestmark = pytest.mark.pinned  # the pages are the same with every Python

BLOCKS = [block for page in PAGES for block in blocks(page)]
LINK = re.compile(r"\]\(([^)\s#]*)(#[^)\s]*)?\)")


def test_every_block_is_run_or_says_why_not() -> None:
    assert len(BLOCKS) > 40
    assert not [block.place for block in BLOCKS if block.language not in (*RUN, *SHOWN)]
    run = [block for block in BLOCKS if block.language in RUN and not block.reason]
    shy = [block for block in BLOCKS if block.language in RUN and block.reason]
    assert len(run) > 15
    assert not [block.place for block in shy if len(block.reason.split()) < 3]
    assert not [block.place for block in shy if block.before or block.instead or block.until]
    assert not [block.place for block in run for old, _ in block.instead if old not in block.code]


def test_modules_of_the_pages_are_there() -> None:
    rooms = ("recbole_mmm4rec", "dataset_prep", "benchmarks", "tests", "examples")
    places = {f"/{file.relative_to(REPOSITORY)}" for room in rooms for file in (REPOSITORY / room).rglob("*.py")}
    recbole = Path(find_spec("recbole").origin).parent  # type: ignore[arg-type,union-attr]
    places |= {f"/recbole/{file.relative_to(recbole)}" for file in recbole.rglob("*.py")}
    named = {(page.name, name) for page in PAGES for name in re.findall(r"`([\w./]+/\w+\.py)`", page.read_text())}
    assert len(named) > 30
    assert not [found for found in named if not any(place.endswith(f"/{found[1]}") for place in places)]


def test_every_block_can_be_read() -> None:
    for block in BLOCKS:
        if block.language == "python":
            ast.parse(block.code, block.place)
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.code))
    text = "\n".join(block.code for block in BLOCKS if block.language == "bash")
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each ``mmm4rec``, ``make`` and ``python`` in a block of bash."""
    for line in block.code.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||;|(?<![|\"'])\|(?!\|)|\bdo\b|\bdone\b", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words = words[1:]
            if words and words[0] in ("mmm4rec", "make", "python"):
                yield [word for word in words if word != "&"]


SAID = [(block.place, words) for block in BLOCKS if block.language == "bash" for words in commands(block)]


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        code = main([*words, "--help"])
    except SystemExit as ended:  # argparse's way
        code = int(ended.code or 0)
    assert code == 0, words
    return capsys.readouterr().out


def test_commands_and_options_of_the_pages_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    from recbole_mmm4rec.settings.keys import keys_of_other_models, known_keys

    helps: dict[tuple[str, ...], str] = {}
    keys = known_keys("MMM4Rec") | keys_of_other_models()
    seen = 0
    for place, words in SAID:
        if words[0] != "mmm4rec" or len(words) < 2 or words[1].startswith("-"):
            continue
        assert words[1] in COMMANDS, (place, words)
        command = tuple(words[1:3] if words[1] == "prep" and len(words) > 2 else words[1:2])
        if command not in helps:
            helps[command] = help_of(list(command), capsys)
            assert helps[command].startswith(f"usage: mmm4rec {' '.join(command)}"), place
        for word in words[1:]:
            option = word.partition("=")[0]
            if option.startswith("--"):
                known = re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", helps[command])
                assert known or (command in (("train",), ("tune",)) and option[2:] in keys), (place, option)
                seen += 1
    assert seen > 50


def test_targets_modules_and_files_of_the_pages_are_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for place, words in SAID:
        if words[0] == "make":
            asked = [word for word in words[1:] if "=" not in word]
            assert set(asked) <= targets, (place, words)
        elif words[0] == "python" and "-m" in words:
            module = words[words.index("-m") + 1]
            file = REPOSITORY / Path(*module.split("."))
            assert module == "pytest" or file.with_suffix(".py").exists() or (file / "__main__.py").exists(), (
                place,
                words,
            )
        for file in re.findall(r"properties/[\w./-]+\.yaml", " ".join(words)):
            assert (REPOSITORY / file).is_file(), (place, file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target, anchor in LINK.findall(text):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor[1:] in anchors(file), f"{page.name}: {target}{anchor}"


def anchors(page: Path) -> set[str]:
    """What GitHub and MyST call the headings of a page."""
    found = set()
    for heading in re.findall(r"^#{1,6} +(.*?)#*$", page.read_text(encoding="utf-8"), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def test_every_page_is_in_the_sites_table_of_contents() -> None:
    named = set()
    for block in blocks(REPOSITORY / "docs" / "index.md"):
        if block.language == "{toctree}":
            named |= {line.strip() for line in block.code.splitlines() if line.strip() and not line.startswith(":")}
    assert {page.stem for page in PAGES if page.parent == REPOSITORY / "docs"} - {"index"} <= named
