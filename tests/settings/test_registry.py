"""What follows from the rows of settings: the lists that other rooms work with, and the files that are made of them."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import pytest
from recbole.utils import argument_list

import recbole_mmm4rec
from recbole_mmm4rec.network import NetworkConfig
from recbole_mmm4rec.settings import __main__ as command
from recbole_mmm4rec.settings import table
from recbole_mmm4rec.settings.defaults import default_settings, properties_dir, recbole_properties, settings_in
from recbole_mmm4rec.settings.homes import MODELS, RIVALS
from recbole_mmm4rec.settings.keys import keys_of_other_models, known_keys
from recbole_mmm4rec.settings.models import model_modules, model_names
from recbole_mmm4rec.settings.reading import read_yaml
from recbole_mmm4rec.settings.registry import PARTS, SETTINGS, names, setting, settings_of
from recbole_mmm4rec.settings.setting import RECBOLE, Counts
from recbole_mmm4rec.settings.values import check_values

# Written down once more, and on purpose: a row that loses a flag changes what is compared, cached or gone on with.
EXPECTED = {
    Counts.SHAPE: {
        *("MAX_ITEM_LIST_LENGTH", "hidden_size", "inner_size", "num_layers", "d_state", "n_groups", "head_dim"),
        *("expand", "d_conv", "is_ffn", "is_time", "p2p_residual", "time_padding", "d_skip", "temperature"),
        *("modalities", "n_exps", "ablation", "n_layers", "n_heads", "hidden_act", "layer_norm_eps", "norm_eps"),
        "item_mm_fusion",
    },
    Counts.MEANING: {"time_padding", "temperature", "norm_eps", "item_mm_fusion"},
    Counts.COMMAND: {
        *("checkpoint_dir", "data_path", "gpu_id", "reproducibility", "seed", "show_progress", "state", "use_gpu"),
        *("worker", "model_folder"),
    },
    Counts.PROTOCOL: {
        *("fast_cpu", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "LIST_SUFFIX", "ITEM_LIST_LENGTH_FIELD"),
        *("MAX_ITEM_LIST_LENGTH", "field_separator", "seq_separator", "load_col", "unload_col", "rm_dup_inter"),
        *("val_interval", "filter_inter_by_user_or_item", "user_inter_num_interval", "item_inter_num_interval"),
        *("benchmark_filename", "normalize_all", "candidates", "feature_path", "eval_args", "repeatable", "metrics"),
        *("topk", "valid_metric", "metric_decimal_place", "stopping_step", "eval_step", "eval_batch_size", "encoding"),
        *("alias_of_item_id", "unused_col", "threshold", "tail_ratio"),
    },
    Counts.LAUNCH: {"nproc", "world_size", "ip", "port", "group_offset"},
    Counts.ELSEWHERE: {"model", "dataset", "config_files", "stage", "pretrained"},
    Counts.RESUMED: {
        *("checkpoint_dir", "data_path", "feature_path", "dataset_save_path", "dataloaders_save_path", "device"),
        *("show_progress", "state", "worker", "log_wandb", "wandb_project", "gpu_id", "use_gpu", "eval_batch_size"),
        *("save_dataset", "save_dataloaders", "features_in", "loss_decimal_place", "metric_decimal_place", "resume"),
        *("stopping_step", "pretrain_checkpoint_every", "local_rank", "offset", "ip", "port", "nproc", "world_size"),
        *(
            "single_spec",
            "launched",
            "started_from",
            "model_folder",
            "nan_policy",
            "checkpoint_every_minutes",
            "save_pth",
        ),
    },
}


@pytest.mark.parametrize("counts", EXPECTED, ids=str)
def test_what_settings_count_for(counts: Counts) -> None:
    assert set(names(counts)) == EXPECTED[counts]


def test_a_cached_data_set_is_compared_by_everything_that_changes_it() -> None:
    """RecBole's own list, and what it lacks."""
    own = {"feature_path", "features_in", "modalities", "candidates", "is_time", "selected_features", "eval_args"}
    lacking = {"encoding", "numerical_features", "discretization", "kg_reverse_r", "entity_kg_num_interval"}
    assert own | lacking <= set(names(Counts.DATA)) <= set(argument_list.dataset_arguments)
    assert {"load_col", "user_inter_num_interval", "threshold", "MAX_ITEM_LIST_LENGTH"} <= set(names(Counts.DATA))


def test_what_a_search_may_try() -> None:
    fixed = set(names(Counts.FIXED))
    assert {"metrics", "eval_args", "load_col", "seed", "stage", "gpu_id", "nproc", "candidates"} <= fixed
    assert not fixed & {"learning_rate", "hidden_size", "MAX_ITEM_LIST_LENGTH", "train_batch_size", "neighbour_weight"}


def test_every_setting_has_one_row_for_each_kind_of_model() -> None:
    for ours in (False, True):
        listed = [row.name for row in SETTINGS if row.ours == ours and not row.models]
        assert len(listed) == len(set(listed))
    for model in (*MODELS, *RIVALS):
        named = [row.name for row in SETTINGS if model in row.models]
        assert len(named) == len(set(named))
    assert {model for row in SETTINGS for model in row.models} <= set(RIVALS)
    assert all(row.about and row.kind.short for row in SETTINGS)
    assert all(row.instead for row in SETTINGS if Counts.COMPUTED in row.counts)


