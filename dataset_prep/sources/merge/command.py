"""``merge``: several data sets as one, for pre-training across domains, without encoding anything again."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from dataset_prep.files.activity import read_activity
from dataset_prep.files.arguments import add_output
from dataset_prep.files.atomic import part_of
from dataset_prep.filters.interactions import HEADER
from dataset_prep.images.files import find_pictures, picture_folder, picture_stem, remove_leftovers
from dataset_prep.sources.merge.domain import SEPARATOR, Domain, check_apart, find_domains
from dataset_prep.sources.prepared import IMAGE_COLUMN, ITEM_HEADER, Origin, Prepared, write_set
from recbole_mmm4rec.base.command_names import called
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.base.tied_times import EITHER, FILE, MANY, order_of_ties, told

LEFT_OUT = "interactions_without_a_user_or_an_item_left_out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``merge`` is told."""
    parser.description = (
        "Several data sets as one, for pre-training; ids become SET:ID, embeddings are joined as they are."
    )
    parser.epilog = "example:\n  %(prog)s food home movies --name mix\n"
    parser.add_argument("sets", nargs="+", metavar="SET", help="names of data sets, at least two")
    add_output(parser, "name of the merged set")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    return merge_sets(arguments.sets, arguments.name, arguments.out, arguments.force)


def merge_sets(sets: Sequence[str], name: str, out: Path, force: bool = False) -> str:
    """Joins data sets: interactions, item texts and image addresses, feature stores, pictures.

    A user or item ``X`` of set ``A`` is called ``A:X``. Of the sets' columns user, item and time, text, image and what
    was encoded stay. The stores of a modality are joined block by block; the items of a set that has none are absent
    in the mask.

    Args:
        sets: names of data sets, at least two, all different.
        name: of the merged set.
        out: folder of all of them.
        force: replace another set of this name.

    Returns:
        What was done, for the screen.

    Raises:
        UserError: a set is named twice, is held by another one as well, missing or damaged; stores are out of date or
            come from different encoders or settings; another set of this name is there and ``force`` is False.
    """
    from dataset_prep.sources.merge.stores import find_stores, remove_stale  # brings torch along, which takes seconds

    domains = find_domains(sets, name, out)
    stores = find_stores(domains)
    inputs = _hashes(domains)
    check_apart(domains, inputs)
    for store in stores:
        for domain, part in store.parts:
            if part is not None:
                inputs[f"{domain.name} {store.modality}"] = hash_file(part.path / "manifest.json")
    items, counts, tied = _counts(domains)
    orders = {order_of_ties(domain.file("prep.json")) for domain in domains if tied[domain.name]}
    order = orders.pop() if len(orders) == 1 else EITHER if orders else FILE
    share = sum(tied.values()) / max(1, counts["interactions"])
    notes = [told(share, order)] if share >= MANY else []
    columns = _item_columns(domains, [store.column for store in stores])
    files = {"inter": _interaction_lines(domains), "item": _item_lines(domains, columns)}
    origin = Origin("merge", {"sets": list(sets), "separator": SEPARATOR}, inputs)
    ties = sum(tied.values())
    prepared = write_set(out, name, origin, files, counts, force, notes=notes, tied=ties, order_of_ties=order)
    # The tables went first: they refuse to replace another set. The same command does the rest after a kill.
    remove_stale(out / name, items, stores)
    lines = []
    for store in stores:
        with_vector, rows = store.write(out / name, name)
        without = [domain.name for domain, part in store.parts if part is None]
        lack = f"; {', '.join(without)} without" if without else ""
        encoder = store.stores[0].manifest.encoder
        lines.append(f"  {store.modality}: {with_vector:,} of {rows:,} items have a vector, by {encoder}{lack}")
    pictures = _link_pictures(domains, out / name)
    if pictures:
        lines.append(f"  {pictures:,} pictures")
    return _summary(prepared, domains, lines)


