"""Frozen features that stay as they are stored: read in pieces, projected in pieces, with exact gradients."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network.models import make_batch, make_features, make_present, randomise, small_config
from pattern_shop import ITEMS, NAME, pattern_settings, write_pattern_shop
from torch import Tensor, nn
from watching import Watch

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.features.store import write_store
from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.ops.tables import frozen
from recbole_mmm4rec.network.ops.tables.frozen import FrozenTable
from recbole_mmm4rec.network.ops.tables.project import project
from recbole_mmm4rec.run.build import build, make_config

ROWS = {
    "all": slice(None),
    "part": slice(3, 17),
    "every-other": slice(2, 19, 2),
    "chosen": torch.tensor([4, 4, 0, 19, 7, 1, 12, 13, 4]),
}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of four rows of six features."""
    monkeypatch.setattr(frozen, "PIECE_BYTES", 4 * 6 * 4)


def mapped(folder: Path) -> tuple[FrozenTable, Tensor]:
    """A table of 20 rows in half precision that lies on disk in another order, and its numbers."""
    draw = np.random.default_rng(0)
    stored = draw.normal(size=(30, 6)).astype(np.float16)
    np.save(folder / "table.npy", stored)
    index = draw.permutation(30)[:20]
    index[[0, 12]] = -1
    wanted = np.where(index[:, None] < 0, 0, stored[index]).astype(np.float32)
    table = FrozenTable.of_array(np.load(folder / "table.npy", mmap_mode="r"), index)
    return table, torch.from_numpy(wanted)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_rows_of_a_mapped_table(tmp_path: Path, rows: Any) -> None:
    table, wanted = mapped(tmp_path)
    assert table.shape == (20, 6)
    assert torch.equal(table.take(rows), wanted[rows])
    assert torch.equal(table.take(rows, torch.float64), wanted[rows].double())
    assert np.array_equal(table.numpy(), wanted.numpy())


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("frozen_bias", [False, True])
def test_projection_in_pieces_equals_one_product(
    tmp_path: Path, small_pieces: None, rows: Any, frozen_bias: bool
) -> None:
    table, wanted = mapped(tmp_path)
    ours, theirs = nn.Linear(6, 5).double(), nn.Linear(6, 5).double()
    theirs.load_state_dict(ours.state_dict())
    ours.bias.requires_grad_(not frozen_bias)
    found, expected = project(table, rows, ours.weight, ours.bias), theirs(wanted.double()[rows])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-12, atol=1e-12)
    if frozen_bias:
        assert ours.bias.grad is None
    else:
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=1e-12, atol=1e-12)


def test_projection_holds_a_piece_at_a_time(tmp_path: Path, small_pieces: None) -> None:
    table, _ = mapped(tmp_path)
    linear = nn.Linear(6, 2)
    with Watch() as watch:
        project(table, slice(None), linear.weight, linear.bias).sum().backward()
    features = [shape for _, shape, _ in watch.made if shape[-1:] == (6,)]
    assert max(shape[0] for shape in features) == 4
    assert watch.largest() == 20 * 2


def test_projection_under_autocast(tmp_path: Path, small_pieces: None) -> None:
    table, wanted = mapped(tmp_path)
    linear = nn.Linear(6, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = project(table, slice(None), linear.weight, linear.bias), linear(wanted)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-2)
    found.float().sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32


def test_half_precision_stays_half_and_is_shared() -> None:
    features = {name: table.half() for name, table in make_features().items()}
    network = MMM4RecNetwork(small_config(), features, make_present()).double()
    for twin in (network, copy.deepcopy(network)):
        assert twin.items.features["text"].values.data_ptr() == features["text"].data_ptr()
        assert twin.items.features["text"].dtype == torch.float16
    assert not any("features" in name for name in network.state_dict())


