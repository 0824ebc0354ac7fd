"""Users by the rule of the rows, one order of equal scores, pre-training on what came later, ties in time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pattern_shop import NAME, write_pattern_shop
from recbole.data import create_dataset
from test_compare_plan import renamed
from test_compare_protocols import run_all
from test_compare_tables import SHOP, cell
from tiny_comparison import OURS, SASREC, tiny_plan

from recbole_mmm4rec.compare.groups import grouped
from recbole_mmm4rec.compare.latex import latex
from recbole_mmm4rec.compare.moments import is_late, last_moment
from recbole_mmm4rec.compare.notes import notes
from recbole_mmm4rec.compare.protocol_words import statistics_line
from recbole_mmm4rec.compare.records import Records
from recbole_mmm4rec.compare.results import Table, collect
from recbole_mmm4rec.compare.runs import users_file
from recbole_mmm4rec.compare.tables import markdown
from recbole_mmm4rec.compare.targets import Targets
from recbole_mmm4rec.run.build import build, make_config
from recbole_mmm4rec.scoring.ranking import RankingCollector
from recbole_mmm4rec.scoring.recommend import best_of

pytestmark = pytest.mark.usefixtures("own_folder")
ROW = {"name": "Tuned", "model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": "source", "settings": OURS}}


def test_users_are_counted_by_the_rule_of_the_rows(tmp_path: Path) -> None:
    """Models without histories are tested on users of two interactions, too."""
    write_pattern_shop(tmp_path)
    with (tmp_path / NAME / f"{NAME}.inter").open("a") as file:
        file.write("short\ts0c0\t1600000000\nshort\ts1c1\t1600000001\n")
    plan = tiny_plan(tmp_path, models=["Pop"], seeds=[1], beyond=True)
    (out := tmp_path / "out").mkdir()
    (table,) = collect(plan, run_all(plan, out), out)
    users = pq.read_table(users_file(out, table.cells[0].records[0]["id"], None))["user"].to_pylist()
    assert len(users) == 41
    assert "(41 users, a target each)" in statistics_line(table.shop)
    assert [sum(found.counts) for found in grouped(table, out)] == [41, 41]
    assert not [told for told in notes(table) if "other users" in told]
    sequential = tiny_plan(tmp_path, models=[{"model": "SASRec", "settings": SASREC}])
    assert "(40 users, a target each)" in statistics_line(sequential.shops[NAME])


def test_where_runs_had_other_targets_a_line_says_so(tmp_path: Path) -> None:
    targets = Targets(np.array([1]), np.array([1]), "now", {"test_users": 1})
    told = "The runs of this table were tested on other users or targets than those that are counted above"
    row = cell("A", [0.1, 0.1], [0, 0], targets="then")
    table = Table(replace(SHOP, targets=targets), (row,), (), ("giniindex@10",))
    assert grouped(table, tmp_path) == []
    assert notes(table) == [f"{told}, so nothing is told by length of history and popularity of the target."]
    assert notes(replace(table, beyond=())) == [f"{told}."]
    assert notes(replace(table, cells=(cell("A", [0.1, 0.1], [0, 0], targets="now"),))) == []


def settings_of(folder: Path) -> dict[str, Any]:
    """What all models of a comparison share."""
    shared = tiny_plan(folder, models=["Pop"]).shops[NAME].protocol
    return {**shared, "data_path": str(folder), "checkpoint_dir": str(folder / "saved")}


def first_of_equals(folder: Path) -> dict[str, int]:
    """The rank of each user's last item by popularity, equal ones by item number; 0 behind the tenth."""
    lines = [line.split("\t") for line in (folder / NAME / f"{NAME}.inter").read_text().splitlines()[1:]]
    config = make_config("Pop", NAME, config_dict=settings_of(folder))
    number = {token: at for at, token in enumerate(create_dataset(config).field2id_token["item_id"])}
    histories: dict[str, list[str]] = {}
    for user, item, _ in lines:
        histories.setdefault(user, []).append(item)
    counts = dict.fromkeys(number, 0)
    del counts["[PAD]"]
    for items in histories.values():
        for item in items[:-2]:
            counts[item] += 1
    order = sorted(counts, key=lambda item: (-counts[item], number[item]))
    ranks = {user: 1 + order.index(items[-1]) for user, items in histories.items()}
    return {user: rank if rank <= 10 else 0 for user, rank in ranks.items()}


