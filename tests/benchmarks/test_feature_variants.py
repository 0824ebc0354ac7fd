"""Other vectors of a set's items: white, and texts and pictures in each other's place."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pattern_shop import NAME, prepared, write_pattern_shop

from benchmarks.feature_variants import main, whitened
from recbole_mmm4rec.features.store import FeatureStore


def test_white_vectors_have_one_variance_in_every_direction() -> None:
    draw = np.random.default_rng(0)
    table = draw.normal(size=(400, 6)) @ np.diag([9.0, 5, 3, 1, 0.5, 0.1]) + 7
    present = np.ones(400, dtype=bool)
    present[::10] = False
    table[~present] = 0
    found = whitened(table, present)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    spread = np.linalg.eigvalsh(np.cov(found[present].T))
    assert spread.max() / spread.min() < 1.5
    assert np.cov(table[present].T).max() / spread.max() > 100


def test_both_variants_are_written_and_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pattern_shop(tmp_path)
    folder = tmp_path / NAME
    assert main([str(folder)]) == 0
    own, swapped, white = (
        {name: FeatureStore.open(folder / kind / name) for name in ("text", "image")}
        for kind in ("features", "features-swapped", "features-whitened")
    )
    for name, other in (("text", "image"), ("image", "text")):
        np.testing.assert_array_equal(swapped[name].table, own[other].table)
        assert white[name].items == own[name].items
        assert white[name].manifest.encoder.endswith(", whitened")
    adapters = prepared(tmp_path, feature_path=str(folder / "features-swapped")).model.network.items.adapter
    assert {name: adapters[name].in_features for name in adapters} == {
        "text": own["image"].table.shape[1],
        "image": own["text"].table.shape[1],
    }
    shutil.rmtree(folder / "features" / "image")
    assert main([str(folder)]) == 2
    assert "features/image" in capsys.readouterr().err
