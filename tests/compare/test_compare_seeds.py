"""Rows that lack seeds, rows without a result and trials that failed: what is compared, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pattern_shop import NAME, write_pattern_shop
from test_compare_tables import SHOP, cell, rows
from tiny_comparison import SASREC, finished, tiny_plan, write_config

from recbole_mmm4rec.compare import tables
from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.compare.job import Job, Shop
from recbole_mmm4rec.compare.latex import latex
from recbole_mmm4rec.compare.notes import notes
from recbole_mmm4rec.compare.orders import orders
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.records import Records
from recbole_mmm4rec.compare.results import Comparison, Table, collect
from recbole_mmm4rec.compare.runs import Runner, users_file
from recbole_mmm4rec.compare.statistics import holm
from recbole_mmm4rec.compare.tables import groups_rows, markdown, orders_markdown

pytestmark = pytest.mark.usefixtures("own_folder")
METRICS = [f"{name}@{k}" for name in ("hit", "ndcg", "mrr") for k in (1, 10)]
DEEPER = {"name": "Deeper", "model": "SASRec", "settings": {**SASREC, "n_layers": 2}}
THREE = ["Pop", {"model": "SASRec", "settings": SASREC}, DEEPER]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pattern shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_pattern_shop(folder)
    return folder


def note(records: Records, out: Path, job: Job, ranks: list[int]) -> None:
    """A run that ended with these ranks of its users, its Hit@10 their share."""
    users = users_file(out, job.id, job.max_seconds)
    users.parent.mkdir(exist_ok=True)
    names = [f"u{number}" for number in range(len(ranks))]
    pq.write_table(pa.table({"user": names, "rank": pa.array(ranks, pa.int32())}), users)
    test = dict.fromkeys(METRICS, sum(map(bool, ranks)) / len(ranks))
    records.add(finished(job, test=test, valid=test))


def noted(plan: Plan, out: Path, ranks: dict[tuple[str, int], list[int]]) -> Records:
    """The runs of some rows and seeds."""
    out.mkdir(exist_ok=True)
    records = Records(out / "runs.jsonl")
    for row, dataset in plan.cells():
        for seed in plan.comparison.seeds:
            if (row.name, seed) in ranks:
                note(records, out, plan.run(row, dataset, seed, {}), ranks[row.name, seed])
    return records


def test_two_rows_are_tested_on_the_seeds_that_both_have(shop: Path, tmp_path: Path) -> None:
    plan = tiny_plan(shop, seeds=[1, 2, 3])
    ranks = {("Pop", 1): [1, 0, 1, 0], ("Pop", 2): [0, 0, 0, 0], ("Pop", 3): [0, 0, 0, 1], ("SASRec", 1): [1, 1, 1, 1]}
    (table,) = collect(plan, noted(plan, tmp_path, ranks), tmp_path)
    (found,) = table.comparisons
    assert (found.best, found.other) == ("Pop", "SASRec")  # that of one seed is not the best one
    assert found.difference == pytest.approx(-0.5)  # two of four against four, both of the first seed
    text = markdown(table, [])
    assert rows(text)[-1][:3] == ["SASRec (1 of 3 seeds)", "Hit@10", "-0.5000"]
    assert "Where a row lacks seeds, both are taken on those that it has." in text
    assert "- Rows that lack seeds are not marked as the best or the second best." in text
    assert not [part for part in next(line for line in rows(text) if "SASRec" in line[0]) if "*" in part or "<" in part]


def test_rows_that_lack_the_same_seeds_are_ranked_as_ever(shop: Path, tmp_path: Path) -> None:
    plan = tiny_plan(shop, seeds=[1, 2, 3])
    ranks = {("Pop", 1): [1, 0], ("SASRec", 1): [1, 1]}
    (table,) = collect(plan, noted(plan, tmp_path, ranks), tmp_path)
    (found,) = table.comparisons
    assert (found.best, found.difference) == ("SASRec", 0.5)
    assert "SASRec (1 of 3 seeds) (best Hit@10) minus every other row" in tables.tests_line(table)
    assert "**1.0000**" in markdown(table, [])
    ranks = {("Pop", 1): [1, 0], ("SASRec", 2): [1, 1]}
    (table,) = collect(plan, noted(plan, tmp_path / "other", ranks), tmp_path / "other")
    assert table.comparisons == ()
    assert "**" not in markdown(table, [])
    assert "No row has all its seeds, and they have different ones" in notes(table)[1]


def test_equal_means_share_their_mark() -> None:
    cells = (cell("A", [0.1, 0.3], [0, 0]), cell("B", [0.2, 0.2], [0, 0]), cell("C", [0.9], [0]))
    bold = [line[0] for line in rows(markdown(Table(SHOP, cells, ()), [])) if line[1].startswith("**")]
    assert bold == ["A", "B"]


def test_marks_go_with_a_row_into_tests_orders_and_groups() -> None:
    def table(split: Any, *cells: Any) -> Table:
        shop = Shop("n", "f", SHOP.statistics, {**SHOP.protocol, "eval_args": {"split": split}}, "hit@10", "n")
        return Table(shop, cells, (Comparison("hit@10", "A", "B", 0.1, 0, 0.2, 0.01, 0.01, 1),))

    late = cell("B", [0.1], [0.1], time_up=True)
    first = table({"LS": "valid_and_test"}, cell("A", [0.3, 0.3], [0, 0]), late)
    second = table(
        {"global_time": [8, 1, 1]}, cell("A", [0.2, 0.2], [0, 0], epochs_up=True), cell("B", [0.1, 0.1], [0, 0])
    )
    assert rows(markdown(first, []))[-1][0] == "B (1 of 2 seeds) †"
    text = orders_markdown(orders([first, second]))
    assert "| A | 1 (.3000) | 1 (.2000) § | = |" in text
    assert "| B | 2 (.1000) (1 of 2 seeds) † | 2 (.1000) | = |" in text
    assert "Seeds that are missing and signs as in the table of each." in text
    groups: Any = SimpleNamespace(labels=("1",), counts=(4,), means={"A": (0.3,), "B": (0.1,)})
    assert [line[0] for line in groups_rows(first, groups)[1]] == ["A", "B (1 of 2 seeds) †"]


@pytest.mark.parametrize(
    ("given", "family", "adjusted"),
    [([0.01, 0.04], 4, [0.04, 0.12]), ([0.04, 0.01], 2, [0.04, 0.02]), ([0.4], 5, [1.0]), ([], 3, [])],
)
def test_holm_with_tests_that_could_not_be_made(given: list[float], family: int, adjusted: list[float]) -> None:
    assert holm(given, family) == pytest.approx(adjusted)
    ones = [1.0] * (family - len(given))
    assert holm([*given, *ones])[: len(given)] == pytest.approx(adjusted)


def test_the_same_runs_have_the_same_p_whatever_is_chosen(shop: Path, tmp_path: Path) -> None:
    file = write_config(shop, models=THREE, seeds=[1])
    ranks = {("Pop", 1): [0] * 6, ("SASRec", 1): [1] * 6}
    found: list[Table] = []
    for only in ((), ("Pop", "SASRec")):
        plan = Plan(read_comparison(file, only), shop)
        (table,) = collect(plan, noted(plan, tmp_path / str(len(found)), ranks), tmp_path / str(len(found)))
        found.append(table)
    whole, chosen = (table.comparisons for table in found)
    assert whole == chosen
    assert (whole[0].p, whole[0].adjusted) == (2 / 64, 4 / 64)  # two rows beside the best, one without a result
    told = "Holm's correction over 2 rows of a metric, 1 of them without a result here, which counts as p = 1."
    assert all(told in tables.tests_line(table) for table in found)
    plan = Plan(read_comparison(file), shop)
    every = noted(plan, tmp_path / "every", {**ranks, ("Deeper", 1): [1, 1, 1, 1, 1, 0]})
    assert "Holm's correction over 2 rows of a metric." in tables.tests_line(
        collect(plan, every, tmp_path / "every")[0]
    )


def searched(shop: Path, records: Records, out: Path) -> tuple[Plan, list[Job]]:
    """A row with three trials, of which the first ended and the others failed."""
    trials = [{"n_layers": number} for number in (1, 2, 3)]
    model = {"name": "Row", "model": "SASRec", "settings": SASREC, "search": trials}
    plan = tiny_plan(shop, models=[model], seeds=[1, 2])
    row, dataset = next(iter(plan.cells()))
    jobs = plan.trials(row, dataset)
    note(records, out, jobs[0], [1, 0])
    for job in jobs[1:]:
        records.add({**finished(job), "status": "failed", "error": "out of memory"})
    return plan, jobs


def test_a_failed_trial_is_none_of_those_that_were_chosen_from(shop: Path, tmp_path: Path) -> None:
    records = Records(tmp_path / "runs.jsonl")
    plan, jobs = searched(shop, records, tmp_path)
    note(records, tmp_path, jobs[1], [0, 0])
    (table,) = collect(plan, records, tmp_path)
    told = "Row: n_layers 1; the best of 2 of 3 trials (1 failed) by validation, first seed."
    assert told in notes(table)
    assert told in latex(table, []).replace(r"\_", "_")


class Noting(Runner):
    """Starts nothing: what would be started ends at once and well, deeper networks better."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.started: list[tuple[int, int]] = []

    def _start(self, job: Job) -> Any:
        self.started.append((job.seed, job.settings["n_layers"]))
        return SimpleNamespace(job=job)

    def _wait(self) -> list[Any]:
        return list(self.running.values())

    def _finish(self, held: Any) -> Any:
        del self.running[held.job.id]
        values = dict.fromkeys(METRICS, float(held.job.settings["n_layers"]))
        self.records.add(finished(held.job, test=values, valid=values))
        return finished(held.job)


