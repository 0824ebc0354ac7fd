"""What holds for every rival: refusals in one line, checkpoints, the kept model, neighbours, comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import NAME, write_pattern_shop
from rival_shop import TINY, shop_run

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.recommend.recommender import Recommender
from recbole_mmm4rec.run.cli import main
from recbole_mmm4rec.run.quick_start import load_data_and_model, run_recbole
from recbole_mmm4rec.settings.defaults import properties_dir
from recbole_mmm4rec.settings.homes import PRETRAINED, RIVALS

pytestmark = pytest.mark.usefixtures("own_folder")


COMPARISONS = ("cold", "demo", "ml-100k", "paper", "protocols", "quick", "scientific")
"""Files of ``properties/compare`` that set MMM4Rec beside other models; the others compare it with itself."""


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_comparison_with_others_has_every_rival_and_counts(name: str) -> None:
    rows = read_comparison(properties_dir() / "compare" / f"{name}.yaml").rows
    assert set(RIVALS) <= {row.model for row in rows}
    counted = {row.model for row in rows if row.settings.get("neighbour_weight")}
    assert {"SASRec", "MMM4Rec"} <= counted
    assert "Neighbours" in {row.model for row in rows}
    sources = {row.model: row.pretrained.dataset for row in rows if row.pretrained}
    if name in ("paper", "scientific"):
        assert sources.keys() == set(PRETRAINED)
        assert len(set(sources.values())) == 1


@pytest.mark.parametrize("model", RIVALS)
def test_a_trained_one_is_tested_kept_and_loaded_again(tmp_path: Path, model: str) -> None:
    write_pattern_shop(tmp_path)
    places = {"data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved")}
    result = run_recbole(model, NAME, config_dict={**TINY, **places, "epochs": 3, "neighbour_weight": 3})
    assert result["test_result"]["hit@10"] > 0.3
    assert result["model_folder"] is None
    _, loaded, _, _, _, test = load_data_and_model(result["saved_model_file"])
    batch = next(iter(test))[0]
    with torch.no_grad():
        scores = loaded.eval().full_sort_predict(batch)
    assert scores.shape == (len(batch), 31)
    assert bool(torch.isinf(scores[:, 0]).all())
    assert bool(torch.isfinite(scores[:, 1:]).all())
    with pytest.raises(UserError) as error:
        Recommender.load(result["saved_model_file"])
    assert "\n" not in str(error.value)
    assert "model folder" in str(error.value)


@pytest.mark.parametrize("model", RIVALS)
@pytest.mark.parametrize("times", ["negative", "equal", "missing"])
def test_only_a_model_of_time_refuses_what_has_no_gaps(tmp_path: Path, model: str, times: str) -> None:
    """Negative or equal times have an order all the same; a missing one has none."""
    write_pattern_shop(tmp_path)
    file = tmp_path / NAME / f"{NAME}.inter"
    header, *lines = [line.split("\t") for line in file.read_text().splitlines()]
    stamps = {"negative": range(-len(lines), 0), "equal": [5] * len(lines), "missing": [""] * len(lines)}[times]
    rows = [header, *([*line[:2], str(stamp)] for line, stamp in zip(lines, stamps, strict=True))]
    file.write_text("".join("\t".join(row) + "\n" for row in rows))
    if times == "missing" or model == "TiM4Rec":
        with pytest.raises(UserError, match=r"timestamp|time stamps"):
            shop_run(tmp_path, model)
    else:
        assert len(shop_run(tmp_path, model).train.dataset) > 100


@pytest.mark.parametrize("model", RIVALS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_type": "BPR"}, "loss_type=BPR: it must be CE"),
        ({"hidden_size": 0}, "hidden_size=0: it must be a whole number, at least 1"),
        ({"learning_rates": "{'norm': 0.1}"}, "has no such thing, only MMM4Rec; leave it out"),
        (
            {"train_neg_sample_args": "{'distribution': 'uniform', 'sample_num': 2}"},
            "take none of RecBole's sampled negatives, which would count as targets; leave it out",
        ),
    ],
)
def test_what_it_cannot_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, changes: dict[str, Any], message: str
) -> None:
    write_pattern_shop(tmp_path)
    given = {"data_path": tmp_path, **changes}
    assert main([f"--model={model}", f"--dataset={NAME}", *(f"--{key}={value}" for key, value in given.items())]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("key", ["stage=pretrain", "pretrained=some.safetensors", "frozen=norm"])
def test_those_of_ids_cannot_be_pretrained(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    write_pattern_shop(tmp_path)
    assert main(["--model=Mamba4Rec", f"--dataset={NAME}", f"--data_path={tmp_path}", f"--{key}"]) == 2
    assert "Mamba4Rec has no such thing, only MMM4Rec, UniSRec" in capsys.readouterr().err


@pytest.mark.parametrize("model", RIVALS)
def test_padding_and_neighbours_in_the_batch_change_nothing(tmp_path: Path, model: str) -> None:
    net = shop_run(tmp_path, model).model.eval()
    batch = next(iter(shop_run(tmp_path, model).train))
    with torch.no_grad():
        whole = net.both(batch)[0]
        alone = torch.cat([net.both(batch[row : row + 1])[0] for row in range(8)])
    torch.testing.assert_close(whole[:8], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", RIVALS)
def test_half_precision(tmp_path: Path, model: str) -> None:
    plainly = {"ssd_backend": "torch"} if model == "TiM4Rec" else {}  # numba would compile its loops anew
    run = shop_run(tmp_path, model, enable_amp=True, epochs=1, **plainly)
    net, batch = run.model, next(iter(run.train))
    net.eval()
    exact = net.calculate_loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net.calculate_loss(batch)
    rough.backward()
    torch.testing.assert_close(rough.float(), exact.float(), rtol=0.05, atol=0.05)
    assert all(weight.grad is None or bool(torch.isfinite(weight.grad).all()) for weight in net.parameters())
