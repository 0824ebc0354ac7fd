"""Data of odd shapes: trained on, the scores those of the slow reference; or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from more_items import like
from network.models import published_parameters
from reference import plain

from recbole_mmm4rec import Recommender, run_recbole
from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.commands.__main__ import main
from recbole_mmm4rec.features.store import write_store

pytestmark = pytest.mark.usefixtures("own_folder")

SETTINGS: dict[str, Any] = {
    "hidden_size": 16,
    "inner_size": 16,
    "d_state": 4,
    "n_groups": 2,
    "head_dim": 8,
    "MAX_ITEM_LIST_LENGTH": 8,
    "train_batch_size": 4096,
    "epochs": 1,
    "topk": [1],
    "metrics": ["Hit", "NDCG"],
    "valid_metric": "Hit@1",
    "show_progress": False,
    "use_gpu": False,
    "state": "ERROR",
    "data_path": "dataset",
}
START = 1_500_000_000
Rows = list[tuple[str, int, int]]


def shop(rows: Rows, items: int) -> None:
    """A data set of (user, item, time) and random vectors of texts."""
    folder = Path("dataset/odd")
    folder.mkdir(parents=True)
    lines = (f"{user}\ti{item}\t{time}\n" for user, item, time in rows)
    (folder / "odd.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(lines))
    names = [f"i{number}" for number in range(items)]
    texts = (f"{name}\tthing\n" for name in names)
    (folder / "odd.item").write_text("item_id:token\ttext:token_seq\n" + "".join(texts))
    write_store(
        folder / "features" / "text",
        **{"modality": "text", "encoder": "random", "encoder_hash": None, "encoder_version": None, "settings": {}},
        **{"dim": 12, "dtype": "float32", "normalized": False, "input_hash": None, "dataset": "odd", "items": names},
        present=np.ones(items, bool),
        chunks=[np.random.default_rng(0).normal(size=(items, 12)).astype(np.float32)],
    )


def user(name: str, count: int, items: int, seed: int = 0) -> Rows:
    """So many interactions of a user, an hour apart or more."""
    draw = np.random.default_rng(seed)
    times = START + draw.integers(3_600, 90_000, count).cumsum()
    return [(name, int(item), int(time)) for item, time in zip(draw.integers(0, items, count), times, strict=True)]


def trained(**changes: Any) -> dict[str, Any]:
    result: dict[str, Any] = run_recbole(model="MMM4Rec", dataset="odd", config_dict={**SETTINGS, **changes})
    return result


def assert_scores_are_the_references(result: dict[str, Any], histories: Sequence[Rows]) -> None:
    """The model folder's scores of histories, which may be longer than the model's, within 1e-4 of the largest."""
    model = Recommender.load(result["model_folder"])
    length = model.max_len
    found = model.scores(
        [[f"i{row[1]}" for row in one] for one in histories], timestamps=[[r[2] for r in o] for o in histories]
    )
    kept = [one[-length:] for one in histories]
    numbers, stamps = (
        torch.zeros(len(kept), length, dtype=torch.int64),
        torch.zeros(len(kept), length, dtype=torch.int64),
    )
    for place, one in enumerate(kept):
        numbers[place, : len(one)] = torch.tensor([model.items.number(f"i{item}") for _, item, _ in one])
        stamps[place, : len(one)] = torch.tensor([time for _, _, time in one])
    network = model.network.double()
    with torch.no_grad():
        weights = published_parameters(network)
        table = network.items.features["text"].take(torch.arange(len(model.items) + 1)).double()
        weights[f"{plain.PUBLISHED_PREFIX['text']}_embedding"] = table
        settings = vars(network.config)
        lengths = torch.tensor([len(one) for one in kept])
        users = plain.user_vectors(weights, settings, numbers, lengths, stamps, modalities=("text",))
        wanted = plain.scores(users, weights, settings, None, ("text",))[:, 1:]
    assert np.abs(found - wanted.numpy()).max() <= 1e-4 * float(wanted.abs().max())


def test_one_user() -> None:
    rows = user("only", 12, 9)
    shop(rows, 9)
    assert_scores_are_the_references(trained(), [rows, rows[:1]])


def test_one_item() -> None:
    rows = [row for number in range(5) for row in user(f"u{number}", 5, 1, number)]
    shop(rows, 1)
    result = trained()
    assert result["test_result"]["hit@1"] == 1
    assert_scores_are_the_references(result, [rows[:5], rows[:1]])
    found = Recommender.load(result["model_folder"]).recommend(["i0"], 1)
    assert found.items == ()  # what is seen is left out


def test_what_is_tested_on_was_never_trained_on() -> None:
    seen = [row for number in range(12) for row in user(f"u{number}", 5, 9, number)]
    rows = seen + [(f"u{number}", 9 + number % 3, 2 * START) for number in range(12)]
    shop(rows, 12)
    result = trained()
    assert set(result["test_result"]) >= {"hit@1", "ndcg@1"}
    model = Recommender.load(result["model_folder"])
    assert model.items.popularity[[model.items.number("i9") - 1, model.items.number("i11") - 1]].tolist() == [0, 0]
    assert_scores_are_the_references(result, [seen[:5], [*seen[:5], rows[-1]]])


def test_a_user_with_100_000_interactions() -> None:
    rows = user("busy", 100_000, 30)
    shop(rows + user("idle", 6, 30, 1), 30)
    result = trained(MAX_ITEM_LIST_LENGTH=20, topk=[10], valid_metric="Hit@10")
    assert_scores_are_the_references(result, [rows, rows[-50:]])


@pytest.mark.parametrize(
    ("rows", "items", "told"),
    [
        (user("only", 1, 9), 9, "data set 'odd': no user has two interactions"),
        (user("only", 2, 9), 9, "data set 'odd': no user has three interactions"),
        ([], 9, "odd"),
    ],
)
def test_too_little_is_one_line(rows: Rows, items: int, told: str) -> None:
    shop(rows, items)
    with pytest.raises(UserError, match=told):
        trained()


def test_fewer_items_than_asked_for() -> None:
    shop(user("only", 9, 3), 3)
    with pytest.raises(UserError, match=r"topk=\[10\]: data set 'odd' has only . candidate items; set topk to less"):
        trained(topk=[10], valid_metric="Hit@10")


def test_a_text_of_a_megabyte(folder_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is cut to 100,000 characters, whatever kind of table it comes in."""
    text = "long words " * 95_000
    (tmp_path / "orders.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u,{n},{n}\n" for n in "123"))
    tables = {
        "items.csv": f"item_id,text\n1,{text}\n2,short\n",
        "items.jsonl": json.dumps({"item_id": 1, "text": text}),
    }
    for name, content in tables.items():
        (tmp_path / name).write_text(content)
        line = f"prep table --interactions orders.csv --items {name} --name {name[6:]} --out ."
        assert main(line.split()) == 0
        items = dict(zip(*read_item_column(tmp_path / name[6:] / f"{name[6:]}.item", "text"), strict=True))
        assert items["1"] == text[: len(items["1"])]
        assert 99_000 < len(items["1"]) <= 100_000
    model = Recommender.load(folder_copy)
    model.add_items([{**like(3), "text": text}])
    assert 99_000 < len(model.items.text("n3")) <= 100_000
    capsys.readouterr()
    assert main(["recommend", str(folder_copy), "--history", "n3", "--k", "37"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 150