def test_every_flag_is_explained() -> None:
    assert set(table.WORDS) == {flag for flag in Counts if flag}  # Python 3.10 counts nothing among them


def test_the_networks_settings_are_rows() -> None:
    fields = {entry.name: entry for entry in dataclasses.fields(NetworkConfig)}
    assert set(fields) - {"max_len"} == {row.name for row in PARTS["Network"]}
    for name, entry in fields.items():
        assert entry.default == setting("MAX_ITEM_LIST_LENGTH" if name == "max_len" else name).default


def test_defaults_stand_in_the_rows_and_can_be_used() -> None:
    written = read_yaml(properties_dir() / "model" / "MMM4Rec.yaml")
    rows = {row.name: row.default for row in SETTINGS if row.default is not RECBOLE}
    assert json.dumps(written) == json.dumps(rows)
    check_values(default_settings("MMM4Rec"), "MMM4Rec")


@pytest.mark.parametrize("path", table.files(), ids=lambda path: path.name)
def test_files_made_of_the_rows_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == table.files()[path], "python -m recbole_mmm4rec.settings --write"


def test_every_row_stands_in_the_documentation() -> None:
    text = table.docs_text()
    assert [row.name for row in SETTINGS if f"\n| `{row.name}` |" not in text] == []


def test_the_command_writes_what_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made.yaml"
    monkeypatch.setattr(command, "files", lambda: {file: "a: 1\n"})
    assert command.main([]) == 1
    assert "out of date" in capsys.readouterr().out
    assert command.main(["--write"]) == 0
    assert file.read_text() == "a: 1\n"
    assert command.main([]) == 0
    assert command.main(["--wrote"]) == 2


@pytest.mark.parametrize("file", sorted((properties_dir() / "model").glob("*.yaml")), ids=lambda file: file.stem)
def test_our_own_files_use_known_keys_with_usable_values(file: Path) -> None:
    content, model = read_yaml(file), file.stem.partition("-")[0]
    assert set(content) <= known_keys(model)
    check_values(content, model)


@pytest.mark.parametrize("model", model_names())
def test_recboles_defaults_are_usable(model: str) -> None:
    """A check that refuses what RecBole itself sets would refuse every run."""
    folders = ("dataset", "quick_start_config")
    files = [file for folder in folders for file in sorted((recbole_properties() / folder).glob("*.yaml"))]
    for file in files:
        if not file.stem.endswith("url"):
            check_values({**default_settings(model), **settings_in(file)}, model)


def test_known_keys() -> None:
    assert {"has_residual"} <= known_keys("AutoInt")
    assert "has_residual" not in known_keys("SASRec")
    assert {"sim", "tau"} <= known_keys("FEARec")
    assert {"reg_weight", "tail_ratio", "mask_ratio"} <= known_keys("BPR")
    assert {"hidden_size", "candidates", "resume", "selected_features"} <= known_keys("SASRec")
    assert not {"d_state", "modalities", "is_time"} & known_keys("SASRec")
    assert {"d_state", "modalities"} <= keys_of_other_models()
    assert not {"max_len", "whitening", "config_file"} & known_keys("MMM4Rec")


def test_neighbours_are_judged_as_mmm4rec_is() -> None:
    given = read_yaml(properties_dir() / "model" / "Neighbours.yaml")
    own = {name for name, value in given.items() if value != setting(name).default}
    assert own == {"neighbour_weight", "epochs"}
    preset = read_yaml(properties_dir() / "model" / "MMM4Rec-neighbours.yaml")
    assert {name for name, value in preset.items() if value != setting(name).default} == {"neighbour_weight"}


@pytest.mark.parametrize("model", RIVALS)
def test_rivals_are_judged_as_mmm4rec_is(model: str) -> None:
    given = read_yaml(properties_dir() / "model" / f"{model}.yaml")
    for key in ("load_col", "metrics", "topk", "valid_metric", "eval_batch_size", "train_neg_sample_args"):
        assert given[key] == setting(key).default
    rows = {row.name for row in SETTINGS if model in row.models}
    assert rows <= set(given), "a setting without a default"


def test_models() -> None:
    assert {"MMM4Rec", "SASRec", "lightgbm"} <= set(model_names())
    assert model_modules()["sasrec"] == "recbole.model.sequential_recommender.sasrec"
    assert set(settings_of("SASRec")) < set(settings_of(MODELS[0]))


def read_keys(file: Path) -> set[str]:
    """The keys that a module reads as ``config["key"]``."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    parts = [node for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
    named = [node for node in parts if ast.unparse(node.value).rpartition(".")[2] == "config"]
    return {node.slice.value for node in named if isinstance(node.slice, ast.Constant)}


PROGRAM = sorted(Path(recbole_mmm4rec.__file__).parent.rglob("*.py"))
PROGRAM.remove(Path(recbole_mmm4rec.__file__).parent / "tune" / "ray_search.py")  # Ray's configuration, not RecBole's


@pytest.mark.parametrize("file", [file for file in PROGRAM if read_keys(file)], ids=lambda file: file.stem)
def test_every_setting_that_the_program_reads_has_a_row(file: Path) -> None:
    assert {str(key) for key in read_keys(file)} <= {row.name for row in SETTINGS}
