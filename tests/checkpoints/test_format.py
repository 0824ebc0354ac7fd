"""Our checkpoints: what was written comes back, and a file that is another one is told in one line."""

from __future__ import annotations

import ast
import json
import math
import pickle
import random
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from any_input import JSON, steady, told
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from scipy import sparse
from shop import REPOSITORY, settings, write_shop
from torch import Tensor

from recbole_mmm4rec.base import signed
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints import format as files
from recbole_mmm4rec.checkpoints.format import ENDING, read, write
from recbole_mmm4rec.checkpoints.reading import StandIn, read_checkpoint
from recbole_mmm4rec.run import quick_start
from recbole_mmm4rec.run.build import build, make_config

SHARED = torch.arange(4, dtype=torch.bfloat16)
STATE: dict[str, Any] = {
    "epoch": 3,
    "words": ["a", 'quoted " and \\', "ä", None, True],
    "numbers": (1, -2.5, 1e-310, math.inf, -math.inf, 2**70),
    "by number": {0: 1.5, 1: {"x": ()}},
    "set": {1, 2},
    "state_dict": {
        "a/b.c": torch.randn(3, 5, dtype=torch.float64),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "bool": torch.tensor([True, False, True]),
        "turned": torch.arange(6, dtype=torch.int16).view(2, 3).t(),
        "half": torch.ones(3, dtype=torch.float16),
        "bytes": torch.arange(5, dtype=torch.uint8),
    },
    "twice": [SHARED, SHARED],
    "array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "number": np.float32(0.1),
    "matrix": sparse.lil_matrix(np.eye(3)),
}


