"""What every way of searching has in common: records of trials, and the bar that shows them."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recbole_mmm4rec.tune.proposals import Proposals
from recbole_mmm4rec.tune.space import Params, same_text
from recbole_mmm4rec.tune.study import Study
from recbole_mmm4rec.tune.trials import Record, best
from recbole_mmm4rec.tune.worker import Worker


class Board:
    """Takes ended trials on record, and shows how far the search is.

    Args:
        study: the search.
        proposals: where its combinations come from.
        out: its folder.
    """

    def __init__(self, study: Study, proposals: Proposals, out: Path) -> None:
        self.study, self.proposals, self.out = study, proposals, out
        self.records = proposals.records
        done = len(self.records.by_id) - len(proposals.again)
        self._bar = tqdm(
            total=max(proposals.total, done + len(proposals.again)), initial=done, unit="trial", dynamic_ncols=True
        )
        self._show()

    def add(self, params: Params, found: Mapping[str, Any]) -> Record:
        """Write a trial to disk.

        Args:
            params: its combination.
            found: what :func:`~recbole_mmm4rec.tune.trial.attempt` returned.
        """
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        number = self.number(params)
        record = {"id": same_text(params), "trial": number, "params": params, **found, "date": date}
        self.records.add(record)
        if record["status"] == "failed":
            self._bar.write(f"trial {number} failed: {record['error']}", sys.stderr)
        self._bar.update()
        self._show()
        return record

    def number(self, params: Params) -> int:
        """The number of a combination that is on record, or the next one."""
        known = self.records.by_id.get(same_text(params))
        return known["trial"] if known else len(self.records.by_id) + 1

    def _show(self) -> None:
        leader = best(self.records.all())
        if leader is not None:
            self._bar.set_postfix_str(f"best {self.study.valid_metric} {leader['score']:.4f} (trial {leader['trial']})")

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def search_one_by_one(board: Board) -> None:
    """Train trial after trial, in a process beside this one."""
    worker = Worker(board.out / "logs")
    try:
        while (params := board.proposals.next()) is not None:
            name = f"trial-{board.number(params):04d}"
            board.add(params, worker.run(name, board.study.settings(params)))
    finally:
        worker.close()
