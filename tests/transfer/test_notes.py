"""What a checkpoint notes of its training for those that start from it: of its features, and what it has learned."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import NAME, prepared, write_pattern_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read, write
from recbole_mmm4rec.run.build import Run
from recbole_mmm4rec.run.cli import main
from recbole_mmm4rec.transfer.next_command import next_command

pytestmark = pytest.mark.usefixtures("own_folder")

MISSING = "network.items.missing.image"
"""The vector in the place of a picture."""


def kept(run: Run) -> str:
    run.trainer._save_checkpoint(0, verbose=False)
    return str(run.trainer.saved_model_file)


def changed(path: str, change: Callable[[dict[str, Any]], Any]) -> str:
    """A copy of a checkpoint whose note of the features has been changed."""
    content = read(path)
    change(content["config"]["feature_encoders"])
    copy = Path(path).with_name("changed.safetensors")
    write(copy, content)
    return str(copy)


def test_a_vector_that_no_training_has_touched_is_new(tmp_path: Path) -> None:
    """All items of the pre-training have a picture: what stands for one that is missing is as it was drawn."""
    path = kept(prepared(tmp_path / "source"))
    run = prepared(tmp_path / "target", missing_images=0.2, pretrained=path, frozen=["transferred"])
    weight = dict(run.model.named_parameters())[MISSING]
    assert MISSING not in run.trainer.transferred
    before = weight.detach().clone()
    run.trainer._train_epoch(run.train, 0)
    assert not torch.equal(weight, before)


def test_a_vector_that_was_learned_is_taken_over(tmp_path: Path) -> None:
    source = prepared(tmp_path / "source", missing_images=0.2)
    weight = dict(source.model.named_parameters())[MISSING]
    run = prepared(tmp_path / "target", missing_images=0.2, pretrained=kept(source))
    assert MISSING in run.trainer.transferred
    assert torch.equal(dict(run.model.named_parameters())[MISSING], weight)


def test_what_is_known_of_it_goes_on_from_start_to_start(tmp_path: Path) -> None:
    """The shop in between has all pictures and teaches nothing of it."""
    for share, known in ((0.0, False), (0.2, True)):
        first = kept(prepared(tmp_path / f"first{share}", missing_images=share))
        unknown = changed(first, lambda note: [made.pop("lacking") for made in note.values()])
        for start, taken in ((first, known), (unknown, True)):  # an older checkpoint counts as before
            between = prepared(tmp_path / "between", pretrained=start)
            assert (MISSING in between.trainer.transferred) is taken
            last = prepared(tmp_path / "last", missing_images=0.2, pretrained=kept(between))
            assert (MISSING in last.trainer.transferred) is taken


def test_features_of_other_lengths_are_others(tmp_path: Path) -> None:
    path = kept(prepared(tmp_path))
    other = changed(path, lambda note: note["image"].update(normalized=False))
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, pretrained=other)
    assert "image features are not normalised in the checkpoint, normalised here (embed this" in str(caught.value)
    assert "\n" not in str(caught.value)
    older = changed(path, lambda note: [made.pop("normalized") for made in note.values()])
    assert prepared(tmp_path, pretrained=older).trainer.transferred


@pytest.mark.parametrize(
    "note",
    [
        5,
        ["text"],
        {"text": 5},
        {"text": "encoder hash settings"},
        {"text": {"encoder": "one-hot", "settings": {}}},
        {"text": {"encoder": "one-hot", "hash": 5, "settings": {}}},
        {"text": {"encoder": None, "hash": None, "settings": {}}},
        {"text": {"encoder": "one-hot", "hash": None, "settings": {}, "normalized": "yes"}},
        {"text": {"encoder": "one-hot", "hash": None, "settings": {(1, 2): 3}, "lacking": {(1, 2): 3}}},
        {5: {"encoder": "one-hot", "hash": None, "settings": {}}},
    ],
    ids=str,
)
def test_a_note_of_another_form_is_refused(tmp_path: Path, note: Any) -> None:
    path = kept(prepared(tmp_path))
    content = read(path)
    content["config"]["feature_encoders"] = note
    write(Path(path), content)
    with pytest.raises(UserError, match=r"does not fit: what it says of its features \(feature_encoders\)") as caught:
        prepared(tmp_path, pretrained=path)
    assert "\n" not in str(caught.value)


def test_the_next_command_has_what_gives_weights_their_meaning(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    run = prepared(tmp_path, norm_eps=1e-5, item_mm_fusion="dynamic_shared")
    words = shlex.split(next_command(run.config, kept(run)))
    assert {"--norm_eps=1e-05", "--item_mm_fusion=dynamic_shared"} <= set(words)
    places = [f"--dataset={NAME}", f"--data_path={tmp_path}", f"--checkpoint_dir={tmp_path / 'saved'}", "--epochs=0"]
    given = [word for word in words if word.startswith("--") and not word.startswith("--dataset")]
    assert main([*given, *places, "--show_progress=False", "--topk=[10]"]) == 0