def _hashes(domains: Sequence[Domain]) -> dict[str, str]:
    hashes: dict[str, str] = {}
    name_of: dict[tuple[str, str], str] = {}
    for domain in domains:
        pair = hash_file(domain.file("inter")), hash_file(domain.file("item"))
        twin = name_of.setdefault(pair, domain.name)
        if twin != domain.name:
            raise UserError(f"merge: sets '{twin}' and '{domain.name}' hold the same; leave one out")
        hashes[f"{domain.name} inter"], hashes[f"{domain.name} item"] = pair
    return hashes


def _counts(domains: Sequence[Domain]) -> tuple[list[str], dict[str, int], dict[str, int]]:
    """The merged item ids, what is counted, and by set the interactions at the time of their user's one before."""
    items: list[str] = []
    tied = {}
    counts = dict.fromkeys(("users", "items", "interactions", "items_with_text"), 0)
    for domain in domains:
        items += map(domain.rename, domain.tokens())
        activity = read_activity(domain)
        counts["users"] += len(activity.by_user)
        counts["interactions"] += activity.interactions
        if activity.left_out:
            counts[LEFT_OUT] = counts.get(LEFT_OUT, 0) + activity.left_out
        tied[domain.name] = round(activity.tied * activity.interactions)
        counts["items_with_text"] += sum(bool(text.strip()) for text in domain.values("text"))
    counts["items"] = len(items)
    return items, counts, tied


def _interaction_lines(domains: Sequence[Domain]) -> Iterator[str]:
    yield HEADER
    for domain in domains:
        for user, item, time in domain.interactions():
            yield f"{domain.rename(user)}\t{domain.rename(item)}\t{time}\n"


def _item_columns(domains: Sequence[Domain], encoded: Sequence[str]) -> dict[str, str]:
    """Header by column: text, image if a set has it, and what else was encoded."""
    there = {column for domain in domains for column in domain.item_columns()}
    columns = {"text": ITEM_HEADER.partition("\t")[2]}
    if "image" in there:
        columns["image"] = IMAGE_COLUMN
    columns.update((column, f"{column}:token_seq") for column in encoded if column in there - {"text", "image"})
    return columns


def _item_lines(domains: Sequence[Domain], columns: dict[str, str]) -> Iterator[str]:
    yield "\t".join(["item_id:token", *columns.values()]) + "\n"
    for domain in domains:
        values = (domain.values(column) for column in columns)
        for token, *fields in zip(domain.tokens(), *values, strict=True):
            yield "\t".join([domain.rename(token), *fields]) + "\n"


def _link_pictures(domains: Sequence[Domain], dataset_dir: Path) -> int:
    """Gives the merged items their pictures, as links where the file system has them; returns how many."""
    target = picture_folder(dataset_dir)
    if target.exists():
        remove_leftovers(target)
    there = find_pictures(target)
    linked = 0
    for domain in domains:
        pictures = find_pictures(picture_folder(domain.folder))
        for token in domain.tokens() if pictures else ():
            source = pictures.get(picture_stem(token))
            if source is not None:
                stem = picture_stem(domain.rename(token))
                _link(source, target / f"{stem}{source.suffix}", there.pop(stem, None))
                linked += 1
        for token in domain.tokens():
            there.pop(picture_stem(domain.rename(token)), None)  # fetched for the merged set itself
    for stray in there.values():
        stray.unlink()
    return linked


def _link(source: Path, target: Path, old: Path | None) -> None:
    if old == target and target.samefile(source):
        return
    target.parent.mkdir(exist_ok=True)
    remove = [] if old in (None, target) else [old]
    part = part_of(target)
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)  # a picture is only ever replaced, never written into
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, part)
    os.replace(part, target)
    for file in remove:
        file.unlink()


def _summary(prepared: Prepared, domains: Sequence[Domain], lines: Sequence[str]) -> str:
    first, *rest = prepared.summary().splitlines()
    said = [line for line in rest if not line.startswith("next:")]
    train = f"next: {called('train')} --model=MMM4Rec --dataset={prepared.name} --stage=pretrain"
    has_vectors = any("vector" in line for line in lines)
    parts = f"  from {', '.join(domain.name for domain in domains)}"
    return "\n".join([first, parts, *lines, *said, train if has_vectors else rest[-1]])
