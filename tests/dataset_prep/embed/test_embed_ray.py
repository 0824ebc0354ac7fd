"""Encoding on a Ray cluster: the same bytes as in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from picture_server import picture
from tiny_clip import make_tiny_clip

from dataset_prep.cli import main
from dataset_prep.images.files import save_picture


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def write_set(out: Path) -> None:
    (out / "shop/images").mkdir(parents=True)
    lines = [f"i{n}\t{'word ' * (n % 7)}{n}\n" for n in range(25)]
    (out / "shop/shop.item").write_text("item_id:token\ttext:token_seq\n" + "".join(lines))
    for n in range(0, 25, 2):
        save_picture(out / "shop/images", f"i{n}", picture((9 * n, 255 - 9 * n, 3 * n)) if n != 8 else b"junk", "png")


@pytest.mark.long
def test_a_cluster_gives_the_bytes_of_one_process(
    tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dataset_prep.embed.embed.SHARD_ITEMS", 4)
    model = f"open_clip:{make_tiny_clip(tmp_path / 'model')}/whole"
    for name in ("one", "many"):
        write_set(tmp_path / name)
    command = ["embed", "shop", "--text-encoder", model, "--image-encoder", model, "--batch-size", "3"]
    command += ["--device", "cpu", "--out"]
    ray = ["--engine", "ray", "--ray-address", cluster, "--num-workers", "2"]
    assert main([*command, str(tmp_path / "one")]) == 0
    assert main([*command, str(tmp_path / "many"), *ray]) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    assert "12 of 25 items have a picture" in capsys.readouterr().out


def test_no_cluster_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = f"open_clip:{make_tiny_clip(tmp_path / 'model')}/whole"
    write_set(tmp_path)
    line = ["embed", "shop", "--image-encoder", model, "--engine", "ray", "--ray-address", "127.0.0.1:1"]
    assert main([*line, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: --ray-address 127.0.0.1:1: no Ray cluster there")
