"""The demo shop's generating process, and what a perfect reader of its texts or pictures could foresee.

An item has a shape, which only its picture shows, and a use, which only its title tells. A user's purchases follow two
chains that know nothing of each other:

- the next shape is the one that follows the last purchase's shape in ``SHAPES`` (after the last comes the first);
- the next use is the use of the purchase before the last one: users go back and forth between two uses.

Each rule holds with probability ``KEEP``; otherwise the value is drawn from all values alike. The item is then drawn
from all items of that shape and use alike. As the two rules look at different purchases, one item does not tell much
about the next one as a pair of ids would: what was bought must be read from text and picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

KEEP = 0.95
FIRST_DAY = 1_609_459_200  # 2021-01-01 00:00 UTC
DAY = 86_400  # seconds
SHAPES = ("disc", "ring", "square", "frame", "triangle", "star", "cross", "drop", "crescent", "heart", "arrow", "bar")
PURCHASES = (5, 11)  # of a user, least and most
USES: dict[str, tuple[str, ...]] = {
    "camping": ("for camping", "for tent and campfire", "for camping trips"),
    "kitchen": ("for the kitchen", "for cooking and baking", "for kitchen and stove"),
    "office": ("for the office", "for desk and office work", "for the office desk"),
    "babies": ("for babies", "for babies and toddlers", "for the baby's nursery"),
    "cycling": ("for cycling", "for bicycle rides", "for cyclists"),
    "garden": ("for the garden", "for gardening", "for garden plants"),
    "dogs": ("for dogs", "for dogs and puppies", "for your dog"),
    "painting": ("for painting", "for artists and painters", "for watercolour painting"),
    "swimming": ("for swimming", "for the swimming pool", "for swimmers"),
    "music": ("for music", "for musicians", "for guitar and music"),
}
BRANDS = ("Norvik", "Bellane", "Tamoro", "Quistle", "Ardenhall", "Pomeki", "Luvanto", "Castorel")
KINDS = ("pouch", "case", "cover", "bag", "box", "label", "holder", "mat", "set", "stand")
MANNERS = ("sturdy", "light", "handy", "classic", "compact", "soft", "washable", "foldable")
EXTRAS = ("gift wrapped", "pack of two", "new edition", "easy to clean", "made from recycled material", "small size")


@dataclass(frozen=True)
class Shop:
    """Items and purchases, drawn from the process above.

    Attributes:
        shape: (items,) positions in ``SHAPES``.
        use: (items,) positions in ``USES``.
        titles: of the items.
        user: (n,) users, ascending.
        item: (n,) items, in each user's order.
        time: (n,) seconds since 1970, ascending for each user.
    """

    shape: np.ndarray
    use: np.ndarray
    titles: list[str]
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray

    @cached_property
    def before_the_last(self) -> tuple[np.ndarray, np.ndarray]:
        """(users,) positions of each user's last but one and last but two purchase, which decide the last."""
        last = np.flatnonzero(np.diff(self.user, append=-1))
        return last - 1, last - 2


def make_shop(users: int, items: int, seed: int) -> Shop:
    """Draws a shop.

    Args:
        users: at least 1.
        items: at least one for each pair of shape and use.
        seed: decides everything.
    """
    rng = np.random.default_rng([seed, 0])
    pair = rng.permutation(np.arange(items) % (len(SHAPES) * len(USES)))
    shape, use = pair // len(USES), pair % len(USES)
    titles = [_title(list(USES.values())[kind], rng) for kind in use]
    length = rng.integers(PURCHASES[0], PURCHASES[1] + 1, users)
    shapes, uses = _chains(users, PURCHASES[1], rng)
    by_pair = np.argsort(pair, kind="stable")
    size = np.bincount(pair, minlength=len(SHAPES) * len(USES))
    wanted = shapes * len(USES) + uses
    drawn = by_pair[(np.cumsum(size) - size)[wanted] + rng.integers(0, size[wanted])]
    gaps = rng.lognormal(np.log(9 * DAY), 1.0, drawn.shape).astype(np.int64) + 60
    gaps[:, 0] += FIRST_DAY + rng.integers(0, 540 * DAY, users)
    bought = np.arange(PURCHASES[1]) < length[:, None]
    user = np.repeat(np.arange(users), length)
    return Shop(shape, use, titles, user, drawn[bought], np.cumsum(gaps, axis=1)[bought])


