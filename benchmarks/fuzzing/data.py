"""The fuzzer's readers of data: atomic files, tables, sequences, Amazon's lines, stores, vectors, pictures, lists."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzzing.cases import Case, Reader, files_of, lines, parquet, pictures

from dataset_prep.files.activity import read_activity
from dataset_prep.files.set_files import SetFiles
from dataset_prep.filters.filters import Filters
from dataset_prep.images.report import read_report
from dataset_prep.inspect.stats import time_span
from dataset_prep.sources.sequences import prepare_sequences
from dataset_prep.sources.table import TableOptions, prepare_table
from dataset_prep.vectors.files import read_vectors
from recbole_mmm4rec.base.arrays import read_array
from recbole_mmm4rec.base.atomic_files import read_header, read_rows
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.signed import read_signed
from recbole_mmm4rec.data.columns import read_columns
from recbole_mmm4rec.encoders.pictures import BadPictureError, check_picture, read_picture
from recbole_mmm4rec.features.manifest import Manifest
from recbole_mmm4rec.features.store import FeatureStore
from recbole_mmm4rec.model_folder.small_pictures import small_jpeg
from recbole_mmm4rec.recommend.item_rows import read_items
from recbole_mmm4rec.recommend.update_data import read_interactions
from recbole_mmm4rec.recommend.user_files import read_users

HEAD = b"user_id:token\titem_id:token\ttimestamp:float\n"
INTER = HEAD + b"u1\ti1\t1600000000\nu1\ti2\t1600000100.5\nu2\ti1\t1600000200\nu2\ti3\t1600000300\n"
ITEM = (
    "item_id:token\ttext:token_seq\timage:token\tprice:float\n"
    "i1\tred tent\ta.jpg\t1.5\ni2\tcafé\t\t2\ni3\t\thttp://x/y.png http://x/z.png\t\n"
).encode()
ENCODED = {"vector:float_seq": b"0.5 1 2", "item_id_list:token_seq": b"i1 i2"}
REPORTED: list[Case] = [
    # what users of RecBole have put into their files, by the numbers of its issues
    {"shop.inter": INTER.replace(b"\t", b",")},  # 996, 1406: commas
    {"shop.inter": INTER.replace(b"\n", b"\r\n")},
    {"shop.inter": b"\xef\xbb\xbf" + INTER},
    {"shop.inter": INTER.replace(b":token", b"").replace(b":float", b"")},  # 764: no types
    {"shop.inter": INTER.replace(b"u1", b'"u1')},  # 1033: quotation marks
    {"shop.inter": INTER.replace(b"1600000200", b"")},  # missing values
    {"shop.inter": INTER.replace(b"1600000200", b"2020-09-13")},
    {"shop.inter": b"user_id:token\titem_id:token\titem_id_list:token_seq\nu1\ti3\ti1 i2\nu2\ti1\ti3\n"},  # 1318
    {"shop.inter": INTER.replace(b"timestamp:float", b"timestamp:token")},
    {"shop.inter": INTER.replace(b"i1", b"NA").replace(b"u2", b"nan")},
    {"shop.inter": INTER.decode().replace("i1", "商品").encode("gbk")},
    {"shop.inter": INTER + b"u3\ti1\n"},
]
TABLE = (
    b"user_id,item_id,timestamp,rating\nu1,i1,1600000000,5\nu1,i2,1600000100,\nu2,i1,1600000200,3.5\n"
    b"u2,i3,1600000300,1\n"
)
ITEMS = b'item_id,text,image,category\ni1,"red, big tent",a.jpg,garden\ni2,caf\xc3\xa9,,\ni3,,b.png,office\n'


def _inter(folder: Path) -> None:
    file = folder / "shop.inter"
    header = read_header(file)
    read_columns(file, header, list(header), "\t", "utf-8")
    for _ in read_rows(file, header):
        pass


ENCODINGS = ((",", "gbk"), ("\t", "utf-16"), (";", "latin-1"))


def _encoded(folder: Path) -> None:
    file, refused = folder / "shop.inter", []
    for separator, encoding in ENCODINGS:
        try:
            header = read_header(file, separator, encoding)
            read_columns(file, header, list(header), separator, encoding)
        except UserError as error:
            refused.append(error)
    if len(refused) == len(ENCODINGS):
        raise refused[-1]


def _item(folder: Path) -> None:
    files = SetFiles("shop", folder)
    files.tokens()
    for column in files.item_columns():
        files.values(column)


def _activity(folder: Path) -> None:
    files = SetFiles("shop", folder)
    files.interacted()
    found = read_activity(files)
    time_span(found.first, found.last)


def _one(folder: Path, *ends: str) -> Path:
    """The file of a case whose name says what it is."""
    return next(file for end in ends for file in folder.iterdir() if file.name.endswith(end))


def _table(folder: Path) -> None:
    names = {
        "user_id": "user_id",
        "item_id": "item_id",
        "timestamp": "timestamp",
        "text": "text",
        "image": "image",
        "rating": "rating",
    }
    inter = next(file for file in folder.iterdir() if file.name.startswith("inter"))
    items = next(file for file in folder.iterdir() if file.name.startswith("items"))
    options = TableOptions(names, filters=Filters(min_rating=1.0), keep=("category",))
    prepare_table(inter, items, "made", folder / "out", options, force=True)


def _sequences(folder: Path) -> None:
    names = {"user_id": "user_id", "item_ids": "item_ids", "item_id": "item_id", "text": "text"}
    inter = next(file for file in folder.iterdir() if file.name.startswith("seq"))
    items = next(file for file in folder.iterdir() if file.name.startswith("items"))
    prepare_sequences(inter, items, "made", folder / "out", names, force=True)


def _store(folder: Path) -> None:
    store = FeatureStore.open(folder)
    store.align([*store.items[:3], *store.items[-1:]])
    store.find_rows(["k01", "no"])


def _manifest(folder: Path) -> None:
    Manifest.from_json((folder / "manifest.json").read_text("utf-8", "replace"))


def _array(folder: Path) -> None:
    try:
        found = read_array(folder / "table.npy", mapped=True)
        read_array(folder / "table.npy").sum(dtype=None if found.dtype.kind != "b" else int)
    except ValueError as error:  # what its callers turn into their line
        raise UserError(str(error)) from None


def _vectors(folder: Path) -> None:
    read_vectors(next(folder.iterdir()))


def vector_files() -> list[Case]:
    """One's own vectors in every kind of file."""
    table, ids = np.arange(12, dtype=np.float32).reshape(4, 3), ["a", "b", "c", "d"]
    npy, npz, pt, old, tensors = (io.BytesIO() for _ in range(5))
    np.save(npy, table)
    np.savez(npz, ids=np.array(ids), vectors=table)
    torch.save({"ids": torch.arange(4), "table": torch.from_numpy(table)}, pt)
    torch.save(
        {name: torch.from_numpy(row) for name, row in zip(ids, table, strict=True)},
        old,
        _use_new_zipfile_serialization=False,
    )
    from safetensors.torch import save

    tensors.write(save({name: torch.from_numpy(row) for name, row in zip(ids, table, strict=True)}))
    text = b"item_id:token\tvector:float_seq\na\t1 2 3\nb\t4 5 6.5\n"
    named = {"v.npy": npy, "v.npz": npz, "v.pt": pt, "v.pth": old, "v.safetensors": tensors}
    found: list[Case] = [{name: content.getvalue()} for name, content in named.items()]
    return [
        *found,
        {"v.parquet": parquet(item_id=ids, vector=table.tolist())},
        {"v.itememb": text},
        {"v.feat1CLS": table.tobytes()},
    ]


