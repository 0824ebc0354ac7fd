"""Published results, shown beside measured ones only on the very data set they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.file_settings import LEAVE_ONE_OUT
from recbole_mmm4rec.compare.job import Shop
from recbole_mmm4rec.compare.located import Located, Place
from recbole_mmm4rec.settings.defaults import properties_dir
from recbole_mmm4rec.training.user_ranks import METRIC

_KEYS = ("name", "dataset", "users", "items", "interactions", "inputs", "metrics", "source", "page", "note")
_COUNTS = ("users", "items", "interactions")


@dataclass(frozen=True)
class Published:
    """A row that others have published.

    Attributes:
        name: how a comparison file names it.
        dataset: the data set's name.
        statistics: ``users``, ``items``, ``interactions`` of that data set.
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


def read_published(path: Path | None = None) -> dict[str, Published]:
    """All published rows that the package knows, by name.

    Args:
        path: the file; ``properties/compare/published.yaml`` by default.

    Raises:
        UserError: with file and line, for a row that lacks something.
    """
    file = Located(path or properties_dir() / "compare" / "published.yaml")
    rows = {}
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
            statistics={key: file.number((*place, key), part.get(key), 1) for key in _COUNTS},
            inputs=file.name((*place, "inputs"), part.get("inputs")),
            metrics={metric: float(number) for metric, number in metrics.items()},
            source=", ".join(file.name((*place, key), part[key]) for key in ("source", "page") if key in part),
        )
        if not row.source:
            file.fail(place, f"{row.name!r} has no source")
        rows[row.name] = row
    return rows


def rows_for(names: Sequence[str], shops: Mapping[str, Shop]) -> dict[str, list[Published]]:
    """Data set to the published rows that stand in its table.

    Args:
        names: what the comparison file asks for.
        shops: the data sets as they are.

    Raises:
        UserError: an unknown name, a row of a data set that is not here, or of one with other statistics.
    """
    known = read_published()
    here = {shop.folder or name: name for name, shop in shops.items() if shop.split[0] == LEAVE_ONE_OUT}
    found: dict[str, list[Published]] = {name: [] for name in shops}
    for name in names:
        if name not in known:
            raise UserError(f"published: {name!r} is not known (known: {', '.join(known)})")
        row = known[name]
        if row.dataset not in here:
            raise UserError(
                f"published: {name!r} belongs to data set {row.dataset!r} with each user's last item left out, which is "
                "not in this comparison"
            )
        statistics = shops[here[row.dataset]].statistics
        if dict(statistics) != dict(row.statistics):
            raise UserError(
                f"published: {name!r} was measured on {_counts(row.statistics)}, {row.dataset!r} here has "
                f"{_counts(statistics)}: another data set, and never to be compared; leave the row out"
            )
        found[here[row.dataset]].append(row)
    return found


def _counts(statistics: Mapping[str, int]) -> str:
    return ", ".join(f"{statistics[key]:,} {key}" for key in _COUNTS)
