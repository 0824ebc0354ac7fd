"""Embedding: what is cached, what a killed run leaves, and the packaged encoder itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutate import damaged

from dataset_prep.cli import main
from dataset_prep.embed.embed import EmbedOptions
from dataset_prep.embed.embed import embed as embed_set
from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.sentence_encoder import SentenceEncoder, hash_weights, load_text_encoder
from recbole_mmm4rec.encoders.spec import EncoderSpec
from recbole_mmm4rec.features.store import FeatureStore


class LetterCounts:
    """An encoder that counts letters, in a way that depends on the batch, as a real one's last bits do."""

    name, version, hash, dim, device, normalized = "letters", None, "h1", 4, "cpu", False

    def __init__(self, fail_at: int | None = None):
        self.settings: dict[str, Any] = {"pooling": "count"}
        self.batches: list[list[str]] = []
        self._fail_at = fail_at

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if len(self.batches) == self._fail_at:
            raise KeyboardInterrupt
        self.batches.append(list(texts))
        longest = max(map(len, texts))
        return np.array([[text.count(c) / longest for c in "abc"] + [len(text)] for text in texts], dtype=np.float32)

    def prepare(self, text: str) -> str:
        return text

    def load(self, spec: EncoderSpec) -> LetterCounts:
        return self


TEXTS = ["abc", "", "a" * 9, "bb", "  ", "cab cab", "b", "aabb", "c", "abca"]


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("dataset_prep.embed.embed.SHARD_ITEMS", 3)
    write_items(tmp_path, TEXTS)
    return tmp_path


def write_items(out: Path, texts: list[str], name: str = "shop") -> None:
    (out / name).mkdir(exist_ok=True)
    lines = "".join(f"i{row}\t{text}\n" for row, text in enumerate(texts))
    (out / name / f"{name}.item").write_text("item_id:token\ttext:token_seq\n" + lines)


def embed(out: Path, encoder: LetterCounts, **options: Any) -> str:
    return embed_set("shop", out, EmbedOptions(**{"batch_size": 2, **options}), encoder.load)


def contents(out: Path) -> dict[str, bytes]:
    """What is to be used; the cache is beside it."""
    folder = out / "shop/features"
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if not name.startswith(".cache/")}


def forget(out: Path) -> None:
    """Removes the store and the cache."""
    shutil.rmtree(out / "shop/features")


def test_items_with_text_are_encoded_once_and_others_never(out: Path) -> None:
    encoder = LetterCounts()
    assert "8 of 10 items have text" in embed(out, encoder)
    assert sorted(text for batch in encoder.batches for text in batch) == sorted(t for t in TEXTS if t.strip())
    store = FeatureStore.open(out / "shop/features/text")
    vectors, present = store.align([f"i{row}" for row in range(10)])
    assert present.tolist() == [bool(text.strip()) for text in TEXTS]
    assert vectors[:, 3].tolist() == [len(text) if text.strip() else 0 for text in TEXTS]
    store.check_inputs(*read_item_column(out / "shop/shop.item", "text"))
    assert store.manifest.settings == {"pooling": "count", "column": "text"}
    assert sorted(contents(out)) == [
        f"text/{name}" for name in ("items.txt", "manifest.json", "present.npy", "table.npy")
    ]


def test_texts_of_like_length_share_a_batch(out: Path) -> None:
    encoder = LetterCounts()
    embed(out, encoder)
    lengths = [[len(text) for text in batch] for batch in encoder.batches]
    assert lengths == [[9, 7], [4], [4, 3], [2], [1, 1]]


def test_an_up_to_date_store_is_left_alone(out: Path) -> None:
    embed(out, LetterCounts())
    before, again = contents(out), LetterCounts()
    assert "up to date" in embed(out, again)
    assert again.batches == []
    assert contents(out) == before
    embed(out, again, force=True)
    assert len(again.batches) > 0


@pytest.mark.parametrize(
    ("change", "encoded"),
    [("text", 1), ("weights", 8), ("settings", 8), ("token", 0), ("order", 0), ("dtype", 0), ("damage", 0)],
)
def test_only_what_changed_is_encoded_again(out: Path, change: str, encoded: int) -> None:
    embed(out, LetterCounts())
    encoder = LetterCounts()
    texts = list(TEXTS)
    if change == "text":
        texts[-1] = "new"
    elif change == "token":
        texts.insert(0, "")  # every item after it has the text of another token
    elif change == "order":
        texts.reverse()
    elif change == "weights":
        encoder.hash = "h2"
    elif change == "settings":
        encoder.settings["max_seq_length"] = 7
    elif change == "damage":
        (out / "shop/features/text/table.npy").write_bytes(b"short")
    write_items(out, texts)
    embed(out, encoder, dtype="float16" if change == "dtype" else "float32")
    assert sum(map(len, encoder.batches)) == encoded
    store = FeatureStore.open(out / "shop/features/text")
    vectors, present = store.align([f"i{row}" for row in range(len(texts))])
    assert present.tolist() == [bool(text.strip()) for text in texts]
    assert vectors[:, 3].tolist() == [len(text) if text.strip() else 0 for text in texts]
    assert str(store.table.dtype) == ("float16" if change == "dtype" else "float32")


