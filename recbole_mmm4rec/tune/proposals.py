"""Which combination is tried next: hyperopt's random and TPE draws, or every combination in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recbole_mmm4rec.tune.space import Params, Space, combinations, same_text, size
from recbole_mmm4rec.tune.trials import Trials, loss

ALGORITHMS = ("random", "bayes", "exhaustive")
REDRAWS = 1000
"""Draws in a row that were all there before, after which the combinations that are left are looked for one by one."""


class Proposals:
    """Hands out combinations, none of them twice and none that is on record.

    Every draw depends on the seed and on its number alone (TPE's on what is on record, too), so that a search that was
    broken off draws on as if nothing had happened.

    Args:
        space: what is searched.
        algo: one of :data:`ALGORITHMS`.
        seed: of the draws.
        most: trials on record at which the search ends; None for no limit.
        records: what is on record; grows while this is used.
        again: combinations on record that are tried once more, before all others.

    Raises:
        UserError: an exhaustive search of a continuous range.
    """

    def __init__(
        self, space: Space, algo: str, seed: int, most: int | None, records: Trials, again: Sequence[Params] = ()
    ) -> None:
        self.again = list(again)
        self.space, self.seed, self.records = space, seed, records
        count = size(space)
        if algo == "exhaustive" and count is None:
            next(combinations(space))  # says why not
        self.total = min(number for number in (most, count) if number is not None)
        self.handed_out: set[str] = set()
        sources = {"exhaustive": lambda: combinations(space), "random": self._random, "bayes": self._bayes}
        self._source: Iterator[Params] = sources[algo]()

    def next(self) -> Params | None:
        """The next combination; None when the search is at its end."""
        if self.again:
            return self.again.pop(0)
        if self._used() >= self.total:
            return None
        for params in self._source:
            key = same_text(params)
            if key not in self.handed_out and key not in self.records.by_id:
                self.handed_out.add(key)
                return params
        return None

    def _used(self) -> int:
        return len(self.handed_out | self.records.by_id.keys())

    def _random(self) -> Iterator[Params]:
        from hyperopt import rand

        drawn: set[str] = set()
        while True:
            params = self._draw(rand.suggest, len(drawn), [], drawn) or self._left(len(drawn), drawn)
            if params is None:
                return
            drawn.add(same_text(params))
            yield params

    def _bayes(self) -> Iterator[Params]:
        from hyperopt import rand, tpe

        while True:
            number, history = self._used(), self.records.all()
            taken = self.handed_out | self.records.by_id.keys()
            params = (
                self._draw(tpe.suggest, number, history, taken, REDRAWS // 10)
                or self._draw(rand.suggest, number, [], taken)
                or self._left(number, taken)
            )
            if params is None:
                return
            yield params

    def _left(self, number: int, taken: set[str]) -> Params | None:
        """One of the combinations that no draw has met; None where there is none."""
        import numpy as np

        if size(self.space) is None:
            return None
        left = [params for params in combinations(self.space) if same_text(params) not in taken]
        return left[np.random.default_rng([self.seed, number]).integers(len(left))] if left else None

    def _draw(
        self,
        suggest: Any,
        number: int,
        history: Sequence[dict[str, Any]],
        taken: set[str],
        redraws: int = REDRAWS,
    ) -> Params | None:
        """One new combination, or None when none is found any more."""
        import numpy as np

        domain, past = _domain(self.space), _history(self.space, history)
        for attempt in range(redraws):
            seed = int(np.random.SeedSequence([self.seed, number, attempt]).generate_state(1)[0])
            document = suggest([len(history)], domain, past, seed)[0]
            drawn = document["misc"]["vals"]
            params = {one.key: one.value(float(drawn[one.key][0])) for one in self.space}
            if same_text(params) not in taken:
                return params
        return None


def _domain(space: Space) -> Any:
    """The space as hyperopt has it, in positions instead of values."""
    import math

    from hyperopt import Domain, hp

    nodes = {}
    for one in space:
        if one.kind == "choice":
            nodes[one.key] = hp.choice(one.key, list(range(len(one.values))))
        elif one.kind == "quniform":  # half a step more on both sides: the ends are as likely as the others
            nodes[one.key] = hp.quniform(one.key, -0.5, len(one.values) - 0.5, 1)
        elif one.kind == "uniform":
            nodes[one.key] = hp.uniform(one.key, one.low, one.high)
        else:
            nodes[one.key] = hp.uniform(one.key, math.log(one.low), math.log(one.high))
    return Domain(lambda _: 0.0, nodes)


def _history(space: Space, records: Sequence[dict[str, Any]]) -> Any:
    """Trials on record as hyperopt has them; a failed one counts as worse than all others."""
    import hyperopt
    from hyperopt import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK

    past = hyperopt.Trials()
    for number, record in enumerate(records):
        miscs = {
            "tid": number,
            "cmd": None,
            "workdir": None,
            "idxs": {one.key: [number] for one in space},
            "vals": {one.key: [_raw(one.kind, one.position(record["params"][one.key]))] for one in space},
        }
        good = record["status"] != "failed"
        result = {"status": STATUS_OK, "loss": loss(record)} if good else {"status": STATUS_FAIL}
        (document,) = past.new_trial_docs([number], [None], [result], [miscs])
        document["state"] = JOB_STATE_DONE
        past.insert_trial_doc(document)
    past.refresh()
    return past


def _raw(kind: str, position: float) -> float:
    return int(position) if kind == "choice" else position
