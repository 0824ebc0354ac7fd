"""``inspect``: what a data set holds, as a table on the screen and as one page to look at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataset_prep.files.activity import Activity, read_activity
from dataset_prep.files.arguments import add_set
from dataset_prep.files.atomic import replace_file
from dataset_prep.files.set_files import SetFiles
from dataset_prep.images.files import find_pictures, picture_folder, picture_stem
from dataset_prep.inspect.page import Card, Content, render
from dataset_prep.inspect.stats import (
    difference_hashes,
    groups_of_equals,
    picture_digests,
    spread,
    text_digests,
    time_span,
)
from dataset_prep.inspect.vectors import NearDuplicates, StoredVectors, Vectors, near_duplicates, nearest
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.tied_times import order_of_ties, told
from recbole_mmm4rec.encoders.pictures import need_pillow

NEAR = 0.98  # cosine from which on two items are near duplicates
NEAR_HASH = 0.875  # the same for difference hashes: at most 4 of 64 signs differ
CARDS, NEIGHBOURS = 24, 5
MOST_CARDS = 500

Facts = list[tuple[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``inspect`` is told."""
    parser.description = (
        "Counts, gaps and duplicates of a data set, and a page to look at: NAME/inspect.html, one file that loads "
        "nothing."
    )
    parser.epilog = "example:\n  %(prog)s shop --cards 40\n"
    add_set(parser)
    parser.add_argument("--cards", type=int, default=CARDS, metavar="N", help=f"items shown (default: {CARDS})")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    return inspect_set(arguments.name, arguments.out, arguments.cards)


def inspect_set(name: str, out: Path, cards: int = CARDS) -> str:
    """Counts what a data set holds and writes ``OUT/NAME/inspect.html``.

    Args:
        name: of the data set.
        out: folder of data sets.
        cards: items on the contact sheet, evenly spread from the most to the least popular.

    Returns:
        The table, for the screen.

    Raises:
        UserError: no such data set, a file of it cannot be used, ``cards`` is out of range, or Pillow is missing.
    """
    if not 0 <= cards <= MOST_CARDS:
        raise UserError(f"--cards {cards}: must be 0 to {MOST_CARDS}")
    need_pillow()
    files = SetFiles(name, out / name)
    files.require()
    activity = read_activity(files)
    tokens, texts = files.tokens(), files.values("text")
    there = find_pictures(picture_folder(files.folder))
    pictures = [there.get(picture_stem(token)) for token in tokens]
    facts = _counts(activity, tokens, order_of_ties(files.file("prep.json")))
    text_facts, text_vectors = _vectors(files, "text", tokens)
    image_facts, image_vectors = _vectors(files, "image", tokens)
    twins: dict[str, list[tuple[int, int, float]]] = {}
    facts += _text_facts(texts) + text_facts
    if text_vectors is not None:
        facts.append(_near("near-duplicate texts", near_duplicates(text_vectors, NEAR), NEAR, twins))
    facts += _picture_facts(files, pictures) + image_facts
    if image_vectors is not None:
        facts.append(_near("near-duplicate pictures", near_duplicates(image_vectors, NEAR), NEAR, twins))
    elif any(pictures):
        hashes = difference_hashes(pictures)
        found = near_duplicates(hashes, NEAR_HASH)
        facts.append(_near("near-duplicate pictures by difference hash", found, NEAR_HASH, twins))
    counts = [activity.by_item[token] for token in tokens]
    sheet = _cards(counts, cards, text_vectors, image_vectors)
    by_item = np.fromiter(activity.by_item.values(), dtype=np.int64, count=len(activity.by_item))
    content = Content(name, facts, activity.by_user, by_item, tokens, texts, pictures, counts, sheet, twins)
    page = files.folder / "inspect.html"
    replace_file(page, [render(content)])
    widest = max(len(fact) for fact, _ in facts)
    return "\n".join([*(f"{fact:<{widest}}  {value}" for fact, value in facts), f"written to {page}"])


