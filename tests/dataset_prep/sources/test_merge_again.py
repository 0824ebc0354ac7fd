"""Merging what was merged: the same once more, and no shop twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_sets import write_set, write_vectors

from dataset_prep.cli import main
from dataset_prep.sources.merge.command import merge_sets
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.compat.caches import fingerprint
from recbole_mmm4rec.features.store import FeatureStore


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Four shops; mix of food and home, more of mix and toys, late of home and cars."""
    for name, texts in (("food", ["apple", "pear"]), ("home", ["lamp"] * 3), ("toys", ["ball"] * 4), ("cars", ["bus"])):
        write_set(tmp_path, name, texts)
        write_vectors(tmp_path, name)
    merge_sets(["food", "home"], "mix", tmp_path)
    merge_sets(["mix", "toys"], "more", tmp_path)
    merge_sets(["home", "cars"], "late", tmp_path)
    shutil.copytree(tmp_path / "food", tmp_path / "copy")
    for suffix in ("inter", "item"):
        (tmp_path / f"copy/food.{suffix}").rename(tmp_path / f"copy/copy.{suffix}")
    shutil.rmtree(tmp_path / "copy/features")
    write_vectors(tmp_path, "copy")
    return tmp_path


def test_the_same_command_leaves_all_files_as_they_are(out: Path) -> None:
    """So that a pre-training that was killed is known again."""
    before = fingerprint(out / "mix", "mix")
    assert "features/text/table.npy" in before
    assert "already up to date" in merge_sets(["food", "home"], "mix", out)
    assert fingerprint(out / "mix", "mix") == before
    table = FeatureStore.open(out / "food/features/text").table
    write_vectors(out, "food", chunks=[-table])
    merge_sets(["food", "home"], "mix", out)
    assert fingerprint(out / "mix", "mix") != before
    assert FeatureStore.open(out / "mix/features/text").table[:2].tolist() == (-table).tolist()


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ("mix food", "sets 'mix' and 'food' hold one shop twice ('food')"),
        ("food mix", "sets 'food' and 'mix' hold one shop twice ('food')"),
        ("mix more", "sets 'mix' and 'more' hold one shop twice ('mix')"),
        ("more food", "sets 'more' and 'food' hold one shop twice ('food')"),
        ("cars more home", "sets 'more' and 'home' hold one shop twice ('home')"),
        ("mix late", "sets 'mix' and 'late' hold one shop twice ('home')"),
        ("mix copy", "sets 'mix' and 'copy' hold one shop twice ('food' is 'copy')"),
        ("copy more", "sets 'copy' and 'more' hold one shop twice ('copy' is 'food')"),
        ("toys bad", "bad.prep.json is damaged; prepare the data set again"),
        ("toys odd", "odd.prep.json is damaged; prepare the data set again"),
    ],
)
def test_one_shop_twice_is_refused(out: Path, capsys: pytest.CaptureFixture[str], sets: str, said: str) -> None:
    for name, record in (("bad", '{"source": "merge"'), ("odd", '{"source": "merge", "inputs": {}, "options": 5}')):
        write_set(out, name, ["word", name])
        (out / f"{name}/{name}.prep.json").write_text(record)
    capsys.readouterr()
    assert main(["merge", *sets.split(), "--name", "all", "--out", str(out)]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: ")
    assert said in captured
    assert captured.count("\n") == 1
    assert not (out / "all").exists()


def test_a_shop_that_was_brought_up_to_date_is_the_same_shop(out: Path) -> None:
    write_set(out, "food", ["apple", "pear", "plum"])
    write_vectors(out, "food")
    with pytest.raises(UserError, match=r"hold one shop twice \('food'\)"):
        merge_sets(["mix", "food"], "all", out)


def test_records_that_name_each_other_end(out: Path) -> None:
    """As where a part of a merged set was merged anew from that."""
    record = out / "mix/mix.prep.json"
    told = json.loads(record.read_text())
    told["options"]["sets"] = ["food", "mix"]
    told["inputs"]["mix inter"] = hash_file(out / "mix/mix.inter")
    record.write_text(json.dumps(told))
    merge_sets(["mix", "cars"], "all", out)
    with pytest.raises(UserError, match=r"sets 'all' and 'food' hold one shop twice"):
        merge_sets(["all", "food"], "all2", out)


def test_what_a_part_was_made_of_since_is_no_part(out: Path) -> None:
    """The merged set has what it was merged of, whatever stands under that name today."""
    write_set(out, "pears", ["pear 2"])
    merge_sets(["pears", "cars"], "food", out, force=True)
    merge_sets(["mix", "pears"], "all", out)
    with pytest.raises(UserError, match=r"sets 'food' and 'pears' hold one shop twice"):
        merge_sets(["food", "pears"], "all2", out)
