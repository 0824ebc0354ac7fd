"""``python -m recbole_mmm4rec.compare``: models × data sets × seeds under one protocol, tables, tests, plots."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_mmm4rec.base.command_line import Parser, ended, whole
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.installed import check_installed
from recbole_mmm4rec.base.locks import alone

_EXAMPLES = """\
examples:
  %(prog)s --config properties/compare/quick.yaml
  %(prog)s --config mine.yaml --out results --jobs 2
  %(prog)s --config mine.yaml --only MMM4Rec SASRec

Killed or interrupted, the same command does what is missing."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m recbole_mmm4rec.compare") -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; ``sys.argv``'s by default.
        prog: what the user has typed before them.

    Returns:
        0; 1 where a run failed; 2 after a user's mistake, told in one line; 130 when interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    chosen = _parser(prog).parse_args(given)
    return ended(lambda: _run(chosen, f"{prog} {shlex.join(given)}"), prog=prog, terminable=True)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Train and test models beside each other under one protocol.",
        epilog=_EXAMPLES,
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="the comparison: data sets, models, seeds (YAML)")
    add("--out", type=Path, metavar="DIR", help="folder of everything that comes out (default: comparison/NAME)")
    add("--data", type=Path, default=Path("dataset"), metavar="PATH", help="folder of the data sets (%(default)s)")
    add("--jobs", type=whole, default=1, metavar="N", help="runs at a time, which share the cores (%(default)s)")
    add(
        "--only", nargs="+", action="extend", default=[], metavar="MODEL", help="names of the models to run and to show"
    )
    add("--on", nargs="+", action="extend", default=[], metavar="SET", help="names of the data sets to run and to show")
    add("--seeds", type=whole, metavar="N", help="run and show the first N of the seeds alone")
    add("--retry-failed", action="store_true", help="run again what failed before")
    add("--no-run", action="store_true", help="only write tables and report of what is there")
    return parser


def _run(chosen: argparse.Namespace, command: str) -> int:
    from recbole_mmm4rec.compare.config import read_comparison
    from recbole_mmm4rec.settings.packaged import packaged

    file = packaged(chosen.config)
    comparison = read_comparison(file, chosen.only, chosen.on, chosen.seeds)  # before anything slow is imported
    check_installed(("matplotlib",), "bench")

    from recbole_mmm4rec.compare.groups import grouped
    from recbole_mmm4rec.compare.orders import orders
    from recbole_mmm4rec.compare.plan import Plan
    from recbole_mmm4rec.compare.published_rows import rows_for
    from recbole_mmm4rec.compare.records import Records
    from recbole_mmm4rec.compare.results import collect
    from recbole_mmm4rec.compare.runs import Runner
    from recbole_mmm4rec.compare.tables import markdown, orders_markdown
    from recbole_mmm4rec.compare.write import write_report, write_results

    plan = Plan(comparison, chosen.data.resolve())
    shown = {of.entry for of in comparison.datasets}
    quoted = rows_for(comparison.published, plan.shops, {of.entry for of in comparison.all_datasets} - shown)
    out = (chosen.out or Path("comparison") / Path(chosen.config).stem).resolve()
    if chosen.no_run and not (out / "runs.jsonl").is_file():
        raise UserError(f"--no-run: {out} has no runs (runs.jsonl); leave it out, or name another folder by --out")
    with alone(out, "comparison") as claimed:
        records = Records(out / "runs.jsonl")
        if not chosen.no_run:
            Runner(plan, records, out, chosen.jobs, chosen.retry_failed, claimed).run()
        tables = collect(plan, records, out)
        found = [(table, grouped(table, out) if comparison.beyond else []) for table in tables]
        changes = orders(tables)
        write_results(plan, records, found, quoted, changes, out)
        write_report(plan, found, quoted, changes, out, command)
    for table, groups in found:
        print(markdown(table, quoted[table.shop.name], groups))
    if changes:
        print(orders_markdown(changes))
    print(f"written: {out / 'report.html'}, and beside it table.md, table.tex, results.csv, users.parquet, plots")
    return 1 if any(cell.errors for table in tables for cell in table.cells) else 0


if __name__ == "__main__":
    raise SystemExit(main())
