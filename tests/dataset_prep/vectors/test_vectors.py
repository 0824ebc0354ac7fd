"""One's own vectors: every kind of file, in every order, and every mistake in one line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mutate import damaged
from safetensors.torch import save_file

from dataset_prep.cli import main
from dataset_prep.embed.export import export_atomic
from dataset_prep.vectors.files import read_vectors
from dataset_prep.vectors.order import read_order
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.features.store import FeatureStore
from recbole_mmm4rec.features.tables import FeatureSource

ITEMS = ["b", "a", "d", "c"]
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
IDS = ["d", "a", "x", "b"]  # of the rows; c has none, x is nobody's


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_set(ITEMS)
    return tmp_path


def write_set(items: list[str], more: str = "") -> None:
    place = Path("dataset/shop")
    place.mkdir(parents=True, exist_ok=True)
    (place / "shop.item").write_text("item_id:token\ttext:token_seq\n" + "".join(f"{item}\tT\n" for item in items))
    lines = "".join(f"u\t{item}\t{time}\n" for time, item in enumerate([*items, *more.split()]))
    (place / "shop.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + lines)


def run(line: str) -> int:
    return main(line.split())


def stored(modality: str = "text") -> dict[str, list[float]]:
    """Vectors by item, of those that have one."""
    store = FeatureSource("shop", Path("dataset/shop/features"), Path("dataset/shop/shop.item")).open(modality)
    vectors, present = store.align(store.items)
    return {item: vectors[row].tolist() for row, item in enumerate(store.items) if present[row]}


EXPECTED = {item: TABLE[row].tolist() for row, item in enumerate(IDS) if item != "x"}


def by_id(file: str) -> None:
    torch.save({item: torch.tensor(vector) for item, vector in zip(IDS, TABLE, strict=True)}, file)


def parquet(columns: dict[str, Any]) -> Callable[[str], None]:
    return lambda file: pd.DataFrame(columns).to_parquet(file)


def large_lists(file: str) -> None:
    vectors = pa.array(TABLE.tolist(), pa.large_list(pa.float32()))
    pq.write_table(pa.table({"item_id": pa.array(IDS, pa.large_string()), "vector": vectors}), file)


def atomic(file: str) -> None:
    lines = (f"{item}\t{' '.join(map(str, vector))}\n" for item, vector in zip(IDS, TABLE, strict=True))
    Path(file).write_text("mid:token\tmid_emb:float_seq\n" + "".join(lines))


WITH_IDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "npz": ("v.npz", lambda file: np.savez(file, vectors=TABLE, ids=np.array(IDS))),
    "npz, packed": ("v.npz", lambda file: np.savez_compressed(file, ids=np.array(IDS, dtype="S4"), x=TABLE)),
    "npz, by id": ("v.npz", lambda file: np.savez(file, **dict(zip(IDS, TABLE, strict=True)))),
    "pt": ("v.pt", lambda file: torch.save({"ids": IDS, "vectors": torch.tensor(TABLE), "dim": 3}, file)),
    "pth, by id": ("v.pth", by_id),
    "safetensors, by id": (
        "v.safetensors",
        lambda file: save_file({item: torch.tensor(row) for item, row in zip(IDS, TABLE, strict=True)}, file),
    ),
    "Parquet, lists": ("v.parquet", parquet({"item_id": IDS, "vector": list(TABLE), "title": list("wxyz")})),
    "Parquet, columns": ("v.parquet", parquet({"sku": IDS, **{f"v{n}": TABLE[:, n] for n in range(3)}})),
    "Parquet, large lists": ("v.parquet", large_lists),
    "RecBole's": ("shop.feat1CLS", atomic),
    "RecBole's, another name": ("shop.textfeat", atomic),
}


@pytest.mark.parametrize("kind", WITH_IDS)
def test_files_that_name_their_items(folder: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    file, write = WITH_IDS[kind]
    write(file)
    assert run(f"vectors shop --text {file}") == 0
    assert stored() == EXPECTED
    said = f"3 of 4 items have a vector, 3 numbers each, from {file} (ids of the file); 1 vectors of items that the set"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("of_the_id", ["item_id", "sku"])
def test_whole_numbers_among_the_columns_are_numbers_of_the_vectors(folder: Path, of_the_id: str) -> None:
    whole = TABLE * 8
    columns = {"f0": whole[:, 0], of_the_id: IDS, "f1": whole[:, 1].astype(int), "f2": whole[:, 2].astype(int)}
    pd.DataFrame(columns).iloc[[3, 2, 1, 0]].to_parquet("v.parquet")  # with the numbers of its rows as a column
    assert run("vectors shop --text v.parquet") == 0
    assert stored() == {item: whole[row].tolist() for row, item in enumerate(IDS) if item != "x"}


ROWS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "npy": ("v.npy", lambda file: np.save(file, TABLE)),
    "npy, double": ("v.npy", lambda file: np.save(file, TABLE.astype(np.float64))),
    "npz": ("v.npz", lambda file: np.savez(file, TABLE)),
    "pt": ("v.pt", lambda file: torch.save(torch.tensor(TABLE), file)),
    "pt, bfloat16": ("v.pt", lambda file: torch.save(torch.tensor(TABLE).bfloat16(), file)),
    "pt, list": ("v.pt", lambda file: torch.save(list(torch.tensor(TABLE)), file)),
    "safetensors": ("v.safetensors", lambda file: save_file({"x": torch.tensor(TABLE)}, file)),
    "Parquet": ("v.parquet", parquet({"vector": list(TABLE)})),
    "UniSRec's": ("shop.feat1CLS", lambda file: Path(file).write_bytes(TABLE.tobytes())),
}
ORDERS = {
    "list.txt": "d\na\nx\nb\n",
    "list.csv": "\ufeffitem_id\r\nd\r\na\r\nx\r\nb\r\n",
    "i_id_mapping.csv": "asin\titemID\na\t1\nb\t3\nx\t2\nd\t0\n",
    "comma.csv": "a,1\nb,3\nx,2\nd,0\n",
    "other.item2index": "a\t1\nb\t3\nx\t2\nd\t0\n",
    "row_first.tsv": "row\tid\n1\ta\n3\tb\n2\tx\n0\td\n",
    "some.item": "text:token_seq\titem_id:token\nT\td\nT\ta\nT\tx\nT\tb\n",
}


@pytest.mark.parametrize(
    ("kind", "order"), [*((kind, "list.txt") for kind in ROWS), *(("npy", name) for name in ORDERS)]
)
def test_rows_in_the_order_of_a_list(folder: Path, kind: str, order: str) -> None:
    file, write = ROWS[kind]
    write(file)
    Path(order).write_text(ORDERS[order])
    assert run(f"vectors shop --image {file} --ids {order}") == 0
    assert stored("image") == EXPECTED


def test_columns_that_could_both_be_row_numbers(tmp_path: Path) -> None:
    """A line that names them decides; where there is none and it matters, nobody is asked to guess."""
    file = tmp_path / "ids.csv"
    for text, wanted in {
        "row,item_id\n0,2\n1,0\n2,1\n": ["2", "0", "1"],
        "item_id,row\n2,0\n0,1\n1,2\n": ["2", "0", "1"],
        "0,0\n2,2\n1,1\n": ["0", "1", "2"],
        "0,1\n1,0\n2,2\n": ["1", "0", "2"],
    }.items():
        file.write_text(text)
        assert read_order(file) == wanted
    for text in ("0,2\n1,0\n2,1\n", "x,y\n0,2\n1,0\n2,1\n"):
        file.write_text(text)
        with pytest.raises(UserError, match="either column may hold the numbers of rows; begin the file with a line"):
            read_order(file)


def test_rows_are_items_by_number_or_stand_in_the_order_of_the_item_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("v.npy", TABLE)
    assert run("vectors shop --text v.npy") == 0
    assert "4 of 4 items have a vector, 3 numbers each, from v.npy (rows in the order of the .item file)" in (
        capsys.readouterr().out
    )
    assert stored() == {item: TABLE[row].tolist() for row, item in enumerate(ITEMS)}
    write_set(["3", "1", "0", "2"])  # MMRec's numbers: whatever the order of the file
    assert run("vectors shop --text v.npy") == 0
    assert "(row N is item N)" in capsys.readouterr().out
    assert stored() == {str(row): TABLE[row].tolist() for row in range(4)}
    write_set(["3", "1", "2"])  # row 0 is the padding
    assert run("vectors shop --text v.npy") == 0
    assert "; 1 vectors of items that the set does not have left out" in capsys.readouterr().out
    assert stored() == {str(row): TABLE[row].tolist() for row in (1, 2, 3)}
    write_set(["1", "2", "3", "4"])
    assert run("vectors shop --text v.npy") == 0
    assert stored() == {str(row + 1): TABLE[row].tolist() for row in range(4)}
    write_set(["1", "4", "2", "3"])  # by number, or as the file stands? Nobody knows
    assert run("vectors shop --text v.npy") == 2
    assert "say with --ids FILE which item a row is" in capsys.readouterr().err


def test_both_modalities_at_once_and_items_that_only_the_interactions_have(folder: Path) -> None:
    write_set(ITEMS, more="x y")
    np.save("text_feat.npy", TABLE.astype(np.float16))
    np.save("image_feat.npy", TABLE[:, :2])
    Path("i_id_mapping.csv").write_text(ORDERS["i_id_mapping.csv"])
    line = "vectors shop --text text_feat.npy --image image_feat.npy --ids i_id_mapping.csv --image-encoder vit"
    assert run(line) == 0
    assert stored() == {**EXPECTED, "x": TABLE[2].tolist()}
    assert stored("image") == {item: vector[:2] for item, vector in {**EXPECTED, "x": TABLE[2].tolist()}.items()}
    text, image = (FeatureStore.open(f"dataset/shop/features/{name}") for name in ("text", "image"))
    assert text.items == [*ITEMS, "x", "y"]
    assert (text.manifest.dtype, text.manifest.encoder) == ("float16", "vectors of text_feat.npy")
    assert (image.manifest.dtype, image.manifest.encoder) == ("float32", "vit")
    assert text.manifest.encoder_hash is not None
    assert image.manifest.encoder_hash is None
    before = {file: file.read_bytes() for file in Path("dataset/shop/features").rglob("*") if file.is_file()}
    assert run(line) == 0
    assert {file: file.read_bytes() for file in Path("dataset/shop/features").rglob("*") if file.is_file()} == before


def test_what_is_exported_is_read_back(folder: Path) -> None:
    np.save("v.npy", TABLE)
    assert run("vectors shop --text v.npy") == 0
    before = stored()
    export_atomic("shop", Path("dataset"), ["text"])
    assert run("vectors shop --text dataset/shop/shop.textfeat") == 0
    assert stored() == before


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def evil(file: str) -> None:
    torch.save({"ids": Evil(), "x": torch.tensor(TABLE)}, file)


def npy(array: np.ndarray) -> Callable[[str], None]:
    return lambda file: np.save(file, array, allow_pickle=True)


def text(content: str | bytes) -> Callable[[str], Any]:
    return lambda file: Path(file).write_bytes(content.encode() if isinstance(content, str) else content)


NAN = np.where(np.arange(12).reshape(4, 3) == 4, np.nan, TABLE)
LIST = text("d\na\nx\nb\n")


@pytest.mark.parametrize(
    ("file", "write", "ids", "said"),
    [
        ("none.npy", lambda _: None, None, "none.npy: no such file"),
        ("v.npy", npy(NAN), None, "v.npy: NaN, or values outside float32, for 1 items, first 'a'; leave out"),
        ("v.npy", npy(np.full((4, 3), 1e39)), None, "v.npy: NaN, or values outside float32, for 4 items"),
        ("v.npy", npy(TABLE[0]), None, "v.npy: has the shape (3,); (items, numbers) is wanted"),
        ("v.npy", npy(TABLE.astype(int)), None, "v.npy: holds int64; floating-point numbers are wanted"),
        ("v.npy", npy(np.array([{}])), None, "v.npy: cannot be read (holds '|O', no plain numbers)"),
        (
            "v.npy",
            text(b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((("),
            None,
            "v.npy: cannot be read (has a damaged",
        ),
        (
            "v.npy",
            npy(TABLE[:3]),
            None,
            "v.npy: has 3 rows and no ids; the set has 4 items, 4 of them in",
        ),
        ("v.npy", npy(TABLE[:3]), LIST, "v.npy: has 3 rows, --ids names 4 items; give the list of its rows"),
        ("v.npy", npy(TABLE), text("d\na\nd\nb\n"), "--ids l line 3: item 'd' is already on line 1; keep one"),
        ("v.npy", npy(TABLE), text("d\na\tb\n"), "--ids l line 2: 2 fields where the lines before have one"),
        (
            "v.npy",
            npy(TABLE),
            text("d\t0\na\t1\nb\t3\nc\t4\n"),
            "--ids l: two columns, but none with the",
        ),
        ("v.npy", npy(TABLE), text("\n"), "--ids l: no id in it"),
        ("v.npy", npy(TABLE), text(b"\xff\n"), "--ids l: not UTF-8"),
        ("v.npy", npy(TABLE), text("p\nq\nr\ns\n"), "v.npy: has none of the set's items (there 'p', here 'b')"),
        (*WITH_IDS["npz"], LIST, "--ids l: the file of vectors has ids of its own; leave --ids out"),
        ("v.npz", lambda f: np.savez(f, a=TABLE, b=TABLE), None, "v.npz: holds a (4, 3), b (4, 3); one table of"),
        ("v.npz", lambda f: np.savez(f, a=TABLE, p=TABLE[0], q=TABLE[1]), None, "which of them are the ids?"),
        ("v.npz", lambda f: np.savez(f, a=TABLE, ids=IDS[:3]), None, "v.npz: has 4 rows and 3 ids"),
        ("v.npz", lambda f: np.savez(f, a=TABLE, ids=[*"aab", "c"]), None, "v.npz: 1 ids are there twice, first 'a'"),
        ("v.npz", lambda f: np.savez(f, a=TABLE, ids=[0.5, 1, 2, 3]), None, "v.npz: row 0: 0.5 is no item id"),
        ("v.npz", text("no archive"), None, "v.npz: cannot be read (File is not a zip file)"),
        ("v.pt", evil, None, "v.pt: no file of tensors alone"),
        ("v.pt", lambda f: torch.save("words", f), None, "v.pt: holds a str; one table of"),
        ("v.pt", lambda f: torch.save([torch.zeros(2), torch.zeros(3)], f), None, "v.pt: holds vectors of different"),
        ("v.pt", text("junk"), None, "v.pt: no file of tensors alone"),
        ("v.safetensors", text("junk"), None, "v.safetensors: no safetensors file"),
        ("v.parquet", text("junk"), None, "v.parquet: no Parquet file, or cut off"),
        ("v.parquet", parquet({"item_id": IDS, "x": ["a"] * 4}), None, "v.parquet: has columns item_id, x; an id and"),
        ("v.parquet", parquet({"item_id": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}), None, "of different lengths"),
        (
            "v.parquet",
            parquet({"item_id": ["a", None], "v": [[1.0], [2.0]]}),
            None,
            "row 1: None is no item id",
        ),
        ("v.txt", text("a 1 2 3\n"), None, "v.txt: neither .npy, .npz, .pt"),
        ("v.feat1CLS", text(b"x" * 9), None, "v.feat1CLS: has 9 bytes, which are no float32 numbers"),
        ("v.feat1CLS", text(b"\0" * 20), None, "v.feat1CLS: 5 numbers alone are no vectors of 4 items"),
        (
            "v.feat1CLS",
            text("a:token\tv:float_seq\nb\t1 x\n"),
            None,
            "v.feat1CLS line 2: v holds a word that",
        ),
        (
            "v.feat1CLS",
            text("a:token\tv:float_seq\nb\t1\nc\t1 2\n"),
            None,
            "v.feat1CLS line 3: 2 numbers where",
        ),
        ("v.feat1CLS", text("a:token\tv:float_seq\n"), None, "v.feat1CLS: has no line after its header"),
        (
            "v.feat1CLS",
            text("a:token\tb:token\tv:float_seq\nb\tb\t1\n"),
            None,
            "one token and one float_seq",
        ),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    folder: Path, file: str, write: Callable[[str], Any], ids: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file)
    np.save("good.npy", TABLE)
    line = f"vectors shop --image {file} --text good.npy"
    if ids is not None:
        ids("l")
        line = f"vectors shop --image {file} --ids l"
    assert run(line) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert not Path("dataset/shop/features").exists()
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("vectors shop", "nothing to do; give --text FILE, --image FILE or both"),
        ("vectors shop --image v.npy --text-encoder abc", "--text-encoder abc: there are no text vectors; add --text"),
        ("vectors shoe --text v.npy", "dataset/shoe: no such data set"),
        ("vectors shop --text v.npy --ids none", "--ids none: no such file"),
        ("vectors empty --text v.npy", "dataset/empty: no item in empty.item or empty.inter; make the set first"),
    ],
)
def test_what_is_missing_is_named(folder: Path, line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("v.npy", TABLE)
    Path("dataset/empty").mkdir()
    assert run(line) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["npz", "pt", "Parquet, lists", "RecBole's"])
def test_no_damage_ends_in_another_error(folder: Path, kind: str) -> None:
    file, write = WITH_IDS[kind]
    write(file)
    whole = Path(file).read_bytes()
    said = []
    for content in damaged(whole, 11, 80):
        Path(file).write_bytes(content)
        try:
            read_vectors(Path(file))
        except UserError as error:
            said.append(str(error))
    assert len(said) > 5
    assert all(line.startswith(file) and "\n" not in line for line in said)


def test_what_is_no_array_in_an_archive_is_nobodys(folder: Path) -> None:
    np.savez("v.npz", TABLE)
    with zipfile.ZipFile("v.npz", "a") as archive:
        archive.writestr("notes.json", json.dumps({"not": "an array"}))
    assert run("vectors shop --text v.npz") == 0


def test_a_pickle_of_more_than_tensors_is_refused_without_advice_how_to_run_it(tmp_path: Path) -> None:
    torch.save({"a": Path("x")}, tmp_path / "v.pt")
    with pytest.raises(UserError) as caught:
        read_vectors(tmp_path / "v.pt")
    assert str(caught.value).endswith(
        "no file of tensors alone; save tensors, or a dictionary of them, and nothing else"
    )
