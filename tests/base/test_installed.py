"""What to type where a package is missing."""

from __future__ import annotations

from recbole_mmm4rec.base.installed import NEWER_RAY, way_to_ray


def test_a_ray_that_is_too_old_is_renewed_and_one_that_is_absent_installed() -> None:
    assert way_to_ray(ModuleNotFoundError("No module named 'ray'", name="ray")) == "pip install 'recbole-mmm4rec[tune]'"
    for error in (ModuleNotFoundError("x", name="pkg_resources"), AttributeError("numpy has no bool8")):
        assert way_to_ray(error) == NEWER_RAY