def test_equal_scores_stand_in_the_order_of_item_numbers(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    plan = tiny_plan(tmp_path, models=["Pop"], seeds=[1])
    (out := tmp_path / "out").mkdir()
    (table,) = collect(plan, run_all(plan, out), out)
    users = pq.read_table(users_file(out, table.cells[0].records[0]["id"], None))
    assert dict(zip(users["user"].to_pylist(), users["rank"].to_pylist(), strict=True)) == first_of_equals(tmp_path)
    assert "of equal scores the lower item number first" in statistics_line(table.shop)


@pytest.mark.parametrize("model", ["Pop", "BPR", "SASRec", "MMM4Rec", "Neighbours"])
def test_every_model_is_ranked_by_one_rule(tmp_path: Path, model: str) -> None:
    write_pattern_shop(tmp_path)
    trainer = build(make_config(model, NAME, config_dict=settings_of(tmp_path))).trainer
    assert type(trainer.eval_collector) is RankingCollector


def test_a_score_that_is_no_number_ends_no_ranking() -> None:
    """Of RecBole's models; it stands where ``torch.topk`` puts it."""
    nan = float("nan")
    scores = torch.tensor([[0.0, nan, 2.0, 1.0, 1.0, 1.0], [nan] * 6, [0.0, 1.0, 2.0, 1.0, 1.0, 0.0]])
    _, items = best_of(scores, 3)
    assert items.tolist()[0] == [1, 2, 3]
    assert items.tolist()[2] == [2, 1, 3]


@pytest.mark.parametrize(
    ("latest", "interval", "late"),
    [
        (1_500_000_000, None, False),
        (1_500_000_001, None, True),
        (1_500_000_001, "(-inf,1400000000]", False),
        (1_500_000_001, "[0,1];[5,1600000000)", True),
        (1_400_000, None, True),  # of another unit, it seems
        (float("inf"), None, True),
    ],
)
def test_whether_a_source_ends_before_the_moment(latest: float, interval: str | None, late: bool) -> None:
    settings: dict[str, Any] = {} if interval is None else {"val_interval": {"timestamp": interval}}
    first: Any = SimpleNamespace(dataset="source", protocol=settings)
    nobody = np.array([], dtype=np.int64)
    protocol = {**SHOP.protocol, "eval_args": {"split": {"global_time": [8, 1, 1]}}}
    shop = replace(SHOP, protocol=protocol, targets=Targets(nobody, nobody, "", trained_until=1_500_000_000.0))
    assert is_late(first, shop, Path(), lambda *_: latest) is late
    assert is_late(first, replace(shop, targets=None), Path(), lambda *_: latest)
    assert not is_late(first, SHOP, Path(), lambda *_: latest)


def test_the_last_moment_of_a_file(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    file = tmp_path / NAME / f"{NAME}.inter"
    times = [float(line.split("\t")[2]) for line in file.read_text().splitlines()[1:]]
    assert last_moment(file, "timestamp", "\t", "utf-8") == max(times)
    for path, field, separator in ((file, "time", "\t"), (file, "timestamp", ";"), (tmp_path / "no", "x", "\t")):
        assert last_moment(path, field, separator, "utf-8") == float("inf")


def test_a_pre_training_on_what_came_later_is_marked(tmp_path: Path) -> None:
    """Under a split by time; with the years before it alone there is nothing to say."""
    write_pattern_shop(tmp_path)
    renamed(tmp_path, "source")
    inter = tmp_path / "source" / "source.inter"
    protocols = ["leave_one_out", {"global_time": [6, 2, 2]}]
    plan = tiny_plan(tmp_path, models=["Pop", ROW], seeds=[1], protocols=protocols)
    tables = collect(plan, Records(tmp_path / "runs.jsonl"), tmp_path)
    assert [[row.late_source for row in table.cells] for table in tables] == [[False, False], [False, True]]
    row = replace(cell("Tuned", [0.1, 0.1], [0, 0]), late_source=True)
    table = Table(SHOP, (row,), ())
    for text, sign in ((markdown(table, []), "‡"), (latex(table, []), r"$\ddagger$")):
        assert f"Tuned {sign}" in text
        assert f"{sign} Pre-trained on a source whose last interactions may be later" in text
    head, *lines = inter.read_text().splitlines()
    parts = [line.split("\t") for line in lines]
    inter.write_text("\n".join([head, *("\t".join([*part[:2], f"{float(part[2]) / 2}"]) for part in parts)]) + "\n")
    plan = tiny_plan(tmp_path, models=["Pop", ROW], seeds=[1], protocols=protocols)
    tables = collect(plan, Records(tmp_path / "runs.jsonl"), tmp_path)
    assert not any(row.late_source for table in tables for row in table.cells)


@pytest.mark.parametrize(("tied", "told"), [(0.0, ""), (0.001, "less than 1 %"), (0.03, "3 %"), (0.5, "50 %")])
def test_the_order_within_ties_is_told_wherever_there_are_some(tied: float, told: str) -> None:
    nobody = np.array([], dtype=np.int64)
    text = statistics_line(replace(SHOP, targets=Targets(nobody, nobody, "", {"test_users": 0}, tied)))
    words = f"{told} of the interactions share their time with the one before of their user: the order of the file"
    assert (words in text) is bool(tied)
    assert ("share their time" in text) is bool(tied)
