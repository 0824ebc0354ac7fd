"""What a run's name is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_mmm4rec.run.identity import fingerprint


@pytest.mark.parametrize("name", ["shop", "shop[1]", "sh*p"])
def test_every_byte_of_a_data_set_counts(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / f"{name}.inter"
    file.parent.mkdir()
    file.write_text("one")
    before = fingerprint(file.parent)
    file.write_text("two")
    assert fingerprint(file.parent) != before
