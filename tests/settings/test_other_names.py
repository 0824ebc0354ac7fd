"""Keys of other programs and older versions: each says what it is called here, whichever way it comes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from recbole.config import Config
from shop import settings

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run import cli
from recbole_mmm4rec.settings.keys import known_keys
from recbole_mmm4rec.settings.other_names import OLDER, PUBLISHED, REMOVED, WITHOUT_EFFECT
from recbole_mmm4rec.settings.registry import SETTINGS

# a fine-tuning configuration as the published program has them: its keys, with values of ours
PUBLISHED_FILE = {
    **{"seed": 2020, "logger": "a name", "hidden_size": 64, "inner_size": 64, "num_layers": 1, "loss_type": "CE"},
    **{"chunk_size": 32, "norm_eps": 1e-12, "model_compile": False, "large_file_mode": False, "is_linecache": False},
    **{"float32_precise": "high", "is_kai_ming_init": False, "is_modality_bias": True, "text_embed_path": "a.pth"},
    **{"vision_embed_path": "b.pth", "batch_size": 64, "accumulation_steps": 2, "dataset_path": "./shop"},
    **{"max_len": 20, "shuffle": True, "Epoch": 3, "optimizer_lr": 1e-4, "weight_decay": 0.005, "stop_epoch": 10},
    **{"temperature": 0.8, "pretrain_checkpoint": "c.ckpt", "top_k": [10], "metrics": ["Hit"], "is_pbar": True},
    **{"valid_metric": "Hit@10", "metrics_table_displays": True},
}


def test_a_published_configuration_is_met_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(yaml.safe_dump(PUBLISHED_FILE, sort_keys=False))
    assert cli.main([f"--config_files={file}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: config file '{file}': this is a configuration of the published program; here ")
    for words in ("batch_size is train_batch_size", "max_len is MAX_ITEM_LIST_LENGTH", "Epoch is epochs"):
        assert words in error
    for key in set(PUBLISHED_FILE) & set(PUBLISHED):
        assert f"{key} is {PUBLISHED[key]}" in error
    idle = error.partition("leave out what has no counterpart: ")[2].strip().split(", ")
    assert set(idle) == set(PUBLISHED_FILE) & {*WITHOUT_EFFECT, *REMOVED}


@pytest.mark.parametrize(
    ("model", "argument", "message"),
    [
        ("MMM4Rec", "--batch_size=64", "did you mean 'train_batch_size'?"),
        ("SASRec", "--batch_size=64", "did you mean 'train_batch_size'?"),
        ("MMM4Rec", "--pretrain_checkpoint=a.ckpt", "did you mean 'pretrained'?"),
        ("MMM4Rec", "--max_len=20", "did you mean 'MAX_ITEM_LIST_LENGTH'?"),
        ("MMM4Rec", "--in_batch_loss=True", "'in_batch_loss' is not used; write loss_type: in_batch"),
        ("BPR", "--neg_sampling={'uniform': 1}", "did you mean 'train_neg_sample_args'?"),
        ("BPR", "--split_ratio=[8,1,1]", "'split_ratio' is not used; write eval_args, such as {'split'"),
        ("BPR", "--min_user_inter_num=5", "'min_user_inter_num' is not used; write user_inter_num_interval, such as"),
        ("BPR", "--config_file=a.yaml", "did you mean 'config_files'?"),
        ("BPR", "--device=cpu", "--device=cpu: it cannot be set; write use_gpu=False for the processor"),
        ("MMM4Rec", "--device=cuda:1", "or gpu_id=1 for the second GPU"),
        ("BPR", "--single_spec=False", "--single_spec=False: it cannot be set; nproc and world_size decide it"),
        ("BPR", "--eval_type=ranking", "it cannot be set; metrics decides it"),
    ],
)
def test_near_misses(capsys: pytest.CaptureFixture[str], model: str, argument: str, message: str) -> None:
    assert cli.main([f"--model={model}", "--dataset=shop", argument]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("key", REMOVED)
def test_a_removed_setting_is_told_whichever_way_it_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(f"epochs: 1\n{key}: 4\n")
    for arguments, start in (
        ([f"--{key}=4"], f"error: --{key}=4: "),
        ([f"--config_files={file}"], f"error: config file '{file}', line 2: {key}=4: "),
    ):
        assert cli.main(["--model=MMM4Rec", "--dataset=shop", *arguments]) == 2
        assert capsys.readouterr().err == f"{start}{REMOVED[key]}\n"
    for given in ({"config_dict": settings(tmp_path, **{key: 4})}, {"config_file_list": [str(file)]}):
        with pytest.raises(UserError, match=f"{key}=4: ") as caught:
            Config("MMM4Rec", "shop", **given)
        assert str(caught.value).endswith(REMOVED[key])
    Config("SASRec", "shop", config_dict=settings(tmp_path, **{key: 4}))  # another model may have one of that name


@pytest.mark.parametrize("key", ["neg_sampling", "split_ratio", "device"])
def test_what_recbole_ignores_is_refused_in_python_too(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match=f"^{key}='cpu': "):
        Config("BPR", "shop", config_dict=settings(tmp_path, **{key: "cpu"}))


def test_the_tables_name_what_there_is() -> None:
    known = {row.name for row in SETTINGS}
    for name in (*PUBLISHED.values(), *OLDER.values()):
        assert set(name.partition(":")[0].partition(",")[0].split(" and ")) <= known
    assert not (set(REMOVED) | set(PUBLISHED) | set(WITHOUT_EFFECT)) & known_keys("MMM4Rec")
    assert not set(OLDER) & known_keys("BPR")