def test_equal_texts_are_encoded_once(out: Path) -> None:
    write_items(out, ["abc", "abc", "b", "abc"])
    encoder = LetterCounts()
    embed(out, encoder)
    assert encoder.batches == [["abc", "b"]]
    vectors, _ = FeatureStore.open(out / "shop/features/text").align(["i0", "i1", "i2", "i3"])
    assert vectors[:, 3].tolist() == [3, 3, 1, 3]


@pytest.mark.parametrize("fail_at", range(5))
@pytest.mark.parametrize("force", [False, True])
def test_a_run_stopped_anywhere_goes_on_and_ends_with_the_same_bytes(out: Path, fail_at: int, force: bool) -> None:
    whole = LetterCounts()
    embed(out, whole, force=force)
    undisturbed = contents(out)
    if not force:
        forget(out)
    with pytest.raises(KeyboardInterrupt):
        embed(out, LetterCounts(fail_at), force=force)
    rest = LetterCounts()
    embed(out, rest, force=force)
    assert contents(out) == undisturbed
    # The batches of a shard are done again when one of them was missing, finished shards are not.
    shard_begins = [0, 2, 4]  # shards of three texts, the last of two, in batches of two
    assert len(rest.batches) == len(whole.batches) - max(begin for begin in shard_begins if begin <= fail_at)


