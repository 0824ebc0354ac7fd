"""What another implementation has to offer, and the sentences for one that doesn't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from network.models import make_network, published_names, small_config
from reference import plain

from benchmarks import cell, contract, shop_batches, steps
from benchmarks.suite import Options
from recbole_mmm4rec.base.errors import UserError

pytestmark = pytest.mark.usefixtures("forked")

PADDED = Path(__file__).resolve().parents[1] / "reference" / "padded.py"


def written(folder: Path, text: str) -> Path:
    path = folder / "other.py"
    path.write_text(text)
    return path


def test_published_weights_have_every_published_name() -> None:
    network = make_network(small_config(num_layers=2, item_mm_fusion="dynamic_shared"))
    weights = contract.published_weights(network)
    assert sorted(weights) == sorted(published_names(network.config, plain.TEXT_AND_IMAGE))
    assert weights["encoder_ssd_layers.0.ssd.conv1d_1.weight"].dim() == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"no function train_step\(batch\)"),
        ("def train_step(batch): ...\n", r"no function score\(batch\)"),
        ("import no_such_module_anywhere\n", "cannot be imported: ModuleNotFoundError"),
        ("def make(setup):\n    return object()\n", r"no function train_step\(batch\)"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        contract.load(written(tmp_path, text))(None)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such Python file"):
        contract.load(tmp_path / "nothing.py")


def test_a_file_of_functions_is_an_implementation(tmp_path: Path) -> None:
    path = written(tmp_path, "def train_step(batch): return 3\ndef score(batch): return batch.setup\n")
    made = contract.load(path)("the setup")  # type: ignore[arg-type]
    assert made.train_step(None) == 3


def test_scores_are_compared_without_the_padding_column() -> None:
    wanted = torch.tensor([[float("-inf"), 1.0, 2.0], [float("-inf"), 4.0, 0.0]])
    assert contract.compare_scores(wanted[:, 1:], wanted, Path("x.py")) == 0.0
    assert contract.compare_scores(wanted, wanted, Path("x.py")) == 0.0
    with pytest.raises(UserError, match=r"differ from ours by 2.5e-01"):
        contract.compare_scores(wanted[:, 1:] + torch.tensor([0.0, 1.0]), wanted, Path("x.py"))
    with pytest.raises(UserError, match=r"gave \(2, 5\), not \(2, 2\)"):
        contract.compare_scores(torch.zeros(2, 5), wanted, Path("x.py"))
    with pytest.raises(UserError, match="something else"):
        contract.compare_scores(torch.full((2, 2), float("nan")), wanted, Path("x.py"))


@pytest.mark.parametrize("training", [True, False])
def test_a_step_is_measured_for_both(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop_batches, "ITEMS", 40)
    monkeypatch.setitem(steps.TASKS, "small", steps.Task(8, training, 2))
    found = steps.measure(Options(against=str(PADDED)), "small")
    assert found["agreement"] <= 1e-5
    names = [(row["name"], row["precision"], len(row["seconds"])) for row in found["contestants"]]
    twice = [(who, how, 2) for who in ("ours", "padded") for how in steps.PRECISIONS]
    assert names == [*twice, ("padded, tuned", "float32", 2)]
    assert all(len(row["item_side"]) == (0 if training else 2) for row in found["contestants"])
    text = steps.report({"small": found})
    assert text.count("| small |") == 5
    assert "differ by at most" in text


def test_losses_of_both_are_the_same_number() -> None:
    """Ours and the padded baseline count the same work: the same loss from the same weights without dropout."""
    setup = steps.make_setup(steps.Task(8, True, 1), Options(), "float32")
    quiet = dict.fromkeys(("embedding_drop_prob", "dropout_prob", "time_dropout_prob"), 0.0)
    setup = replace(setup, settings=setup.settings | quiet)
    ours = steps.Ours(setup)
    theirs = contract.load(PADDED)(replace(setup, weights=contract.published_weights(ours.network)))
    losses = []
    for seed in range(3):  # the second and third are after steps of the optimiser
        batch = shop_batches.make_batch(16, shop_batches.TRAINING, seed, setup)
        losses.append((float(ours.train_step(batch)), float(theirs.train_step(batch))))
    for found, wanted in losses:
        assert found == pytest.approx(wanted, rel=1e-4)


def test_another_network_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shop_batches, "ITEMS", 40)
    monkeypatch.setitem(steps.TASKS, "small", steps.Task(8, False, 1))
    text = PADDED.read_text().replace('/ self.settings["temperature"]', "")
    options = f'{{"against": "{written(tmp_path, text)}"}}'
    assert cell.main("steps", "small", options, str(tmp_path / "result.json")) == 2
    assert "computes something else" in capfd.readouterr().err
    assert not (tmp_path / "result.json").exists()


def test_batches_have_the_real_lengths() -> None:
    batch = shop_batches.make_batch(20_000, shop_batches.TRAINING, 0)
    assert float(batch.item_seq_len.float().mean()) == pytest.approx(3.81, abs=0.1)
    valid = torch.arange(shop_batches.MAX_LEN) < batch.item_seq_len[:, None]
    assert bool((batch.item_seq > 0).eq(valid).all())
    assert bool((batch.timestamps > 0).eq(valid).all())
    assert int(batch.item_seq.max()) == shop_batches.ITEMS
    assert int(shop_batches.make_batch(500, shop_batches.TEST, 0).item_seq_len.min()) == 4