def _picture(folder: Path) -> None:
    data = (folder / "picture").read_bytes()
    try:
        check_picture(data, 1_000_000)
        read_picture(folder / "picture", 1_000_000)
        small_jpeg(data)
    except BadPictureError as error:
        raise UserError(str(error)) from None


def _new_items(folder: Path) -> None:
    vectors = {"text": folder / "v.npy"} if (folder / "v.npy").exists() else None
    read_items(_one(folder, ".csv", ".tsv", ".jsonl", ".parquet", ".gz"), folder, vectors)


def new_item_files() -> list[Case]:
    """Tables of new items."""
    rows = [
        {"item_id": "n1", "text": "tent", "image": "a.png", "price": 1.5},
        {"item_id": "n2", "text": None, "price": "2"},
    ]
    npy = io.BytesIO()
    np.save(npy, np.ones((3, 12), np.float32))
    picture = pictures()[0]
    return [
        {"new.csv": ITEMS, "a.jpg": picture, "v.npy": npy.getvalue()},
        {"new.tsv": ITEMS.replace(b",", b"\t").replace(b'"', b""), "i2.png": picture},
        {"new.jsonl": lines(*rows), "a.png": picture},
        {"new.csv.gz": gzip.compress(ITEMS)},
        {"new.parquet": parquet(item_id=["n1", "n2"], text=["a", None], image=["a.png", None], category=["x", "y"])},
    ]


def _users(folder: Path) -> None:
    for _ in read_users(_one(folder, ".csv", ".jsonl", ".parquet")):
        pass


def user_files() -> list[Case]:
    """Histories of users."""
    rows = [
        {"user_id": "a", "history": ["k01", "k02"], "timestamps": [1, 2]},
        {"user_id": 7, "history": "k01 k03", "timestamps": None},
    ]
    listed = {"user_id": ["a", "b"], "history": [["k01"], ["k02", "k03"]], "timestamps": [[1], [1, 2]]}
    return [
        {"users.csv": b"user_id,history,timestamps\na,k01 k02,1600000000 1600000001\nb,k03,\nc,,\n"},
        {"users.jsonl": lines(*rows)},
        {"users.parquet": parquet(**listed)},
    ]