def _counts(activity: Activity, tokens: Sequence[str], order: str) -> Facts:
    users, items, interactions = len(activity.by_user), len(tokens), activity.interactions
    unknown = len(activity.by_item.keys() - set(tokens))
    idle = items - (len(activity.by_item) - unknown)
    density = f"{100 * interactions / (users * len(activity.by_item)):.4g} %" if interactions else "none"
    by_item = np.fromiter(activity.by_item.values(), dtype=np.int64, count=len(activity.by_item))
    facts = [
        ("users", f"{users:,}"),
        ("items", f"{items:,}" + (f", {idle:,} of them without interactions" if idle else "")),
        ("interactions", f"{interactions:,}"),
        ("density", f"{density} of users times items with interactions"),
        ("interactions of a user", spread(activity.by_user)),
        ("interactions of an item", spread(by_item)),
        ("time", time_span(activity.first, activity.last)),
        ("ties in time", told(activity.tied, order) if activity.tied else "none"),
    ]
    if unknown:
        facts.append(("items missing from the .item file", f"{unknown:,}"))
    if activity.left_out:
        facts.append(("left out", f"{activity.left_out:,} interactions without a user or an item"))
    return facts


def _text_facts(texts: Sequence[str]) -> Facts:
    lengths = np.array([len(text) for text in texts if text.strip()], dtype=np.int64)
    return [
        ("items with text", _share(len(lengths), len(texts))),
        ("characters of a text", spread(lengths)),
        ("equal texts", _equals(groups_of_equals(text_digests(texts)))),
    ]


def _picture_facts(files: SetFiles, pictures: Sequence[Path | None]) -> Facts:
    named = sum(bool(value.strip()) for value in files.values("image"))
    return [
        ("items with an image address or file name", _share(named, len(pictures))),
        ("items with a picture", _share(sum(picture is not None for picture in pictures), len(pictures))),
        ("equal pictures", _equals(groups_of_equals(picture_digests(pictures)))),
    ]


def _vectors(files: SetFiles, modality: str, tokens: Sequence[str]) -> tuple[Facts, StoredVectors | None]:
    """A modality's store in the items' order, if it can be used; a fact says what it is, or why not."""
    from recbole_mmm4rec.features.tables import FeatureSource  # brings torch along, which takes seconds

    source = FeatureSource(files.name, files.folder / "features", files.file("item"))
    fact = f"items with {'a text' if modality == 'text' else 'an image'} vector"
    if modality not in source.found():
        return [(fact, "none, not embedded")], None
    try:
        store = source.open(modality)
    except UserError as error:
        return [(fact, f"cannot be used: {error}")], None
    vectors = StoredVectors(store, tokens)
    manifest = store.manifest
    share = _share(int(vectors.present.sum()), len(tokens))
    return [(fact, f"{share}, {manifest.dim} numbers each, by {manifest.encoder}")], vectors


def _near(
    kind: str, found: NearDuplicates, least: float, twins: dict[str, list[tuple[int, int, float]]]
) -> tuple[str, str]:
    twins[kind[0].upper() + kind[1:]] = found.examples
    return kind, f"{_share(found.items, found.compared)} of the items compared have another with cosine >= {least}"


def _cards(counts: Sequence[int], number: int, text: Vectors | None, image: Vectors | None) -> list[Card]:
    """Items evenly spread over the ranks of popularity, with their neighbours by what there is."""
    order = sorted(range(len(counts)), key=lambda item: (-counts[item], item))
    at = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(np.int64)
    chosen = np.array(order, dtype=np.int64)[at]
    spaces: dict[str, list[Vectors]] = {}
    if text is not None:
        spaces["text"] = [text]
    if image is not None:
        spaces["picture"] = [image]
    if text is not None and image is not None:
        spaces["both"] = [text, image]
    found = {by: nearest(space, chosen, NEIGHBOURS) for by, space in spaces.items()}
    return [
        Card(int(item), {by: lists[row] for by, lists in found.items() if lists[row]})
        for row, item in enumerate(chosen)
    ]


def _share(some: int, every: int) -> str:
    return f"{some:,} of {every:,} ({100 * some / every:.1f} %)" if every else "none"


def _equals(groups: list[list[int]]) -> str:
    if not groups:
        return "none"
    return f"{sum(map(len, groups)):,} items in {len(groups):,} groups, the largest of {len(groups[0]):,}"
