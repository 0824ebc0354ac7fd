"""Other models beside a run: the same protocol, one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pattern_shop import NAME, pattern_settings, write_pattern_shop

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run.baselines import check_comparable, protocol, run_baselines, table, unlike_users
from recbole_mmm4rec.run.build import build, make_config

pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_general_model_is_tested_on_the_same_targets_and_candidates(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    ours = make_config("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path))
    theirs = make_config("Pop", NAME, config_dict=protocol(ours))
    targets = {}
    for config in (ours, theirs):
        run = build(config, count_flops=False)
        dataset = run.test._dataset
        pairs = zip(dataset.inter_feat["user_id"].tolist(), dataset.inter_feat["item_id"].tolist(), strict=True)
        tokens = {(dataset.id2token("user_id", user), dataset.id2token("item_id", item)) for user, item in pairs}
        targets[config["model"]] = (tokens, run.dataset.item_num)
        # a sequential model ranks the items of the history, too
        history = [batch[1] for batch in run.test]
        assert all(part is None or len(part[0]) == 0 for part in history)
    assert targets["MMM4Rec"] == targets["Pop"]


def test_pop_beside_a_run(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    results = run_baselines(["Pop"], "MMM4Rec", NAME, [], pattern_settings(tmp_path))
    lines = table({"MMM4Rec": results["Pop"], **results}).splitlines()
    assert lines[0].split() == ["validation", "hit@1", "hit@10", "ndcg@1", "ndcg@10", "mrr@1", "mrr@10"]
    assert [line.split()[0] for line in lines if line] == ["validation", "MMM4Rec", "Pop", "test", "MMM4Rec", "Pop"]
    assert float(lines[2].split()[2]) == results["Pop"]["best_valid_result"]["hit@10"]


def test_a_failing_baseline_leaves_the_result(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    settings = pattern_settings(tmp_path, epochs=1)
    results = run_baselines(["DeepFM", "Pop"], "MMM4Rec", NAME, [], settings)
    assert results["Pop"]["test_result"]
    assert "DeepFM failed: " in table({"MMM4Rec": results["Pop"], **results})


def test_a_general_model_beside_all_items_is_refused(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    config = make_config("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path, candidates="all"))
    check_comparable(["SASRec"], config)
    with pytest.raises(UserError, match="Pop: it ranks items with interactions alone"):
        check_comparable(["SASRec", "Pop"], config)


def test_an_open_interval_is_the_same_for_all(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    settings = pattern_settings(tmp_path, user_inter_num_interval=(4, 8))
    ours = build(make_config("MMM4Rec", NAME, config_dict=dict(settings)), count_flops=False)
    told: list[dict[str, Any]] = []

    def noted(name: str, dataset: str, config_dict: dict[str, Any]) -> dict[str, Any]:
        told.append(config_dict)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recbole_mmm4rec.run.quick_start.run_recbole", noted)
        run_baselines(["SASRec"], "MMM4Rec", NAME, [], settings)
    theirs = build(make_config("SASRec", NAME, config_dict=told[0]), count_flops=False)
    assert set(ours.dataset.field2id_token["user_id"]) == set(theirs.dataset.field2id_token["user_id"])
    assert ours.dataset.user_num < 41  # those of four and of eight are gone


@pytest.mark.parametrize("split", ["RS", "TS"])
def test_targets_that_are_ranked_together_are_refused(tmp_path: Path, split: str) -> None:
    write_pattern_shop(tmp_path)
    split_by = {"eval_args": {"split": {split: [8, 1, 1]}, "order": "TO", "mode": "full"}}
    config = make_config("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path, **split_by))
    check_comparable(["SASRec"], config)
    with pytest.raises(UserError, match=r"Pop: under split .* all targets of a user together, and MMM4Rec one"):
        check_comparable(["SASRec", "Pop"], config)


def test_users_whom_only_some_models_are_tested_on_are_told(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    file = tmp_path / NAME / f"{NAME}.inter"
    rows = [f"few{user}\ts0c0\t1\nfew{user}\ts1c1\t2\n" for user in range(3)]
    file.write_text(file.read_text() + "".join(rows))
    settings = pattern_settings(tmp_path)
    results = run_baselines(["Pop"], "MMM4Rec", NAME, [], settings)
    said = table({"MMM4Rec": results["Pop"], **results}).splitlines()[-1]
    assert said.startswith("Pop: 3 users have two or three interactions, which sequential models divide otherwise")
    results = run_baselines(["Pop"], "MMM4Rec", NAME, [], {**settings, "user_inter_num_interval": "[4,inf)"})
    assert not results["Pop"]["note"]
    assert not unlike_users(["SASRec"], settings)