def _chains(users: int, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    shapes = rng.integers(0, len(SHAPES), (users, length))
    uses = rng.integers(0, len(USES), (users, length))
    keep_shape, keep_use = rng.random((2, users, length)) < KEEP
    for at in range(1, length):
        shapes[:, at] = np.where(keep_shape[:, at], (shapes[:, at - 1] + 1) % len(SHAPES), shapes[:, at])
        if at > 1:
            uses[:, at] = np.where(keep_use[:, at], uses[:, at - 2], uses[:, at])
    return shapes, uses


def _title(phrases: tuple[str, ...], rng: np.random.Generator) -> str:
    brand, kind, manner, extra = (words[rng.integers(len(words))] for words in (BRANDS, KINDS, MANNERS, EXTRAS))
    return f"{brand} {manner} {kind} {phrases[rng.integers(len(phrases))]}, {extra}."


def perfect_hits(shop: Shop, k: int = 10) -> dict[str, float]:
    """The Hit@k on the users' last purchases that nobody can beat who reads only texts, only pictures, or both.

    A reader knows the process and, of every item, what the modality shows. Items that show the same form a group g of
    n_g items between which it cannot tell. Given the purchases before the last, the group of the last one has a known
    probability P(g | history): for pictures the groups are shapes, and P = KEEP [g follows the last shape] + (1 -
    KEEP) / 12; for texts they are uses, and P = KEEP [g is the last use but one] + (1 - KEEP) / 10; for both they are
    pairs, and P is the product of the two, as the chains are independent. Each item of a group is the last purchase
    with probability P / n_g, so the best ranking sorts groups by P / n_g and items of a group by lot. With k places,
    of which the groups ranked before g take m_g, its items get min(n_g, k - m_g) or none, and

        Hit@k = sum over g of P(g | history) * min(n_g, max(0, k - m_g)) / n_g,

    averaged over the users' histories. All items of the table are candidates.

    Args:
        shop: items and purchases.
        k: places of the list.

    Returns:
        Expected Hit@k by what is read: "text", "image", "both".
    """
    last, last_but_one = shop.before_the_last
    next_shape, next_use = (shop.shape[shop.item[last]] + 1) % len(SHAPES), shop.use[shop.item[last_but_one]]
    shape_of, use_of = np.divmod(np.arange(len(SHAPES) * len(USES)), len(USES))  # what may be expected, once each
    share = np.bincount(next_shape * len(USES) + next_use, minlength=len(shape_of)) / len(last)
    shapes, uses = _chances(shape_of, len(SHAPES)), _chances(use_of, len(USES))
    pairs = (shapes[:, :, None] * uses[:, None, :]).reshape(len(shapes), -1)
    pair_of_item = shop.shape * len(USES) + shop.use
    return {
        "text": _expected_hits(uses, np.bincount(shop.use, minlength=len(USES)), k, share),
        "image": _expected_hits(shapes, np.bincount(shop.shape, minlength=len(SHAPES)), k, share),
        "both": _expected_hits(pairs, np.bincount(pair_of_item, minlength=pairs.shape[1]), k, share),
    }


def _chances(expected: np.ndarray, kinds: int) -> np.ndarray:
    """(n, kinds) probabilities of the next value when the rule says ``expected``, (n,)."""
    chances = np.full((len(expected), kinds), (1 - KEEP) / kinds)
    chances[np.arange(len(expected)), expected] += KEEP
    return chances


def _expected_hits(chances: np.ndarray, sizes: np.ndarray, k: int, share: np.ndarray) -> float:
    """Mean of the formula of :func:`perfect_hits`; chances (n, groups), sizes (groups,), share (n,) of the users."""
    order = np.argsort(-chances / sizes, axis=1, kind="stable")
    ranked, size = np.take_along_axis(chances, order, axis=1), sizes[order]
    places = np.clip(k - (np.cumsum(size, axis=1) - size), 0, size)
    return float((ranked * places / size).sum(axis=1) @ share)
