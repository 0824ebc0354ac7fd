"""Whether two models differ: paired tests over users.

Sign-flip permutation test: Fisher, The Design of Experiments (1935); for rankings Smucker, Allan and Carterette
(CIKM 2007). Holm: Scandinavian Journal of Statistics 6 (1979), 65–70.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CHUNK = 2**22
"""Numbers that stand in memory at a time."""
_EXACT = 16
"""Up to so many users that differ, all sign patterns are looked at."""


def sign_flip_test(differences: np.ndarray, permutations: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value of no difference: the sign of each user's difference is as likely + as −.

    Exact where few users differ. Else (1 + patterns at least as far from 0) / (1 + permutations), never 0 (Phipson and
    Smyth, 2010).

    Args:
        differences: (U,) float64, of a user's metric under two models.
        permutations: sign patterns drawn.
        seed: of the draw.
    """
    sizes = np.abs(differences[differences != 0])  # users without a difference change no sum
    if not len(sizes):
        return 1.0
    seen = abs(differences.sum())
    bound = seen - 1e-9 * sizes.sum()  # sums of the same numbers in another order differ in their last bits
    exact = len(sizes) <= _EXACT
    count = 2 ** len(sizes) if exact else permutations
    draw = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(sizes))
    extreme = 0
    for start in range(0, count, step):
        rows = min(step, count - start)
        flips: np.ndarray
        if exact:
            flips = (np.arange(start, start + rows)[:, None] >> np.arange(len(sizes))) & 1
        else:
            bits = np.frombuffer(draw.bytes(rows * (-(-len(sizes) // 8))), dtype=np.uint8).reshape(rows, -1)
            flips = np.unpackbits(bits, axis=1, count=len(sizes))
        sums = sizes.sum() - 2 * (flips @ sizes)
        extreme += int((np.abs(sums) >= bound).sum())
    return extreme / count if exact else (1 + extreme) / (1 + count)


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    Args:
        p_values: of a family of tests, or of those of them that could be made.
        family: how many tests there are; those that could not be made count as p = 1. As many as ``p_values`` by
            default.
    """
    count = len(p_values) if family is None else max(family, len(p_values))
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, at in enumerate(order):
        highest = max(highest, min(1.0, (count - place) * p_values[at]))
        adjusted[at] = highest
    return adjusted
