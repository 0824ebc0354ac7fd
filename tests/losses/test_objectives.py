"""The choice of a loss: what it computes in the model, what it projects, what it refuses, and that each one learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import ITEMS, NAME, pattern_settings, prepared, write_pattern_shop
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.losses.chunked import PLAIN_LOGITS
from recbole_mmm4rec.losses.objectives import Sampled, make_objective, training_shares
from recbole_mmm4rec.network.items import ItemTables
from recbole_mmm4rec.run.build import Run
from recbole_mmm4rec.run.quick_start import load_data_and_model, run_recbole
from recbole_mmm4rec.settings.defaults import default_settings
from recbole_mmm4rec.settings.registry import setting

pytestmark = pytest.mark.usefixtures("own_folder")


def quiet(folder: Path, **changes: Any) -> Run:
    return prepared(folder, 0.3, state="ERROR", **changes)


def loss_and_gradients(run: Run) -> tuple[Tensor, dict[str, Tensor]]:
    """Of the first 64 training samples, with weights that only depend on the seed."""
    torch.manual_seed(4)
    for name, parameter in sorted(run.model.named_parameters()):
        if name.startswith("network.items"):
            torch.nn.init.normal_(parameter, std=0.3)
    run.model.double().train()
    loss = run.model.calculate_loss(run.train.dataset.inter_feat[:64])
    loss.backward()
    return loss.detach(), {name: value.grad for name, value in run.model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("fusion", ["static", "dynamic_instance"])
def test_a_chunked_step_is_the_plain_step(tmp_path: Path, fusion: str) -> None:
    changes = {"label_smoothing": 0.1, "item_mm_fusion": fusion}
    loss, wanted = loss_and_gradients(quiet(tmp_path, loss_chunk=0, **changes))
    for chunk in (1, 7, 1000):
        chunked, found = loss_and_gradients(quiet(tmp_path, loss_chunk=chunk, **changes))
        torch.testing.assert_close(chunked, loss, rtol=1e-10, atol=0)
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-12, msg=name)


def test_sampled_from_the_whole_catalogue_is_near_the_exact_loss(tmp_path: Path) -> None:
    exact, _ = loss_and_gradients(quiet(tmp_path, label_smoothing=0.1))
    estimates = {
        in_batch: loss_and_gradients(
            quiet(
                tmp_path, label_smoothing=0.1, loss_type="sampled", sampled_uniform=300_000, sampled_in_batch=in_batch
            )
        )[0]
        for in_batch in (True, False)
    }
    for estimate in estimates.values():
        torch.testing.assert_close(estimate, exact, rtol=1e-3, atol=0)


def test_the_mask_of_false_negatives_reaches_the_loss(tmp_path: Path) -> None:
    kept, masked = (
        loss_and_gradients(quiet(tmp_path, loss_type="in_batch", mask_false_negatives=mask))[0]
        for mask in (False, True)
    )
    assert masked < kept  # 64 rows of 30 items: labels repeat


@pytest.mark.parametrize(
    ("changes", "everything"),
    [
        ({"loss_type": "CE"}, True),
        ({"loss_type": "CE", "loss_chunk": 7}, False),
        ({"loss_type": "in_batch"}, False),
        ({"loss_type": "sampled", "sampled_uniform": 4}, False),
    ],
)
def test_all_items_are_projected_at_once_for_plain_cross_entropy_alone(
    tmp_path: Path, changes: dict[str, Any], everything: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = quiet(tmp_path, **changes)
    project, most = ItemTables.vectors, []

    def watched(self: ItemTables, rows: Any) -> dict[str, Tensor]:
        made = project(self, rows)
        most.append(max(len(vectors) for vectors in made.values()))
        return made

    monkeypatch.setattr(ItemTables, "vectors", watched)
    run.model.train()
    run.model.calculate_loss(run.train.dataset.inter_feat[:8]).backward()
    assert (max(most) == len(ITEMS) + 1) == everything


def test_large_products_of_batch_and_catalogue_are_cut_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One logit above the bound."""
    monkeypatch.setattr("recbole_mmm4rec.losses.chunked.PLAIN_LOGITS", 64 * len(ITEMS) - 1)
    used = []
    monkeypatch.setattr("recbole_mmm4rec.losses.objectives.chunked_cross_entropy", lambda *given: used.append(given[3]))
    run = quiet(tmp_path)
    run.model.calculate_loss(run.train.dataset.inter_feat[:64])
    assert used == [2 * 2**20 // 64]
    assert 64 * len(ITEMS) < PLAIN_LOGITS
    assert run.model.calculate_loss(run.train.dataset.inter_feat[:63]).isfinite()
    assert len(used) == 1


def test_popularity_is_that_of_the_training_targets(tmp_path: Path) -> None:
    run = quiet(tmp_path, loss_type="sampled")
    assert isinstance(run.model.objective, Sampled)
    shares = run.model.objective.popularity
    targets = run.train.dataset.inter_feat["item_id"].tolist()
    assert shares is not None
    assert shares.tolist() == pytest.approx([targets.count(item) / len(targets) for item in range(len(ITEMS) + 1)])
    assert shares[0] == 0
    assert len(targets) < len(run.dataset.inter_feat)  # neither validation nor test targets


def test_shares_add_up_to_one() -> None:
    shares = training_shares(torch.tensor([1, 1, 3, 5]), 7)
    assert shares.tolist() == [0, 0.5, 0, 0.25, 0, 0.25, 0]


def test_checkpoints_do_not_depend_on_the_loss(tmp_path: Path) -> None:
    states = [quiet(tmp_path, loss_type=kind).model.state_dict() for kind in setting("loss_type").kind.choices]
    assert all(list(state) == list(states[0]) for state in states)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_chunk": 7, "enable_amp": True},
        {"loss_type": "sampled", "sampled_uniform": 16},
        {"loss_type": "in_batch", "mask_false_negatives": True},
    ],
)
def test_every_loss_learns_a_known_pattern_and_its_checkpoint_comes_back(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    write_pattern_shop(tmp_path)
    settings = pattern_settings(tmp_path, epochs=12, state="ERROR", **changes)
    result = run_recbole("MMM4Rec", NAME, config_dict=settings)
    assert result["test_result"]["hit@1"] >= 0.9  # chance is 1 / 30
    _, model, _, _, _, test = load_data_and_model(result["saved_model_file"])
    model.eval()
    with torch.no_grad():
        hits = sum(int((model.full_sort_predict(batch).argmax(1) == labels).sum()) for batch, _, _, labels in test)
    assert round(hits / 40, 4) == result["test_result"]["hit@1"]


def test_every_word_has_a_loss_of_its_own() -> None:
    settings = {**default_settings("MMM4Rec"), "sampled_in_batch": False}
    words = setting("loss_type").kind.choices
    assert len({type(make_objective({**settings, "loss_type": word}, dataset=None)) for word in words}) == len(words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss_type": "sample"}, ["loss_type", "'sample'", "did you mean 'sampled'"]),
        ({"loss_type": "BPR"}, ["loss_type", "BPR", ", ".join(setting("loss_type").kind.choices)]),
        ({"loss_type": "sampled", "sampled_uniform": 0, "sampled_in_batch": False}, ["no candidates", "1024"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        make_objective({**default_settings("MMM4Rec"), **changes}, dataset=None)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)