def same(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert (type(one), len(one)) == (type(other), len(other))
        for pair in zip(one, other, strict=True):
            same(*pair)
    elif isinstance(one, np.ndarray):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype
    elif sparse.issparse(one):
        assert one.format == other.format
        assert (one != other).nnz == 0
    else:
        assert one == other
        assert isinstance(one, np.generic) or type(one) is type(other)


def written(folder: Path, state: Any = None) -> Path:
    file = folder / f"state{ENDING}"
    write(file, STATE if state is None else state)
    return file


def refusal(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_a_state_comes_back(tmp_path: Path) -> None:
    file = written(tmp_path)
    same(STATE, read(file))
    assert [left.name for left in tmp_path.iterdir()] == [file.name]
    with safe_open(file, framework="np") as opened:  # any reader of safetensors sees the tensors
        assert set(opened.keys()) >= {"state_dict/a/b.c", "twice/0", "array"}
        assert "twice/1" not in opened.keys()  # noqa: SIM118  it is no dictionary
        assert opened.metadata()["format"] == "1"


@pytest.mark.parametrize("value", [object(), lambda: 1, Path("x"), torch.eye(2).to_sparse(), np.array([None])])
def test_what_cannot_be_held_is_refused(tmp_path: Path, value: Any) -> None:
    file = written(tmp_path, {"a": 1})
    with pytest.raises(UserError, match=r"cannot be written: inner/0 is .*which no checkpoint can hold"):
        write(file, {"inner": [value]})
    assert read(file) == {"a": 1}


def test_any_byte_that_was_changed_is_told(tmp_path: Path) -> None:
    file = written(tmp_path, {"state_dict": {"w": torch.randn(3)}, "epoch": 1})
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        refusal(file)
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        refusal(file)
    file.write_bytes(whole + b"x")
    refusal(file)
    file.write_bytes(whole)
    assert read(file)["epoch"] == 1


def test_damage_of_every_kind_ends_in_one_line(tmp_path: Path) -> None:
    file = written(tmp_path)
    whole, draw = file.read_bytes(), random.Random(3)
    for _ in range(300):
        damaged = bytearray(whole)
        at, length = draw.randrange(len(damaged)), draw.randrange(1, 64)
        damaged[at : at + draw.choice((0, length))] = draw.randbytes(draw.choice((0, length)))
        if damaged != whole:
            file.write_bytes(damaged)
            refusal(file)


def test_a_newer_format_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FORMAT", 12)
    file = written(tmp_path)
    monkeypatch.undo()
    assert "was written by a newer version of this program (format 12; this one reads up to 1)" in refusal(file)


def test_a_tree_made_to_deceive_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a right hash, as anybody can make one."""
    for tree in (
        1,
        [],
        {"dict": 3},
        {"tensor": "none"},
        {"run": "x"},
        {"a": 1, "b": 2},
        {"sparse": ["exe", [1], 1, 1, 1]},
    ):
        monkeypatch.setattr(files, "to_tree", lambda state, tree=tree: (tree, {}))
        refusal(written(tmp_path))


def test_arrays_of_old_files_come_back(tmp_path: Path) -> None:
    """As RecBole's own trainers have pickled them."""
    matrix = sparse.csr_matrix(np.arange(6.0).reshape(2, 3))
    content = {
        "best_valid_score": np.float64(0.25),
        "count": np.int32(7),
        "array": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "other_parameter": {"w": matrix, "pred_mat": matrix.tolil(), "csc": matrix.tocsc()},
    }
    for protocol in (2, 4):
        torch.save(content, tmp_path / "old.pth", pickle_protocol=protocol)
        found = read_checkpoint(tmp_path / "old.pth")
        assert (found["best_valid_score"], found["count"]) == (0.25, 7)
        assert np.array_equal(found["array"], content["array"])
        for name, one in content["other_parameter"].items():
            same(one, found["other_parameter"][name])


def test_a_number_in_a_pickle_takes_no_memory(tmp_path: Path) -> None:
    """That the next object has the place 30,000,000 among those that are remembered: half a gibibyte in C."""
    torch.save({"config": StandIn(), "a": 1}, tmp_path / "old.pth")
    with zipfile.ZipFile(tmp_path / "old.pth") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in parts if name.endswith("data.pkl"))
    place = parts[name].index(b"X\x01\x00\x00\x00a") + 6
    parts[name] = parts[name][:place] + b"r" + (30_000_000).to_bytes(4, "little") + parts[name][place:]
    with zipfile.ZipFile(tmp_path / "old.pth", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    tracemalloc.start()
    try:
        assert read(tmp_path / "old.pth")["a"] == 1
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_matrices_that_point_outside_are_refused(tmp_path: Path) -> None:
    matrix = sparse.csr_matrix(np.eye(3))
    matrix.indices[0] = 10**6
    torch.save({"w": matrix}, tmp_path / "old.pth")
    assert "cannot be read" in refusal(tmp_path / "old.pth")
    torch.save({"w": np.array([{}, []], dtype=object)}, tmp_path / "old.pth")
    assert "more than numbers" in refusal(tmp_path / "old.pth")


@pytest.mark.usefixtures("own_folder")
def test_stock_recboles_file_is_written_when_asked_for(tmp_path: Path) -> None:
    from recbole.config import Config

    write_shop(tmp_path)
    result = quick_start.run_recbole("BPR", "shop", config_dict=settings(tmp_path, save_pth=True))
    best = Path(result["saved_model_file"])
    stock = torch.load(best.with_suffix(".pth"), weights_only=False)
    assert isinstance(stock["config"], Config)
    names = {"config", "epoch", "cur_step", "best_valid_score", "state_dict", "other_parameter", "optimizer"}
    assert set(stock) == names
    same(dict(stock["state_dict"]), read(best)["state_dict"])
    for file in (best, best.with_suffix(".pth")):
        config, model, *_ = quick_start.load_data_and_model(file)
        assert config["embedding_size"] == 8
        same(dict(model.state_dict()), read(best)["state_dict"])
    state = read(best)
    write(best, {**state, "config": {**state["config"], "epochs": "many"}})
    with pytest.raises(UserError, match="epochs='many'"):
        quick_start.load_data_and_model(best)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.usefixtures("own_folder")
def test_caches_of_others_are_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path)
    changes = settings(tmp_path, save_dataset=True, save_dataloaders=True)
    build(make_config("BPR", "shop", config_dict=changes), count_flops=False)
    files_of_run = sorted((tmp_path / "saved").glob("shop-*"))
    assert len(files_of_run) == 2
    evil = pickle.dumps([Evil(tmp_path / "sign")])
    for file in files_of_run:
        content = file.read_bytes()
        for other in (evil, content[:49] + evil, content[:-1] + b"x"):
            file.write_bytes(other)
            build(make_config("BPR", "shop", config_dict=changes), count_flops=False)
            assert "this user has not written it on this machine" in caplog.text
            caplog.clear()
    build(make_config("BPR", "shop", config_dict=changes), count_flops=False)
    assert "made anew" not in caplog.text
    signed.key_file().chmod(0o644)  # anybody could have read it
    build(make_config("BPR", "shop", config_dict=changes), count_flops=False)
    assert "is not kept: there is no place for a key" in caplog.text
    signed.key_file().unlink()
    assert not (tmp_path / "sign").exists()
    pickle.loads(evil)
    assert (tmp_path / "sign").exists()  # what would have been seen


def test_a_table_of_vectors_is_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole.model.general_recommender import ldiffrec

    np.save(tmp_path / "a.npy", np.array([Evil(tmp_path / "sign")]), allow_pickle=True)
    with pytest.raises(UserError, match="is no array of numbers"):
        ldiffrec.np.load(tmp_path / "a.npy", allow_pickle=True)
    assert not (tmp_path / "sign").exists()
    np.save(tmp_path / "a.npy", np.eye(2))
    assert ldiffrec.np.load(tmp_path / "a.npy", allow_pickle=True).shape == (2, 2)


ALLOWED = {
    # the reader with the unpickler that knows which names a file may ask for
    ("recbole_mmm4rec/checkpoints/reading.py", "torch.load"): 1,
    # after the user's own mark was found right
    ("recbole_mmm4rec/compat/caches.py", "pickle.loads"): 1,
    # weights_only=True
    ("recbole_mmm4rec/base/torch_files.py", "torch.load"): 1,
    # a pipe between the service and the process that it has started itself
    ("recbole_mmm4rec/serve/process.py", "pickle.loads"): 2,
}
"""Calls that could run what a file holds, each with the reason why it does not."""
_NAMES = re.compile(
    r"(torch\.(load|jit\.load|hub\.\w+)|c?[pP]ickle\.(loads?|Unpickler)|dill\.\w+|cloudpickle\.\w+|joblib\.\w+|"
    r"shelve\.\w+|marshal\.\w+|pd\.read_pickle|pandas\.read_pickle|yaml\.(load|unsafe_load|full_load)|eval|exec|module\.pickle\.load)"
)


def test_no_other_call_loads_pickles() -> None:
    """Of the packages' own code; what RecBole calls by these names stands in the tests above."""
    found: dict[tuple[str, str], int] = {}
    for package in ("recbole_mmm4rec", "dataset_prep"):
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                called, place = ast.unparse(node.func), str(file.relative_to(REPOSITORY))
                given = {word.arg: word.value for word in node.keywords}
                assert "allow_pickle" not in given or ast.unparse(given["allow_pickle"]) == "False", place
                if _NAMES.fullmatch(called):
                    found[place, called] = found.get((place, called), 0) + 1
                    if called == "torch.load" and "checkpoints" not in place:
                        assert ast.unparse(given["weights_only"]) == "True"
    hidden = ("recbole_mmm4rec/compat/caches.py", "module.pickle.load")  # the module's own name, which hides Python's
    assert found.pop(hidden) == 1
    assert found == ALLOWED


def test_recbole_loads_pickles_where_we_know_it() -> None:
    """A new version of RecBole with another such call is noticed."""
    import recbole

    home = Path(recbole.__path__[0])
    found = set()
    for file in sorted(home.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and re.fullmatch(r"(torch|pickle|np|joblib)\.loads?", ast.unparse(node.func)):
                found.add(str(file.relative_to(home)))
    models = {"convncf", "nais", "ract", "neumf", "ldiffrec"}
    assert found == {
        *("trainer/trainer.py", "data/utils.py", "quick_start/quick_start.py"),
        *(f"model/general_recommender/{name}.py" for name in models),
        *("model/context_aware_recommender/kd_dagfm.py", "model/sequential_recommender/s3rec.py"),
    }


@steady
@given(
    JSON
    | st.dictionaries(st.sampled_from(["dict", "pairs", "tuple", "set", "float", "tensor", "array", "sparse"]), JSON)
)
def test_any_tree_with_a_right_hash(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    file = tmp_path_factory.getbasetemp() / f"any{ENDING}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "to_tree", lambda state: (finite(tree), {}))
        write(file, {})
    told(lambda: read(file))


def finite(tree: Any) -> Any:
    """The tree without what our writer refuses."""
    return json.loads(json.dumps(tree).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0"))


@steady
@given(JSON, st.sampled_from([0, 1, 2, 3, 4, 5]), st.binary(max_size=6), st.integers(0, 60))
def test_any_pickle(tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int, noise: bytes, at: int) -> None:
    file = tmp_path_factory.getbasetemp() / "any.pth"
    content = pickle.dumps({"state_dict": value}, protocol)
    file.write_bytes(content[:at] + noise + content[at:])
    told(lambda: read(file))
    torch.save({"state_dict": {"a": torch.ones(2)}, "config": value}, file)
    whole = bytearray(file.read_bytes())
    whole[at : at + len(noise)] = noise
    file.write_bytes(whole)
    told(lambda: read(file))