def network_on(features: dict[str, Any], small: bool, monkeypatch: pytest.MonkeyPatch) -> MMM4RecNetwork:
    if small:
        monkeypatch.setattr(frozen, "PIECE_BYTES", 4 * 7 * 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MMM4RecNetwork(small_config(item_mm_fusion="dynamic_instance"), features, make_present())
    return randomise(network)


def test_a_network_on_stored_features_equals_one_on_their_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, gradients and what an evaluation keeps, with features in order, in pieces or behind an index."""
    half = {name: table.half() for name, table in make_features().items()}
    draw = np.random.default_rng(1).permutation(24)
    indexed = {n: FrozenTable(t[torch.from_numpy(draw.argsort())], torch.from_numpy(draw)) for n, t in half.items()}
    batch = make_batch(9)
    results = []
    for features, small in (({n: t.float() for n, t in half.items()}, False), (half, True), (indexed, True)):
        network = network_on(features, small, monkeypatch).eval()
        scores = network(*batch.args())
        scores[:, 1:].logsumexp(1).sum().backward()
        side = network.items.side()
        results.append(
            [scores[:, 1:], *side.tables.values(), side.fused]
            + [value.grad for value in network.parameters() if value.grad is not None]
        )
    for other in results[1:]:
        for found, wanted in zip(other, results[0], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_an_evaluation_keeps_two_tables_and_makes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_on(make_features(), True, monkeypatch)
    with Watch() as watch:
        side = network.items.side()
    whole = [shape for _, shape, _ in watch.made if shape[:1] == (24,)]
    assert whole == [(24, 12)] * 3  # text, image, fused
    assert not side.fused.requires_grad
    torch.testing.assert_close(side.fused, network.items.fused(network.items.tables()))


def test_what_is_wrong_in_absent_rows_reaches_nothing() -> None:
    present = make_present()
    features = make_features()
    for name, table in features.items():
        table[0] = float("inf")
        table[~present[name]] = float("nan")
    network = MMM4RecNetwork(small_config(), features, present)
    network(*make_batch(9).args())[:, 1:].sum().backward()
    assert all(value.grad.isfinite().all() for value in network.parameters() if value.grad is not None)


def test_wrong_numbers_behind_an_index_are_found(tmp_path: Path) -> None:
    table, _ = mapped(tmp_path)
    values = table.values.clone()
    assert table.index is not None
    values[table.index[5]] = float("nan")
    with pytest.raises(UserError, match=r"'text'.* 1 rows \(first: \[5\]\)"):
        MMM4RecNetwork(small_config(), {"text": FrozenTable(values, table.index)})


# The stores of a data set.


def half_shop(folder: Path) -> None:
    """The pattern shop with random text features in half precision, in another order than the item numbers."""
    write_pattern_shop(folder)
    table = np.random.default_rng(3).normal(size=(len(ITEMS), 8))
    present = np.arange(len(ITEMS)) != 4
    write_store(
        folder / NAME / "features" / "text",
        modality="text",
        encoder="random",
        encoder_hash=None,
        encoder_version=None,
        settings={},
        dim=8,
        dtype="float16",
        normalized=False,
        input_hash=None,
        dataset=NAME,
        items=ITEMS[::-1],
        present=present,
        chunks=[table.astype(np.float32)],
    )


def test_mapped_and_copied_features_train_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run_recbole.py"])
    half_shop(tmp_path)
    results = []
    for place in ("memory", "mapped"):
        settings = pattern_settings(tmp_path, features_in=place, shuffle=False)
        run = build(make_config("MMM4Rec", NAME, config_dict=settings), count_flops=False)
        text = run.dataset.features["text"]
        assert text.dtype == torch.float16
        assert isinstance(text, FrozenTable) == (place == "mapped")
        weight = run.dataset.get_preload_weight("text")
        assert weight.dtype == np.float32
        loss = run.trainer._train_epoch(run.train, 0)
        with torch.no_grad():
            scores = run.model.eval().full_sort_predict(next(iter(run.test))[0])
        results.append((weight, loss, scores[:, 1:]))
    assert np.array_equal(results[0][0], results[1][0])
    assert results[1][1] == pytest.approx(results[0][1], rel=1e-6)
    torch.testing.assert_close(results[1][2], results[0][2], rtol=1e-6, atol=1e-6)


def test_large_tables_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    half_shop(tmp_path)
    size = (len(ITEMS) + 1) * 8 * 2
    for limit, stays in ((size, False), (size - 1, True)):
        monkeypatch.setattr("recbole_mmm4rec.features.tables.MAPPED_ABOVE", limit)
        config = make_config("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path, modalities=["text"]))
        run = build(config, count_flops=False)
        assert isinstance(run.dataset.features["text"], FrozenTable) == stays


def test_a_mapped_store_with_wrong_numbers_names_the_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    half_shop(tmp_path)
    file = tmp_path / NAME / "features" / "text" / "table.npy"
    table = np.load(file)
    table[2, 1] = np.nan
    np.save(file, table)
    config = make_config("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path, features_in="mapped"))
    with pytest.raises(UserError, match=f"NaN or infinite values for 1 items, first '{ITEMS[::-1][2]}'"):
        build(config, count_flops=False)