def test_no_seed_starts_before_the_trials_that_are_tried_again_have_ended(shop: Path, tmp_path: Path) -> None:
    for retry, started in ((True, [(1, 2), (1, 3), (2, 3)]), (False, [(2, 1)])):
        records = Records(tmp_path / f"{retry}.jsonl")
        plan, _ = searched(shop, records, tmp_path)
        runner = Noting(plan, records, tmp_path, 3, retry)  # with a process to spare for a seed of the first trial
        runner.run()
        assert runner.started == started


def table_of(*cells: Any) -> Table:
    """A table that is not compared."""
    return Table(SHOP, cells, ())


def test_latex_explains_its_signs_and_has_the_tests() -> None:
    slow = cell("A", [0.1, 0.2], [0.1, 0.1], time_up=True, epochs_up=True, epochs=7)
    slow = replace(slow, errors=("A on shop, seed 3: 100 % of it_is < {gone}",))
    found = Comparison("hit@10", "A", "B_2", 0.03, -0.01, 0.07, 0.0004, 0.0012, 3)
    text = latex(replace(table_of(slow, cell("B_2", [0.1, 0.1], [0, 0])), comparisons=(found,)), [])
    for wanted in (
        r"A $\dagger$ \S{} & ",
        r"$\dagger$ Training was ended by the limit of 60 s: it might still have got better.\par",
        r"\S{} Training was ended by the limit of 7 epochs",
        r"Failed: A on shop, seed 3: 100 \% of it\_is \textless{} \{gone\}\par",
        r"B\_2 & Hit@10 & +0.0300 & -0.0100 \dots{} +0.0700 & 4.0e-04 & 0.0012 \\",
        "correction over 3 rows of a metric, 2 of them without a result here",
    ):
        assert wanted in text, wanted
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    first, second = text.split(r"\end{table}")[:2]
    assert first.index(r"\end{tabular}") < first.index("Training was ended")
    assert r"\begin{tabular}{lrrrrr}" in second
    assert latex(table_of(cell("A", [0.1, 0.2], [0, 0])), []).count(r"\begin{table}") == 1
    assert NAME not in text
