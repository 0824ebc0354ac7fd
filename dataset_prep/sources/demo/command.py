"""``demo``: a small shop made by a program, whose customers can only be understood by text and picture together."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dataset_prep.files.arguments import add_output
from dataset_prep.files.atomic import publish
from dataset_prep.filters.interactions import HEADER
from dataset_prep.images.files import find_pictures, picture_folder, picture_stem, remove_leftovers, save_picture
from dataset_prep.sources.demo.shop import KEEP, SHAPES, USES, Shop, make_shop, perfect_hits
from dataset_prep.sources.prepared import remove_untrue
from recbole_mmm4rec.base.command_names import prepare
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.texts import check_set_name
from recbole_mmm4rec.encoders.pictures import need_pillow

ITEM_HEADER = "item_id:token\ttext:token_seq\timage:token\n"
DEFAULT_USERS, DEFAULT_ITEMS = 3000, 1200
FEWEST_ITEMS = len(SHAPES) * len(USES)
MOST = 10_000_000  # users or items; ids have seven digits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``demo`` is told."""
    parser.description = (
        "Makes a small synthetic shop: items with a title and a drawn picture, users whose next purchase "
        "follows from the shape that only pictures show and the use that only titles tell."
    )
    parser.epilog = "example:\n  %(prog)s --users 3000 --items 1200 --seed 1\n"
    add_output(parser, "name of the data set (default: demo)", "demo")
    parser.add_argument("--users", type=int, default=DEFAULT_USERS, help=f"default: {DEFAULT_USERS}")
    parser.add_argument(
        "--items", type=int, default=DEFAULT_ITEMS, help=f"at least {FEWEST_ITEMS} (default: {DEFAULT_ITEMS})"
    )
    parser.add_argument("--seed", type=int, default=1, help="decides everything that is drawn by lot (default: 1)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    return make_demo(
        arguments.name, arguments.out, arguments.users, arguments.items, arguments.seed, force=arguments.force
    )


def make_demo(
    name: str,
    out: Path,
    users: int = DEFAULT_USERS,
    items: int = DEFAULT_ITEMS,
    seed: int = 1,
    force: bool = False,
) -> str:
    """Writes the shop of :mod:`dataset_prep.sources.demo.shop` with its pictures; ``NAME.prep.json`` says what it is.

    Args:
        name: of the data set.
        out: folder of data sets.
        users: 1 or more.
        items: at least one for each shape and use.
        seed: not negative; the same one gives the same bytes.
        force: replace another set of this name.

    Returns:
        What was made, for the screen.

    Raises:
        UserError: a number is out of range, Pillow is missing, or another set of this name is there and ``force`` is
            False.
    """
    check_set_name(name)
    for option, value, least in (("--users", users, 1), ("--items", items, FEWEST_ITEMS), ("--seed", seed, 0)):
        if not least <= value < MOST:
            raise UserError(f"{option} {value}: must be {least:,} to {MOST - 1:,}")
    need_pillow()
    shop = make_shop(users, items, seed)
    tokens = [f"p{number:07d}" for number in range(items)]
    files = {"inter": _interaction_lines(shop, tokens), "item": _item_lines(shop, tokens)}
    hits = {reader: round(value, 4) for reader, value in perfect_hits(shop).items()}
    record = {
        "source": "demo",
        "options": {"users": users, "items": items, "seed": seed},
        "inputs": {},
        "counts": {"users": users, "items": items, "interactions": len(shop.user), "items_with_text": items},
        "share_of_items_with_text": 1.0,
        "synthetic": True,
        "rules": {"kept_with_probability": KEEP, "shapes": list(SHAPES), "uses": list(USES)},
        "hit@10_of_a_perfect_reader": hits,
    }
    # The tables go first: they refuse to replace another set. The same command draws the pictures that a kill left out.
    changed = publish(out / name, name, files, record, force, remove_untrue)
    drawn = _write_pictures(picture_folder(out / name), shop, tokens, seed)
    return _summary(name, out, shop, hits, changed or drawn)


def _interaction_lines(shop: Shop, tokens: list[str]) -> Iterator[str]:
    yield HEADER
    for user, item, time in zip(shop.user.tolist(), shop.item.tolist(), shop.time.tolist(), strict=True):
        yield f"u{user:07d}\t{tokens[item]}\t{time}\n"


def _item_lines(shop: Shop, tokens: list[str]) -> Iterator[str]:
    yield ITEM_HEADER
    for token, title in zip(tokens, shop.titles, strict=True):
        yield f"{token}\t{title}\t{picture_stem(token)}.png\n"


def _write_pictures(folder: Path, shop: Shop, tokens: list[str], seed: int) -> bool:
    """Draws what is missing or different and removes pictures of other items; returns whether anything was done."""
    from dataset_prep.sources.demo.pictures import draw

    folder.mkdir(exist_ok=True)
    remove_leftovers(folder)
    there = find_pictures(folder)
    changed = False
    for number, token in enumerate(tokens):
        data = draw(SHAPES[shop.shape[number]], np.random.default_rng([seed, 1, number]))
        old = there.pop(picture_stem(token), None)
        if old is None or old.suffix != ".png" or old.read_bytes() != data:
            save_picture(folder, token, data, "png")
            changed = True
    for stray in there.values():
        stray.unlink()
    return changed or bool(there)


def _summary(name: str, out: Path, shop: Shop, hits: dict[str, float], changed: bool) -> str:
    encoders = ("--text-encoder all-MiniLM-L6-v2", "--image-encoder efficientnet-lite0")
    users, items = int(shop.user[-1]) + 1, len(shop.titles)
    return "\n".join(
        [
            f"{name}: {users:,} users, {items:,} items with title and picture, "
            f"{len(shop.user):,} interactions; synthetic",
            "  Hit@10 of a perfect reader: "
            f"texts {hits['text']:.3f}, pictures {hits['image']:.3f}, both {hits['both']:.3f}",
            f"{'written to' if changed else 'already up to date in'} {out / name}",
            f"next: {prepare('embed', out / name, *encoders)}",
        ]
    )
