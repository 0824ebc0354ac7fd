"""The paper's table from the first file to the last, by the commands of docs/data.md, on small files from loopback.

Sizes are small, and so is the encoder: an open_clip model with random weights takes the place of SigLIP, whose weights
and tokenizer no package has.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from amazon_files import make_reviews, meta_record
from file_server import FileServer, served
from page_blocks import blocks
from picture_server import picture
from shop import REPOSITORY
from tiny_clip import make_tiny_clip

from dataset_prep.sources.amazon import asked
from dataset_prep.sources.amazon.public_files import PublicSet
from recbole_mmm4rec.commands.__main__ import main
from recbole_mmm4rec.compare import published_rows
from recbole_mmm4rec.features.store import FeatureStore
from recbole_mmm4rec.settings.defaults import properties_dir

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("own_folder", "forked")]
USERS, ITEMS = 30, 16
TINY = {"hidden_size": 16, "inner_size": 16, "d_state": 4, "n_groups": 2, "head_dim": 8}
SETTINGS = {"Pop": {}, "Neighbours": {}, "MMM4Rec": {**TINY, "epochs": 2}}
"""What makes a model of the file small; of any other one, two epochs."""
INSTEAD = {
    "scientific pantry instruments arts office food home cds kindle movies": "scientific food home",
    "food home cds kindle movies": "food home",
    "--download $set": "--download $set --mirror URL",
    "prep images $set": "prep images $set --allow-private-addresses",
    "open_clip:ViT-B-16-SigLIP/webli": "open_clip:clip/whole",
    "properties/compare/paper.yaml": "paper.yaml",
}
"""What is other here than on the page."""


def add_category(server: FileServer, name: str, letter: str, seed: int) -> PublicSet:
    """Put ratings, metadata and pictures of a category on the server; the last item has no picture and no text."""
    rows = [
        (letter + item[1:], user, rating, second) for user, item, second, rating in make_reviews(USERS, ITEMS, 8, seed)
    ]
    ratings = "".join(f"{item},{user},{rating},{second}\n" for item, user, rating, second in rows).encode()
    records: list[dict[str, Any]] = []
    for number in range(ITEMS):
        item, path = f"{letter}{number:09d}", f"/pictures/{name}{number}.png"
        server.files[path], server.tags[path] = picture((number * 15, seed * 40, 90)), '"1"'
        address = {"imageURLHighRes": [server.url + path], "imageURL": []}
        records.append({**meta_record(number, 2018), "title": f"{name} {number}", "asin": item, **address})
    records[-1] = {"asin": records[-1]["asin"], "title": ""}
    metadata = gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode())
    server.files |= {f"/categoryFilesSmall/{name}.csv": ratings, f"/metaFiles2/meta_{name}.json.gz": metadata}
    server.tags |= {f"/categoryFilesSmall/{name}.csv": '"1"', f"/metaFiles2/meta_{name}.json.gz": '"1"'}
    return PublicSet(name, name, hashlib.sha256(ratings).hexdigest(), USERS, ITEMS, len(metadata))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Three small categories, known to ``--download`` with their hashes and counts."""
    with served({}) as running:
        names = {"scientific": "B", "food": "C", "home": "D"}
        sets = {name: add_category(running, name, letter, seed) for seed, (name, letter) in enumerate(names.items())}
        monkeypatch.setattr(asked, "SETS", sets)
        yield running


def page_commands(url: str) -> list[list[str]]:
    """The words of the commands under "The paper's table", its loop unrolled."""
    code = next(block.code for block in blocks(REPOSITORY / "docs" / "data.md") if "paper.yaml" in block.code)
    for old, new in INSTEAD.items():
        assert old in code, f"docs/data.md has no {old!r} any more"
        code = code.replace(old, new)
    found = re.fullmatch(
        r"for set in (.*?); do\n(.*?)\ndone\n(.*)", code.replace("URL", url).replace("\\\n", " "), re.DOTALL
    )
    assert found
    lines = [found[2].replace("$set", name) for name in found[1].split()] + found[3].splitlines()
    parts = [shlex.split(part) for line in lines for part in re.split(r"&&|\|\|", line)]
    return [part[1:] for part in parts if part and part != ["break"]]


def write_small_comparison() -> tuple[list[str], list[str]]:
    """``paper.yaml`` with every row, small; the names of its rows, and of its published ones."""
    file: dict[str, Any] = yaml.safe_load((properties_dir() / "compare" / "paper.yaml").read_text())
    file.pop("anchors")
    file["datasets"] = ["scientific"]
    file["protocol"] |= {"MAX_ITEM_LIST_LENGTH": 6, "topk": [5, 10]}
    rows = [{"name": row, "model": row} if isinstance(row, str) else row for row in file["models"]]
    for row in rows:
        for part in [row, row["pretrained"]] if "pretrained" in row else [row]:
            part["settings"] = {**part.get("settings", {}), **SETTINGS.get(row["model"], {"epochs": 2})}
    Path("paper.yaml").write_text(json.dumps({**file, "models": rows}))
    return [row["name"] for row in rows], list(file["published"])


def write_published(folder: Path, names: list[str]) -> None:
    """The published rows of the package on ``scientific``, as if they were of the small set."""
    rows = yaml.safe_load((properties_dir() / "compare" / "published.yaml").read_text())["rows"]
    here = [row for row in rows if row["name"] in names and row["dataset"] == "scientific"]
    small = [{key: row[key] for key in row if key != "interactions"} | {"users": USERS, "items": ITEMS} for row in here]
    (folder / "compare").mkdir(parents=True)
    (folder / "compare" / "published.yaml").write_text(yaml.safe_dump({"rows": small}))


def test_the_commands_of_the_page_make_the_table(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny_clip(Path("clip"))
    rows, published = write_small_comparison()
    write_published(Path("patched"), published)
    monkeypatch.setattr(published_rows, "properties_dir", lambda: Path("patched").resolve())
    commands = page_commands(server.url)
    assert [words[:2] for words in commands] == [
        *[["prep", what] for _ in range(3) for what in ("amazon", "images", "embed")],
        ["prep", "merge"],
        ["compare", "--config"],
    ]
    for words in commands:
        assert main(words) == 0, words

    text = Path("dataset/food/food.item").read_text().splitlines()[1].split("\t")[1]
    assert text == "food 0. O'Brand. Made of steel. Weighs 0 kg."  # title, brand, description, as MMM4Rec's program
    for modality in ("text", "image"):
        store = FeatureStore.open(Path("dataset/fhckm/features", modality))
        assert (len(store.present), int(store.present.sum())) == (2 * ITEMS, 2 * (ITEMS - 1))
    records = [json.loads(line) for line in Path("comparison/paper/runs.jsonl").read_text().splitlines()]
    assert {record["status"] for record in records} == {"done"}
    kinds = [record["kind"] for record in records]
    assert (kinds.count("pretraining"), kinds.count("run")) == (2, len(rows))
    table = Path("comparison/paper/table.md").read_text()
    assert f"{USERS} users, {ITEMS} items" in table
    for name in [*rows, *published]:
        assert re.search(rf"^\| \**{re.escape(name)}[ *(]", table, re.MULTILINE), name
