"""Which room may import which, in one table; no circles among modules, and no module that is not in a room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("recbole_mmm4rec", "dataset_prep")

# From the ground up: a room may import the rooms of its row, all of which stand above it in the table.
ROOMS: dict[str, str] = {
    "base": "",
    "settings": "base",
    "distributed": "base",
    "network.ops": "base",
    "network": "base settings network.ops",
    "losses": "base settings distributed network network.ops",
    "scoring": "base settings network network.ops",
    "features": "base settings network.ops",
    "encoders": "base",
    "data": "base features network.ops",
    "compat": "base settings distributed data",
    "checkpoints": "base settings distributed compat",
    "transfer": "base settings network features checkpoints",
    "model": "network losses scoring features data",
    "rivals": "base settings distributed network network.ops losses features data checkpoints transfer",
    "training": "base settings distributed network network.ops scoring checkpoints transfer",
    "model_folder": "base network network.ops scoring encoders",
    "run": "base settings distributed scoring data compat checkpoints training model_folder",
    "recommend": "base settings network network.ops scoring features encoders data model_folder run",
    "export": "base network network.ops model_folder recommend",
    "serve": "base model_folder recommend",
    "compare": "base settings scoring features data transfer training run",
    "tune": "base settings training run",
    "plugin": "base settings features data compat run",
    "commands": "base network.ops compat transfer",
    "prep.files": "base",
    "prep.filters": "base",
    "prep.images": "base encoders prep.files",
    "prep.embed": "base features encoders prep.files prep.images",
    "prep.vectors": "base features prep.files",
    "prep.inspect": "base features encoders prep.files prep.images",
    "prep.sources": "base features encoders prep.files prep.filters prep.images",
    "prep.cli": "base",
}
ENTRIES = ("__init__", "__main__", "published", "quick_start")
"""Of the packages themselves: where programs come in, and former addresses; they may import any room."""


def module_of(file: Path) -> str:
    """The name under which a file is imported."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))}


def room_of(module: str) -> str:
    """The room of a module; of the packages themselves ``__init__``."""
    package, *inside = module.split(".")
    if package == "dataset_prep":
        return "prep." + inside[0] if inside and inside[0] != "__main__" else "__init__"
    if inside[:2] == ["network", "ops"]:
        return "network.ops"
    return inside[0] if inside else "__init__"


def imports_of(module: str, at_once: bool = False) -> Iterator[str]:
    """The modules of ours that a module imports; ``at_once``: when it is imported itself, not later in a function."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    nodes = list(ast.iter_child_nodes(tree)) if at_once else list(ast.walk(tree))
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else node.module for name in inside]
        yield from (name for name in names if name in FILES and name != module)


def arrows() -> dict[tuple[str, str], list[str]]:
    """Pairs of rooms of which the first imports the second, with the modules that do."""
    found: dict[tuple[str, str], list[str]] = {}
    for module in FILES:
        for other in imports_of(module):
            pair = room_of(module), room_of(other)
            if pair[0] != pair[1] and pair[0] not in ENTRIES and pair[1] != "__init__":
                found.setdefault(pair, []).append(f"{module} imports {other}")
    return found


def test_the_table_runs_one_way() -> None:
    seen: set[str] = set()
    for room, allowed in ROOMS.items():
        assert set(allowed.split()) <= seen, room
        seen.add(room)


def test_every_module_is_in_a_room() -> None:
    assert {room_of(module) for module in FILES} == {*ROOMS, *ENTRIES} - {"__main__"}


def test_rooms_import_what_the_table_says_and_the_table_says_no_more() -> None:
    found = arrows()
    stray = [line for (room, other), lines in found.items() if other not in ROOMS[room].split() for line in lines]
    assert not stray, "\n".join(stray)
    idle = [(room, other) for room, allowed in ROOMS.items() for other in allowed.split() if (room, other) not in found]
    assert not idle


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join((*way, module))
        if module not in done:
            for other in imports_of(module):
                visit(other, (*way, module))
            done.add(module)

    for module in FILES:
        if module.startswith(package):
            visit(module, ())


def test_nothing_imports_the_preparation() -> None:
    assert not [
        m for m in FILES if m.startswith("recbole_mmm4rec") for o in imports_of(m) if o.startswith("dataset_prep")
    ]


def test_the_network_and_the_ground_know_no_recbole() -> None:
    for module, file in FILES.items():
        if room_of(module) in ("base", "network", "network.ops"):
            nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
            names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
            names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
            assert not {name for name in names if name.partition(".")[0] == "recbole"}, module


def test_the_page_of_rooms_names_every_module_once_at_its_address() -> None:
    lines = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()
    named: list[str] = []
    package = ""
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("room of `"):
            package = cells[0].split("`")[1].rstrip("/")
        elif not line.startswith("|"):
            package = ""
        elif package and len(cells) == 3 and not cells[0].startswith("---"):
            place = cells[0].strip("`").rstrip("/").replace("/", ".") if cells[0].startswith("`") else ""
            named += [".".join(filter(None, (package, place, name))) for name in cells[2].replace("`", "").split()]
    hidden = ("__main__",)
    modules = {
        name for name, file in FILES.items() if file.name != "__init__.py" and not set(hidden) & set(name.split("."))
    }
    assert len(named) == len(set(named))
    assert set(named) == modules
