"""Comparisons under several protocols: what a file says, runs in this process, tables, orders, groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pattern_shop import NAME, write_pattern_shop
from test_compare_tables import SHOP, cell
from tiny_comparison import SASREC, finished, tiny_plan, write_config

from dataset_prep.sources.amazon.public_files import SETS
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare import worker
from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.compare.groups import grouped
from recbole_mmm4rec.compare.job import Shop
from recbole_mmm4rec.compare.orders import orders
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.protocol_words import statistics_line
from recbole_mmm4rec.compare.published_rows import read_published
from recbole_mmm4rec.compare.records import Records
from recbole_mmm4rec.compare.results import Table, collect, user_values
from recbole_mmm4rec.compare.runs import users_file
from recbole_mmm4rec.compare.tables import markdown, orders_markdown
from recbole_mmm4rec.compare.write import write_report, write_results
from recbole_mmm4rec.settings.defaults import properties_dir
from recbole_mmm4rec.training.user_ranks import mean_by_user, user_metric

pytestmark = pytest.mark.usefixtures("own_folder")
BOTH = ["leave_one_out", {"global_time": [6, 2, 2]}]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pattern shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_pattern_shop(folder)
    return folder


def run_all(plan: Plan, out: Path) -> Records:
    """Every run of a plan, in this process."""
    records = Records(out / "runs.jsonl")
    while waiting := plan.waiting(records):
        for job in waiting:
            users = users_file(out, job.id, job.max_seconds)
            users.parent.mkdir(exist_ok=True)
            places = {"data_path": str(plan.data_path), "threads": 1, "users_file": str(users), "pretrained_file": None}
            places["unfinished"] = str(out / "unfinished" / job.id)
            records.add(finished(job, **worker.run({**vars(job), **places})))
    return records


@pytest.fixture(scope="module")
def done(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Records, Path]:
    """A comparison under two protocols, with its runs."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        plan = tiny_plan(shop, seeds=[1], protocols=BOTH, beyond=True)
        return plan, run_all(plan, out), out


def test_a_protocol_is_part_of_the_shop(done: tuple[Plan, Records, Path]) -> None:
    plan, records, _ = done
    assert list(plan.shops) == [NAME, f"{NAME}-global_time"]
    assert {found.entry for found in plan.shops.values()} == {NAME}
    targets = {job: record[-1]["targets"] for job, record in records.by_id.items()}
    assert len(targets) == 4
    assert sorted(targets.values()).count(min(targets.values())) == 2  # two of each protocol
    for name, found in plan.shops.items():
        assert found.targets is not None
        assert found.targets.mark in targets.values(), name


def test_a_user_counts_once_however_many_targets(done: tuple[Plan, Records, Path]) -> None:
    plan, records, out = done
    table = collect(plan, records, out)[1]
    counts = table.shop.targets.counts if table.shop.targets else {}
    assert counts["test_targets"] > counts["test_users"]
    (pop, _) = table.cells
    values = user_values(out, pop, "hit@10")
    assert len(values) == counts["test_users"]
    users = pq.read_table(users_file(out, pop.records[0]["id"], None))
    assert len(users) == counts["test_targets"]
    hits = user_metric(users["rank"].to_numpy(), "hit@10")
    assert hits.mean() == pytest.approx(pop.mean("hit@10"), abs=1e-9)  # RecBole's mean is over targets
    by_user: dict[str, list[float]] = {}
    for user, hit in zip(users["user"].to_pylist(), hits, strict=True):
        by_user.setdefault(user, []).append(hit)
    assert values.tolist() == pytest.approx([np.mean(by_user[user]) for user in sorted(by_user)])
    assert "the tests compare users, each with the mean" in markdown(table, [])


def test_the_mean_by_user() -> None:
    assert mean_by_user(np.array([1.0, 0.0, 0.5]), np.array(["b", "b", "a"])).tolist() == [0.5, 0.5]


def test_what_a_table_says_of_its_protocol(done: tuple[Plan, Records, Path]) -> None:
    plan, *_ = done
    first, second = (statistics_line(found) for found in plan.shops.values())
    assert "The last item of each user is the test, the last but one validation (40 users, a target each)" in first
    assert "Protocol global_time, split 6 : 2 : 2 at two points in time that are the same for all" in second
    counts = plan.shops[f"{NAME}-global_time"].targets.counts  # type: ignore[union-attr]
    assert f"test {counts['test_users']} users, {counts['test_targets']} targets" in second


def test_everything_is_written(done: tuple[Plan, Records, Path]) -> None:
    plan, records, out = done
    tables = collect(plan, records, out)
    found = [(table, grouped(table, out)) for table in tables]
    quoted: dict[str, list[Any]] = {name: [] for name in plan.shops}
    changes = orders(tables)
    write_results(plan, records, found, quoted, changes, out)
    write_report(plan, found, quoted, changes, out, "x")
    text, page = (out / "table.md").read_text(), (out / "report.html").read_text()
    for wanted in ("Coverage@10", "Gini@1 ", "Tail@10", "Hit@10 by items of history", "Kendall's τ-b"):
        assert wanted in text
        assert wanted.strip() in page
    written = "".join(file.read_text() for file in out.glob("*.tex"))
    assert r" & Gini@1 & Gini@10 & Tail@1 & " in written
    assert (out / "plots" / f"groups-{NAME}-global_time.svg").is_file()
    header, *lines = (out / "results.csv").read_text().splitlines()
    assert "giniindex@10" in header
    assert [line.split(",")[0] for line in lines] == [NAME, NAME, f"{NAME}-global_time", f"{NAME}-global_time"]