def test_finished_shards_serve_other_inputs_too(out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        embed(out, LetterCounts(2))
    write_items(out, ["a", *TEXTS[1:]])
    rest = LetterCounts()
    embed(out, rest)
    vectors, _ = FeatureStore.open(out / "shop/features/text").align(["i0"])
    assert vectors[0, 3] == 1
    assert sum(map(len, rest.batches)) == 5


@pytest.mark.parametrize("kind", ["npy", "keys"])
@pytest.mark.parametrize("damage", [b"", b"x" * 50])
def test_a_damaged_shard_is_encoded_again(out: Path, kind: str, damage: bytes) -> None:
    embed(out, LetterCounts())
    undisturbed = contents(out)
    forget(out)
    with pytest.raises(KeyboardInterrupt):
        embed(out, LetterCounts(2))
    (shard,) = (out / "shop/features").rglob(f"*.{kind}")
    shard.write_bytes(damage)
    embed(out, LetterCounts())
    assert contents(out) == undisturbed


def test_vectors_that_are_no_numbers_are_named(out: Path) -> None:
    encoder = LetterCounts()
    encoder.encode = lambda texts: np.full((len(texts), 4), 1e6, dtype=np.float32)  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"outside float16 for item 'i2' and 2 more; use --dtype float32"):
        embed(out, encoder, dtype="float16")
    assert not (out / "shop/features/text").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("embed none", "none.item: no such data set"),
        ("embed shop --column txt", "no column 'txt' among item_id, text; did you mean 'text'"),
        ("embed shop --ray-address auto", "--ray-address auto: is for --engine ray; add that, or leave --ray-address"),
        ("embed shop --num-workers 2", "--num-workers 2: is for --engine ray; add that, or leave --num-workers out"),
        ("embed shop --column text --image-encoder", "--column text: no texts are encoded; add --text-encoder, or"),
        ("embed shop --batch-size 0", "--batch-size 0: must be at least 1"),
        ("embed empty", "no item has text in column 'text'"),
        ("embed shop --text-encoder ./none", "--text-encoder ./none: no such folder"),
        ("embed shop --text-encoder FOLDER", "no sentence-transformers model could be loaded"),
        ("embed shop --device abacus", "--device abacus: no such device"),
        ("embed shop --max-seq-length 9999", "--max-seq-length 9999: all-MiniLM-L6-v2 takes 8 to 512 tokens"),
        ("embed shop --max-seq-length 1", "--max-seq-length 1: all-MiniLM-L6-v2 takes 8 to 512 tokens"),
    ],
)
def test_mistakes_are_one_line(out: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    write_items(out, ["", " "], "empty")
    assert main([*line.replace("FOLDER", str(out)).split(), "--out", str(out)]) == 2
    captured = capsys.readouterr().err
    assert said in captured
    assert captured.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in captured


def test_a_model_that_cannot_be_fetched_is_one_line(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["embed", "shop", "--out", str(out), "--text-encoder", "some/model"]) == 2
    assert "neither a folder nor to be had from the model hub" in capsys.readouterr().err


def test_without_the_packaged_model_the_message_says_what_to_install(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_mmm4rec.encoders.sentence_encoder.PACKAGED", "no-such-package")
    assert main(["embed", "shop", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "pip install 'recbole-mmm4rec[text]'" in said
    assert "--text-encoder FOLDER" in said


@pytest.fixture(scope="module")
def minilm() -> SentenceEncoder:
    return load_text_encoder("all-MiniLM-L6-v2", "cpu", None, normalize=True)


def test_the_packaged_encoder_knows_what_words_mean(minilm: SentenceEncoder) -> None:
    drill, screw, film = minilm.encode(["A cordless drill.", "An electric screwdriver.", "A romantic comedy film."])
    np.testing.assert_allclose(np.linalg.norm([drill, screw, film], axis=1), 1, rtol=1e-5)
    assert drill @ screw > drill @ film + 0.2
    assert (minilm.dim, minilm.normalized, minilm.version) == (384, True, "0.1.0")
    assert minilm.settings == {"max_seq_length": 256, "pooling": "mean"}


def test_a_shorter_sequence_length_cuts_the_text(minilm: SentenceEncoder) -> None:
    short = load_text_encoder("all-MiniLM-L6-v2", "cpu", 8, normalize=True)
    assert short.settings["max_seq_length"] == 8
    long_text, other_end = "one two three four five six seven eight", "one two three four five six nine ten"
    np.testing.assert_array_equal(short.encode([long_text]), short.encode([other_end]))
    assert not np.array_equal(minilm.encode([long_text]), minilm.encode([other_end]))


def test_the_weight_hash_follows_names_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weight files"):
        hash_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"1")
    (tmp_path / "README.md").write_text("x")
    first = hash_weights(tmp_path)
    (tmp_path / "README.md").write_text("y")
    assert hash_weights(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"2")
    second = hash_weights(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    assert len({first, second, hash_weights(tmp_path)}) == 3


SLOW_RUN = """
import pathlib, sys, time
import numpy as np
import dataset_prep.embed.embed as embed
embed.SHARD_ITEMS = 3

class Slow:
    name, version, hash, dim, device, normalized, settings = "slow", None, "h", 2, "cpu", False, {}
    def prepare(self, text):
        return text
    def encode(self, texts):
        time.sleep(float(sys.argv[2]))
        return np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)

options = embed.EmbedOptions(batch_size=2)
print(embed.embed("shop", pathlib.Path(sys.argv[1]), options, lambda spec: Slow()))
"""


def test_a_killed_process_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        write_items(tmp_path / name, TEXTS)

    def command(name: str, pause: str) -> list[str]:
        return [sys.executable, "-c", SLOW_RUN, str(tmp_path / name), pause]

    subprocess.run(command("whole", "0"), check=True, capture_output=True, env=environment)
    slow = subprocess.Popen(command("killed", "0.3"), env=environment, stdout=-3, stderr=-3)
    features = tmp_path / "killed/shop/features"
    while not list(features.rglob("*.keys")) and slow.poll() is None:
        time.sleep(0.02)
    slow.send_signal(signal.SIGKILL)
    assert slow.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed/shop/features/text").exists()
    subprocess.run(command("killed", "0"), check=True, capture_output=True, env=environment)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert json.loads(contents(tmp_path / "whole")["text/manifest.json"])["encoder"] == "slow"


def test_items_of_the_interactions_without_a_row_are_counted_every_time(out: Path) -> None:
    (out / "shop/shop.inter").write_text("user_id:token\titem_id:token\nu\ti1\nu\t370.0\nv\ti2\n")
    (out / "shop/shop.train.inter").write_text("item_id_list:token_seq\titem_id:token\ni1 0 i3\ti2\n\tq\n")
    said = f"3 of 6 items with interactions have no row in {out / 'shop/shop.item'}: they are trained as items without"
    for outcome in ("newly encoded", "is up to date"):
        first, second = embed(out, LetterCounts()).splitlines()
        assert outcome in first
        assert second.startswith(said)
    for file in ("shop.inter", "shop.train.inter"):
        (out / "shop" / file).write_text("user_id:token\titem_id:token\nu\ti1\n")
    assert "no row" not in embed(out, LetterCounts())
    (out / "shop/shop.inter").write_text("user_id,item_id\n")  # whoever trains is told
    assert "is up to date" in embed(out, LetterCounts())


def test_an_empty_id_is_found_before_encoding(out: Path) -> None:
    encoder = LetterCounts()
    file = out / "shop/shop.item"
    file.write_text(file.read_text() + "\n\ta text\n")
    with pytest.raises(UserError, match=r"shop\.item line 13: item_id is empty; fill it in or leave the line out"):
        embed(out, encoder)
    assert encoder.batches == []


def test_no_damage_to_the_cache_ends_in_an_error(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset_prep.embed.embed.SHARD_ITEMS", 1000)
    embed(out, LetterCounts())
    whole = contents(out)
    cached = {file: file.read_bytes() for file in (out / "shop/features/.cache").rglob("*") if file.is_file()}
    (keys,) = (file for file in cached if file.suffix == ".keys")
    cached[keys.with_suffix(".failed.json")] = json.dumps({"00" * 32: "no picture"}).encode()
    for target, data in cached.items():
        for content in damaged(data[:128], 10, 60):
            shutil.rmtree(out / "shop/features/text")
            for file, before in cached.items():
                file.write_bytes(before)
            target.write_bytes(content + data[128:])
            embed(out, LetterCounts())
            assert contents(out).keys() == whole.keys()
