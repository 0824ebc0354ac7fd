"""Published results, shown beside measured ones only on the very data set they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.file_settings import LEAVE_ONE_OUT
from recbole_mmm4rec.compare.job import Shop
from recbole_mmm4rec.compare.located import Located, Place
from recbole_mmm4rec.settings.defaults import properties_dir
from recbole_mmm4rec.training.user_ranks import METRIC

_KEYS = ("name", "dataset", "users", "items", "interactions", "inputs", "metrics", "source", "page")
_ALWAYS = ("users", "items")
_COUNTS = (*_ALWAYS, "interactions")
FEW = 0.001
"""Share of the interactions by which a data set may differ from that of a published row, which then says so."""


@dataclass(frozen=True)
class Published:
    """A row that others have published.

    Attributes:
        name: how a comparison file names it.
        dataset: the data set's name.
        statistics: ``users``, ``items`` of that data set, and ``interactions`` where the source tells them.
        inputs: what the model read.
        metrics: metric to test value, full ranking.
        source: where it stands.
    """

    name: str
    dataset: str
    statistics: Mapping[str, int]
    inputs: str
    metrics: Mapping[str, float]
    source: str

    @property
    def label(self) -> str:
        """Name, inputs and source, for a table."""
        return f"{self.name} ({self.inputs}; {self.source})"

    def on(self, statistics: Mapping[str, int]) -> Published:
        """The same as it is shown on a data set, which says where that has a few interactions more or less."""
        count = self.statistics.get("interactions", statistics["interactions"])
        if count == statistics["interactions"]:
            return self
        return replace(self, source=f"{self.source}; on {count:,} interactions")

    def fits(self, statistics: Mapping[str, int]) -> bool:
        """Whether a data set is the one: the same users and items, and interactions up to :data:`FEW` of them.

        Reviews that are there twice are interactions for some preparations and not for others.
        """
        same = all(self.statistics[key] == statistics[key] for key in ("users", "items"))
        here = statistics["interactions"]
        return same and abs(self.statistics.get("interactions", here) - here) <= FEW * here


def read_published(path: Path | None = None) -> list[Published]:
    """All published rows that the package knows; a name stands once for each data set.

    Args:
        path: the file; ``properties/compare/published.yaml`` by default.

    Raises:
        UserError: with file and line, for a row that lacks something.
    """
    file = Located(path or properties_dir() / "compare" / "published.yaml")
    rows: list[Published] = []
    for at, value in enumerate(file.sequence(("rows",), file.mapping((), file.content, ("rows",)).get("rows"))):
        place: Place = ("rows", at)
        part = file.mapping(place, value, _KEYS)
        metrics = file.mapping((*place, "metrics"), part.get("metrics"))
        for metric, number in metrics.items():
            if not METRIC.fullmatch(metric):
                file.fail((*place, "metrics", metric), f"metrics: {metric!r} is none such as hit@10, ndcg@10, mrr@10")
            file.number((*place, "metrics", metric), number, 0, whole=False)
        row = Published(
            name=file.name((*place, "name"), part.get("name")),
            dataset=file.name((*place, "dataset"), part.get("dataset")),
            statistics={
                key: file.number((*place, key), part.get(key), 1) for key in _COUNTS if key in part or key in _ALWAYS
            },
            inputs=file.name((*place, "inputs"), part.get("inputs")),
            metrics={metric: float(number) for metric, number in metrics.items()},
            source=", ".join(file.name((*place, key), part[key]) for key in ("source", "page") if key in part),
        )
        if not row.source:
            file.fail(place, f"{row.name!r} has no source")
        if any((row.name, row.dataset) == (other.name, other.dataset) for other in rows):
            file.fail(place, f"{row.name!r} on {row.dataset!r} stands there twice")
        rows.append(row)
    return rows


def rows_for(
    names: Sequence[str], shops: Mapping[str, Shop], left_out: Collection[str] = ()
) -> dict[str, list[Published]]:
    """Data set to the published rows that stand in its table.

    Args:
        names: what the comparison file asks for.
        shops: the data sets as they are.
        left_out: those of the file that this call does not show.

    Raises:
        UserError: an unknown name, a row of a data set that is not here, or of one with other statistics.
    """
    known = read_published()
    here = {shop.entry or name: name for name, shop in shops.items() if shop.split[0] == LEAVE_ONE_OUT}
    found: dict[str, list[Published]] = {name: [] for name in shops}
    for name in names:
        rows = [row for row in known if row.name == name]
        if not rows:
            listed = ", ".join(dict.fromkeys(row.name for row in known))
            raise UserError(f"published: {name!r} is not known (known: {listed})")
        shown = [row for row in rows if row.dataset in here]
        if not shown and not any(row.dataset in left_out for row in rows):
            raise UserError(
                f"published: {name!r} belongs to data set {' or '.join(repr(row.dataset) for row in rows)} with each "
                "user's last item left out, which is not in this comparison"
            )
        counts = {row.dataset: shops[here[row.dataset]].statistics for row in shown}
        for row in shown:
            if row.fits(counts[row.dataset]):
                found[here[row.dataset]].append(row.on(counts[row.dataset]))
                continue
            raise UserError(
                f"published: {name!r} was measured on {_counts(row.statistics)}, {row.dataset!r} here has "
                f"{_counts(counts[row.dataset])}: another data set, and never to be compared; leave the row out, "
                "or give the data set another name"
            )
    return found


def _counts(statistics: Mapping[str, int]) -> str:
    return ", ".join(f"{statistics[key]:,} {key}" for key in _COUNTS if key in statistics)