def test_groups_hold_every_target_once(done: tuple[Plan, Records, Path]) -> None:
    plan, records, out = done
    table = collect(plan, records, out)[1]
    history, popularity = grouped(table, out)
    for found in (history, popularity):
        assert sum(found.counts) == table.shop.targets.counts["test_targets"]  # type: ignore[union-attr]
        for name, means in found.means.items():
            (of_row,) = (cell for cell in table.cells if cell.row.name == name)
            assert np.average(means, weights=found.counts) == pytest.approx(of_row.mean("hit@10"))
    assert history.labels[0][0] in "123"
    other = Shop(
        *(vars(table.shop)[name] for name in ("name", "fingerprint", "statistics", "protocol", "valid_metric"))
    )
    assert grouped(Table(other, table.cells, ()), out) == []  # whose targets are not known


def test_the_change_of_order_by_hand() -> None:
    def table(split: Any, *hits: float) -> Table:
        protocol = {**SHOP.protocol, "eval_args": {"split": split}}
        shop = Shop("n", "f", SHOP.statistics, protocol, "hit@10", "n")
        return Table(shop, tuple(cell(name, [hit], [0.1]) for name, hit in zip("ABC", hits, strict=True)), ())

    first, second = table({"LS": "valid_and_test"}, 0.3, 0.2, 0.1), table({"global_time": [8, 1, 1]}, 0.2, 0.3, 0.1)
    equal = replace(second, cells=(*second.cells[:2], cell("C", [0.1, 0.2, 0.6], [0, 0, 0])))
    equal = replace(equal, cells=(cell("B", [0.6, 0.2, 0.1], [0, 0, 0]), *equal.cells[::2]))
    assert [row[3] for row in orders([first, equal])[0].rows] == [3, 1, 1]  # means that differ by rounding alone
    (order,) = orders([first, second])
    assert order.rows == (("A", 1, 0.3, 2, 0.2), ("B", 2, 0.2, 1, 0.3), ("C", 3, 0.1, 3, 0.1))
    assert order.tau == pytest.approx(1 / 3)  # two pairs agree, one does not
    assert orders([first]) == orders([second]) == []
    assert "| A | 1 (.3000) (1 of 2 seeds) | 2 (.2000) (1 of 2 seeds) | -1 |" in orders_markdown([order])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"protocols": ["global_tim"]}, "did you mean 'global_time'"),
        ({"protocols": ["cold_users", {"cold_users": [6, 2, 2]}]}, "'cold_users' stands there twice"),
        ({"protocols": [{"leave_one_out": [8, 1, 1]}]}, "leave_one_out has no shares"),
        ({"protocols": [{"global_time": [8, 1, 0]}]}, "must be three shares"),
        ({"protocols": BOTH, "protocol": {"eval_args": {"order": "TO"}}}, "leave eval_args out elsewhere"),
        ({"beyond": ["Gini"]}, "beyond: 'Gini' is none of ItemCoverage"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=rf"tiny\.yaml, line \d+: .*{complaint}"):
        read_comparison(write_config(tmp_path, **changes))


def test_what_is_told_beyond_accuracy(tmp_path: Path) -> None:
    assert read_comparison(write_config(tmp_path)).beyond == ()
    assert read_comparison(write_config(tmp_path, beyond=["giniindex"])).beyond == ("GiniIndex",)
    assert len(read_comparison(write_config(tmp_path, beyond=True)).beyond) == 4


def test_recboles_own_split_by_time_is_another(shop: Path) -> None:
    with pytest.raises(UserError, match=r"RecBole's TS has one moment.*write \{global_time: \[8, 1, 1\]\}"):
        tiny_plan(shop, protocol={"eval_args": {"split": {"TS": [8, 1, 1]}, "order": "TO", "mode": "full"}})


def test_a_model_that_knows_users_alone_is_refused_where_they_are_held_out(shop: Path) -> None:
    models = ["Pop", "BPR", {"model": "SASRec", "settings": SASREC}]
    with pytest.raises(UserError, match="model 'BPR' on 'pattern-cold_users': users are held out of training"):
        tiny_plan(shop, models=models, protocols=["cold_users"])
    tiny_plan(shop, models=models, protocols=[{"cold_items": [6, 2, 2]}])


def test_published_rows_are_of_leave_one_out_alone(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_mmm4rec.compare import published_rows

    plan = tiny_plan(shop, protocols=BOTH)
    row = published_rows.Published("Theirs", NAME, {"users": 40, "items": 30}, "text", {}, "x")
    monkeypatch.setattr(published_rows, "read_published", lambda: [row])
    found = published_rows.rows_for(["Theirs"], plan.shops)
    assert [len(rows) for rows in found.values()] == [1, 0]
    del plan.shops[NAME]
    with pytest.raises(UserError, match="belongs to data set 'pattern' with each user's last item left out"):
        published_rows.rows_for(["Theirs"], plan.shops)


def test_the_papers_table_is_a_comparison_file() -> None:
    comparison = read_comparison(properties_dir() / "compare" / "paper.yaml")
    assert [found.name for found in comparison.datasets] == list(SETS)[:5]
    known = {(row.name, row.dataset) for row in read_published()}
    assert {(name, found.name) for name in comparison.published for found in comparison.datasets} == known
    pretrained = {row.pretrained.dataset for row in comparison.rows if row.pretrained}
    assert pretrained == {"fhckm"}
    for row in comparison.rows:
        # as many samples a step as in fine-tuning, which is the published number
        if row.pretrained and row.model == "MMM4Rec":
            assert row.pretrained.settings["accumulation_steps"] == row.settings["accumulation_steps"] == 8
