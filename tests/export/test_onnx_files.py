"""Towers as ONNX files: ONNX Runtime gives what PyTorch gives, or there is no file."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from network.models import make_batch, make_features, make_present, randomise, small_config

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.export import onnx_files
from recbole_mmm4rec.export.histories import real_items
from recbole_mmm4rec.export.onnx_files import Histories, session, write_item_tower, write_user_tower
from recbole_mmm4rec.network import MMM4RecNetwork, NetworkConfig

TEXT, IMAGE = ("text",), ("image",)


def make(config: NetworkConfig, modalities: tuple[str, ...]) -> MMM4RecNetwork:
    """A float32 network with telling weights."""
    torch.manual_seed(0)
    return randomise(MMM4RecNetwork(config, make_features(modalities), make_present(modalities))).eval()


def histories(network: MMM4RecNetwork, lengths: list[int] | None = None, seed: int = 0) -> Histories:
    """Ragged histories, as long as L among them."""
    batch = make_batch(network.config.max_len, lengths, seed)
    return Histories(batch.item_seq, batch.lengths, batch.timestamps if network.config.is_time else None)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[MMM4RecNetwork, Path]:
    """A network of images with time, and its two files."""
    network, folder = make(small_config(), IMAGE), tmp_path_factory.mktemp("image")
    with torch.no_grad():
        write_user_tower(network, network.items.tables(), histories(network), folder / "user.onnx")
    write_item_tower(network, *real_items(network), folder / "item.onnx")
    return network, folder


def test_any_batch_of_any_lengths(image: tuple[MMM4RecNetwork, Path]) -> None:
    network, folder = image
    runtime, length = session(folder / "user.onnx"), network.config.max_len
    assert sorted(file.name for file in folder.iterdir()) == ["item.onnx", "user.onnx"]
    for seed, lengths in enumerate(([1], [length], [1, length, 2, length - 1, 3])):
        given = histories(network, lengths, seed)
        with torch.no_grad():
            wanted = network.user_vectors(*given)
        (found,) = runtime.run(None, given.named())
        assert torch.allclose(torch.from_numpy(found), wanted, atol=1e-4, rtol=0)


def test_time_stamps_are_subtracted_as_integers(image: tuple[MMM4RecNetwork, Path]) -> None:
    network, folder = image
    given = histories(network)
    assert given.timestamps is not None
    later = given._replace(timestamps=given.timestamps + 2**60)  # float64 has steps of 256 there
    runtime = session(folder / "user.onnx")
    assert (runtime.run(None, given.named())[0] == runtime.run(None, later.named())[0]).all()
    moved = given._replace(timestamps=given.timestamps * 3)
    assert (runtime.run(None, given.named())[0] != runtime.run(None, moved.named())[0]).any()


def test_items_without_a_modality_are_compared_in_a_shop_that_has_all() -> None:
    masks = onnx_files._fewer({name: torch.ones(8, dtype=torch.bool) for name in ("text", "image")})
    assert len(set(zip(*(mask.tolist() for mask in masks.values()), strict=True))) == 4  # both, each alone, neither


@pytest.mark.parametrize(("length", "most"), [(20, 256), (1000, 4), (20_000, 1)])
def test_long_histories_are_compared_a_few_at_a_time(length: int, most: int) -> None:
    assert onnx_files._at_a_time(NetworkConfig(max_len=length)) == most


def test_item_tower_takes_any_number_of_items(image: tuple[MMM4RecNetwork, Path]) -> None:
    _, folder = image
    runtime = session(folder / "item.onnx")
    table = make_features(IMAGE)["image"].numpy()
    for count in (1, 5):
        given = {"image": table[:count], "has_image": table[:count, 0] > 0}
        assert [part.shape for part in runtime.run(None, given)] == [(count, 12)] * 2


def test_large_tables_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "INSIDE", 0)
    network = make(small_config(is_time=False), TEXT)
    given = histories(network)
    (tmp_path / "user.onnx").write_text("older")
    tables = {name: table.detach() for name, table in network.items.tables().items()}
    worst = write_user_tower(network, tables, given, tmp_path / "user.onnx")
    assert worst < 1e-5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["user.onnx", "user.onnx.data"]
    graph = onnx.load(str(tmp_path / "user.onnx"), load_external_data=False).graph
    assert [entry.name for entry in graph.input] == ["items", "lengths"]
    assert [entry.name for entry in graph.initializer if entry.external_data] == ["text"]
    runtime = session(tmp_path / "user.onnx")
    with torch.no_grad():
        wanted = network.user_vectors(given.items, given.lengths)
    assert torch.allclose(torch.from_numpy(runtime.run(None, given.named())[0]), wanted, atol=1e-4, rtol=0)


def test_a_difference_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make(small_config(), TEXT)
    monkeypatch.setattr(onnx_files, "_difference", lambda found, wanted: float("nan"))
    with pytest.raises(UserError, match=r"item\.onnx: ONNX Runtime differs from PyTorch by nan, more than 0\.0001"):
        write_item_tower(network, *real_items(network), tmp_path / "item.onnx")
    assert not list(tmp_path.iterdir())
