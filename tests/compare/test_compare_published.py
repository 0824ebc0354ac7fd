"""Published rows: shown only beside the same data, each complete."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pattern_shop import NAME, write_pattern_shop
from tiny_comparison import tiny_plan

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare import published_rows as published
from recbole_mmm4rec.settings.defaults import properties_dir

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pattern shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_pattern_shop(folder)
    return folder


def quote(folder: Path, **changes: Any) -> str:
    """A file with one published row."""
    row = {"name": "Theirs", "dataset": NAME, "users": 40, "items": 30, "interactions": 256, "inputs": "text"}
    row |= {"metrics": "{hit@10: 0.5}", "source": "arXiv 1", **changes}
    text = "rows:\n- " + "\n  ".join(f"{key}: {value}" for key, value in row.items() if value is not None) + "\n"
    (folder / "compare").mkdir()
    (folder / "compare" / "published.yaml").write_text(text)
    return text


def test_a_published_row_needs_the_same_counts(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shops = tiny_plan(shop).shops
    monkeypatch.setattr(published, "properties_dir", lambda: tmp_path)
    quote(tmp_path)
    (row,) = published.rows_for(["Theirs"], shops)[NAME]
    assert (row.label, row.metrics) == ("Theirs (text; arXiv 1)", {"hit@10": 0.5})
    filtered = tiny_plan(shop, datasets=[{"name": NAME, "settings": {"user_inter_num_interval": "[5,inf)"}}]).shops
    users, count = (filtered[NAME].statistics[key] for key in ("users", "interactions"))
    assert users < 40
    with pytest.raises(UserError) as caught:
        published.rows_for(["Theirs"], filtered)
    assert "40 users, 30 items, 256 interactions" in str(caught.value)
    assert f"{users} users, 30 items, {count} interactions" in str(caught.value)
    here, elsewhere = shops[NAME], replace(filtered[NAME], name="other", entry="other")
    rows = [
        published.Published("Both", found, {"users": 40, "items": 30}, "text", {}, "x") for found in (NAME, "other")
    ]
    monkeypatch.setattr(published, "read_published", lambda: [*rows, row])
    with pytest.raises(UserError, match=f"'other' here has {users} users"):
        published.rows_for(["Both"], {NAME: here, "other": elsewhere})  # one that fits hides none that does not
    with pytest.raises(UserError, match="belongs to data set 'pattern'"):
        published.rows_for(["Theirs"], {"other": elsewhere})
    monkeypatch.setattr(published, "read_published", lambda: [row])
    assert published.rows_for(["Theirs"], {"other": elsewhere}, {NAME}) == {
        "other": []
    }  # of a set that --on leaves out
    with pytest.raises(UserError, match="'Their' is not known"):
        published.rows_for(["Their"], shops)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"source": None}, "line 2: 'Theirs' has no source"),
        ({"metrics": "{recall@10: 0.5}"}, "line 8: metrics: 'recall@10' is none such as hit@10"),
        ({"users": "many"}, "line 4: users must be a whole number"),
        ({"pages": 4}, "line 10: unknown key 'pages'; did you mean 'page'?"),
    ],
)
def test_a_published_row_lacks_nothing(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    quote(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        published.read_published(tmp_path / "compare" / "published.yaml")
    assert complaint in str(caught.value)


def test_the_published_rows_that_come_with_the_package() -> None:
    rows = published.read_published(properties_dir() / "compare" / "published.yaml")
    counts = {
        "scientific": (8442, 4385, 59427),
        "pantry": (13101, 4898, 126962),
        "instruments": (24962, 9964, 208926),
        "arts": (45486, 21019, 395150),
        "office": (87346, 25986, 684837),
    }
    for name, wanted in counts.items():
        here = [row for row in rows if row.dataset == name]
        assert len(here) == 7
        assert {tuple(row.statistics.values()) for row in here} <= {wanted, wanted[:2]}
        assert all(set(row.metrics) == {"hit@10", "ndcg@10", "hit@50", "ndcg@50"} for row in here)
        assert all(row.metrics["hit@10"] < row.metrics["hit@50"] for row in here)
    assert rows[0].fits({"users": 8442, "items": 4385, "interactions": 59384})
    assert rows[0].on({"interactions": 59384}).source.endswith("; on 59,427 interactions")
    (missrec,) = (row for row in rows if (row.name, row.dataset) == ("MISSRec", "scientific"))
    assert missrec.metrics == {"hit@10": 0.1360, "ndcg@10": 0.0753, "hit@50": 0.2431, "ndcg@50": 0.0983}