def _came(folder: Path) -> None:
    read_interactions(_one(folder, ".csv", ".jsonl", ".parquet"), frozenset({"i1", "i2", "i3"}))


def _report(folder: Path) -> None:
    read_report(folder / "images.report.jsonl")


def _signed(folder: Path) -> None:
    read_signed(folder / "cache")


def readers(corpus: Path) -> list[Reader]:
    """All of data."""
    shop = corpus / "kiosk" / "dataset" / "kiosk"
    whole, items = (shop / "kiosk.inter").read_bytes()[:1_500], (shop / "kiosk.item").read_bytes()
    inter: list[Case] = [{"shop.inter": INTER}, {"shop.inter": whole}, *REPORTED]
    inter.append(
        {
            "shop.inter": b"item_id:token\t"
            + b"\t".join(map(str.encode, ENCODED))
            + b"\ni1\t"
            + b"\t".join(ENCODED.values())
            + b"\n"
        }
    )
    text = INTER.decode().replace("u2", "café")
    encoded = [{"shop.inter": text.replace("\t", separator).encode(name)} for separator, name in ENCODINGS]
    both = [{"shop.item": item, **one} for item in (ITEM, items) for one in inter]
    stores = [files_of(shop / "features" / name) for name in ("text", "image")]
    tables: list[Case] = [
        {"inter.csv": TABLE, "items.csv": ITEMS},
        {
            "inter.tsv": TABLE.replace(b",", b"\t"),
            "items.jsonl": lines({"item_id": "i1", "text": "a"}, {"item_id": "i3", "category": 1}),
        },
        {"inter.csv.gz": gzip.compress(TABLE), "items.csv.gz": gzip.compress(ITEMS)},
        {
            "inter.parquet": parquet(user_id=["a", "b"], item_id=["i1", "i2"], timestamp=[1, 2], rating=[1.0, None]),
            "items.csv": ITEMS,
        },
    ]
    sequences: list[Case] = [
        {"seq.tsv": b"user_id\titem_ids\nu1\ti1 i2 i3\nu2\ti3\nu3\t\n", "items.csv": ITEMS},
        {"seq.csv": b"user_id,item_ids\nu1,i1 i2 i3\nu2,i3 i1\n", "items.csv": ITEMS},
    ]
    tabular = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".gz": "gzip", ".parquet": "parquet"}
    store = {"manifest.json": "json", "table.npy": "npy", "present.npy": "npy", "items.txt": "lines"}
    arrays: list[Case] = [{"table.npy": case[name]} for case in stores for name in ("table.npy", "present.npy")]
    reports = lines(
        {"item": "a", "stage": "fetch", "reason": "x", "try_again": True},
        {"item": "b", "stage": "embed", "reason": "y"},
    )
    vectors = {
        ".npy": "npy",
        ".pt": "torch",
        ".pth": "torch",
        ".safetensors": "safetensors",
        ".parquet": "parquet",
        ".itememb": "tsv",
        "": "bytes",
    }
    known: Any = [
        Reader("interactions, atomic", 140_000, inter, {"": "tsv"}, _inter),
        Reader("interactions, other separators and encodings", 25_000, encoded, {"": "tsv"}, _encoded),
        Reader("items, atomic", 100_000, both, {".item": "tsv"}, _item),
        Reader("a set's activity", 40_000, both, {"": "tsv"}, _activity),
        Reader("prep table", 15_000, tables, tabular, _table, cleared=True),
        Reader("prep sequences", 15_000, sequences, tabular, _sequences, cleared=True),
        Reader("feature stores", 25_000, stores, store, _store),
        Reader("manifests of stores", 70_000, stores, {"manifest.json": "json"}, _manifest),
        Reader("arrays", 40_000, arrays, {"": "npy"}, _array),
        Reader("vectors", 15_000, vector_files(), vectors, _vectors, cleared=True),
        Reader("pictures", 40_000, [{"picture": one} for one in pictures()], {"": "picture"}, _picture),
        Reader("reports of pictures", 40_000, [{"images.report.jsonl": reports}], {"": "jsonl"}, _report),
        Reader("tables of new items", 30_000, new_item_files(), {**tabular, ".npy": "npy"}, _new_items, cleared=True),
        Reader("histories of users", 30_000, user_files(), tabular, _users, cleared=True),
        Reader(
            "new interactions",
            30_000,
            [{"t.csv": TABLE}, {"t.jsonl": lines({"user_id": "a", "item_id": "i1", "timestamp": 1})}],
            tabular,
            _came,
            cleared=True,
        ),
        Reader(
            "RecBole's caches",
            20_000,
            [{"cache": b"mmm4rec signed 1\n" + b"0" * 32 + b"\x80\x04]."}],
            {"": "bytes"},
            _signed,
        ),
    ]
    return list(known)
