"""The repairs of how RecBole orders, caches and fetches data, on what was broken."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import recbole.data.dataset.dataset
import recbole.trainer.hyper_tuning
import recbole.trainer.trainer
import torch
import torch.distributed as dist
from pattern_shop import NAME, pattern_settings, write_pattern_shop
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import KGDataLoaderState
from shop import GRAPH, prepare, settings, write_graph, write_shop

from recbole_mmm4rec.compat.caches import fingerprint
from recbole_mmm4rec.distributed.batches import JointBatches

SEQUENTIAL = {
    "train_neg_sample_args": None,
    "shuffle": False,
    "eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}},
}


def rows_of(dataset: Any, loader: Any) -> list[tuple[str, list[str], str]]:
    """User, history and next item of every row, as tokens."""
    feat = loader._dataset.inter_feat
    users, items = dataset.field2id_token["user_id"], dataset.field2id_token["item_id"]
    columns = (feat["user_id"], feat["item_id_list"], feat["item_length"], feat["item_id"])
    return [
        (str(users[user]), [str(item) for item in items[history[:length]]], str(items[target]))
        for user, history, length, target in zip(*(column.numpy() for column in columns), strict=True)
    ]


# The order of time


@pytest.fixture(scope="module")
def ml_100k() -> tuple[Any, Any, Any, Any]:
    """RecBole's own copy of MovieLens 100K, prepared for SASRec."""
    return prepare(Config("SASRec", "ml-100k", config_dict={**SEQUENTIAL, "MAX_ITEM_LIST_LENGTH": 10}))


def raw_sequences(file: Path, separator: str = "\t") -> dict[str, list[str]]:
    """Items of each user in the order of time, equal stamps in the order of the file."""
    table = pd.read_csv(file, sep=separator, dtype=str)
    table.columns = [column.split(":")[0] for column in table.columns]
    table["timestamp"] = table["timestamp"].astype(float).astype("int64")
    table = table.sort_values("timestamp", kind="stable")
    return {str(user): list(group) for user, group in table.groupby("user_id")["item_id"]}


def test_real_sequences_are_in_the_order_of_time_and_users_tested_on_their_last_item(
    ml_100k: tuple[Any, Any, Any, Any],
) -> None:
    dataset, train, valid, test = ml_100k
    truth = raw_sequences(Path(dataset.dataset_path) / "ml-100k.inter")
    for loader, back in ((test, 1), (valid, 2)):
        rows = rows_of(dataset, loader)
        assert len(rows) == len(truth) == 943
        for user, history, target in rows:
            items = truth[user]
            assert target == items[-back]
            assert history == items[:-back][-10:]
    seen = dict.fromkeys(truth, 0)
    for user, history, target in rows_of(dataset, train):
        seen[user] += 1
        place = seen[user]
        assert target == truth[user][place]
        assert history == truth[user][max(0, place - 10) : place]
    assert all(count == len(truth[user]) - 3 for user, count in seen.items())


@pytest.mark.parametrize("duplicates", [None, "first"])
def test_general_models_ordered_by_time_test_on_the_last_items(tmp_path: Path, duplicates: str | None) -> None:
    write_shop(tmp_path)
    truth = raw_sequences(tmp_path / "shop" / "shop.inter")
    order = {"order": "TO", "split": {"LS": "valid_and_test"}, "group_by": "user"}
    config = Config("BPR", "shop", config_dict=settings(tmp_path, eval_args=order, rm_dup_inter=duplicates))
    dataset, _, _, test = prepare(config)
    feat = test._dataset.inter_feat
    users, items = dataset.id2token("user_id", feat["user_id"]), dataset.id2token("item_id", feat["item_id"])
    assert dict(zip(map(str, users), map(str, items), strict=True)) == {user: seq[-1] for user, seq in truth.items()}


def test_a_split_over_all_users_cuts_at_one_moment(tmp_path: Path) -> None:
    """All stamps are within 60 s, which float32 cannot tell apart."""
    table = write_shop(tmp_path)
    split = {"order": "TO", "split": {"RS": [0.5, 0.25, 0.25]}, "group_by": None}
    config = Config("SASRec", "shop", config_dict=settings(tmp_path, **{**SEQUENTIAL, "eval_args": split}))
    dataset, *loaders = prepare(config)
    stamps = {(row.user_id, row.item_id): row.timestamp for row in table.itertuples()}
    moments = [[stamps[user, target] for user, _, target in rows_of(dataset, loader)] for loader in loaders]
    assert all(part for part in moments)
    assert max(moments[0]) <= min(moments[1])
    assert max(moments[1]) <= min(moments[2])


def test_random_order_is_recboles(tmp_path: Path) -> None:
    table = write_shop(tmp_path)
    dataset = create_dataset(Config("BPR", "shop", config_dict=settings(tmp_path)))
    dataset._change_feat_format()
    assert [str(item) for item in dataset.id2token("item_id", dataset.inter_feat["item_id"])] == list(table["item_id"])


def test_ready_made_splits_keep_their_files_apart(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "valid", "test")):
        write_shop(tmp_path / part, "shop", users=3 + number, seed=number)
        target = tmp_path / "shop" / f"shop.{part}.inter"
        target.parent.mkdir(exist_ok=True)
        (tmp_path / part / "shop" / "shop.inter").rename(target)
    changes = {"benchmark_filename": ["train", "valid", "test"], "eval_args": {"order": "TO"}}
    _, *loaders = prepare(Config("BPR", "shop", config_dict=settings(tmp_path, **changes)))
    assert [len(loader._dataset) for loader in loaders] == [30, 40, 50]


@pytest.mark.parametrize("ascending", [True, False])
def test_tensors_sort_stably_without_warnings(ascending: bool) -> None:
    interaction = Interaction({"key": torch.tensor([2.0, 1.0, 2.0, 1.0]), "row": torch.arange(4)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if ascending:
            interaction.sort(by="key")
            assert interaction["row"].tolist() == [1, 3, 0, 2]
        else:
            interaction.sort(by=["row"], ascending=True)
            assert interaction["row"].tolist() == [0, 1, 2, 3]


# Caches and downloads


@pytest.mark.parametrize(
    ("kept", "place"), [("save_dataset", "dataset_save_path"), ("save_dataloaders", "dataloaders_save_path")]
)
def test_what_is_kept_lies_where_it_was_asked_for(tmp_path: Path, kept: str, place: str) -> None:
    write_shop(tmp_path)
    file = tmp_path / "cache" / "kept.pth"
    changes = settings(tmp_path, **{kept: True, place: str(file)})
    for _ in range(2):
        config = Config("BPR", "shop", config_dict=changes)
        data_preparation(config, create_dataset(config))
        assert file.is_file()
        assert not list((tmp_path / "saved").glob("*.pth"))
    before = file.stat().st_mtime_ns
    config = Config("BPR", "shop", config_dict={**changes, kept: False})
    assert create_dataset(config).config is not None
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("kept", ["save_dataset", "save_dataloaders"])
def test_caches_are_used_again_and_give_the_same_run(
    tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(tmp_path)

    def batches(**changes: Any) -> list[list[int]]:
        config = Config("SASRec", "shop", config_dict=settings(tmp_path, **{**SEQUENTIAL, "shuffle": True, **changes}))
        return [batch["item_id"].tolist() for batch in prepare(config)[1]]

    plain = batches()
    assert batches(**{kept: True}) == plain
    skipped = "data_augmentation" if kept == "save_dataloaders" else "_load_data"
    monkeypatch.setattr(f"recbole.data.dataset.SequentialDataset.{skipped}", lambda *_: None)  # not needed any more
    assert batches() == plain
    assert not list((tmp_path / "saved").glob("*.tmp"))


def test_loaders_of_knowledge_aware_models_are_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole #1966."""
    write_shop(tmp_path)
    write_graph(tmp_path)

    def batches(**changes: Any) -> list[tuple[list[int], list[int]]]:
        config = Config("CKE", "shop", config_dict=settings(tmp_path, load_col=GRAPH, **changes))
        train = prepare(config)[1]
        train.set_mode(KGDataLoaderState.RSKG)
        return [(batch["item_id"].tolist(), batch["head_id"].tolist()) for batch in train]

    plain = batches(train_batch_size=32)
    assert batches(train_batch_size=32, save_dataloaders=True) == plain
    monkeypatch.setattr("recbole.data.dataset.KnowledgeBasedDataset.build", None)  # not needed any more
    assert batches(train_batch_size=32) == plain
    monkeypatch.undo()
    assert {len(items) for items, _ in batches(train_batch_size=64)[:-1]} == {64}  # not the size of what was saved


SAMPLED = {"distribution": "popularity", "sample_num": 2}


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("MMM4Rec", {"train_unit": "user"}),
        ("BPR", {"train_neg_sample_args": SAMPLED}),
        ("BERT4Rec", {}),
        ("BERT4Rec", {"transform": "crop_itemseq", "eta": 0.5}),
        ("BERT4Rec", {"mask_ratio": 0.7}),
        ("BERT4Rec", {"ft_ratio": 0.9}),
        ("SASRec", {"transform": "crop_itemseq", "eta": 0.3}),
        ("SASRec", {"transform": "reorder_itemseq", "beta": 0.3}),
    ],
)
def test_kept_loaders_are_as_new_ones_under_other_settings(tmp_path: Path, model: str, change: dict[str, Any]) -> None:
    ours = model == "MMM4Rec"
    (write_pattern_shop if ours else write_shop)(tmp_path)
    common = pattern_settings(tmp_path) if ours else settings(tmp_path, **({} if model == "BPR" else SEQUENTIAL))

    def made(folder: str, **changes: Any) -> tuple[Any, ...]:
        before = {"eta": 0.9, "beta": 0.9, "checkpoint_dir": str(tmp_path / folder)}
        config = Config(model, NAME if ours else "shop", config_dict={**common, **before, **changes})
        _, train, *others = prepare(config)
        transforms = [
            (type(loader.transform), {key: value for key, value in vars(loader.transform).items() if key != "config"})
            for loader in (train, *others)
        ]
        drawn = getattr(train._sampler, "distribution", None), getattr(train._sampler, "alpha", None)
        return type(train), transforms, drawn, train.times, train.step, config["MASK_ITEM_SEQ"], config["CROP_ITEM_SEQ"]

    transform = {"transform": change["transform"]} if model == "SASRec" else {}
    made("kept", save_dataloaders=True, **transform)
    assert made("kept", **change) == made("new", **change)


def test_loaders_of_one_process_are_not_those_of_several(tmp_path: Path) -> None:
    write_shop(tmp_path)
    given = settings(tmp_path, save_dataloaders=True)
    prepare(Config("BPR", "shop", config_dict=given))
    (kept,) = tmp_path.glob("saved/*-dataloader.pth")
    written = kept.read_bytes()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        train = prepare(Config("BPR", "shop", config_dict=given))[1]
    finally:
        dist.destroy_process_group()
    assert isinstance(train.batch_sampler, JointBatches)
    assert kept.read_bytes() == written


def test_an_interrupted_cache_is_no_cache(tmp_path: Path) -> None:
    write_shop(tmp_path)
    dataset = create_dataset(Config("BPR", "shop", config_dict=settings(tmp_path)))
    dataset.cannot_be_pickled = lambda: None
    with pytest.raises((pickle.PicklingError, AttributeError)):
        dataset.save()
    assert not list(tmp_path.glob("saved/*"))
    assert create_dataset(Config("BPR", "shop", config_dict=settings(tmp_path))).inter_num == 300


@pytest.mark.parametrize("change", ["file", "key"])
def test_a_cached_dataset_is_not_used_when_its_files_or_our_keys_changed(tmp_path: Path, change: str) -> None:
    write_shop(tmp_path)
    first = create_dataset(Config("BPR", "shop", config_dict=settings(tmp_path, save_dataset=True)))
    again = create_dataset(Config("BPR", "shop", config_dict=settings(tmp_path)))
    assert first.inter_num == again.inter_num == 300
    assert again.config["save_dataset"] is True  # the pickled one
    changes: dict[str, Any] = {}
    if change == "file":
        with (tmp_path / "shop" / "shop.inter").open("a") as file:
            file.write("u0\ti19\t1500000999\n")
    else:
        changes["candidates"] = "all"
    other = create_dataset(Config("BPR", "shop", config_dict=settings(tmp_path, **changes)))
    assert other.config["save_dataset"] is False
    assert other.inter_num == (301 if change == "file" else 300)


def test_the_fingerprint_covers_all_files_of_the_data_set_only(tmp_path: Path) -> None:
    assert fingerprint(tmp_path, "shop") == ""
    (tmp_path / "shop.inter").write_text("a")
    (tmp_path / "other.inter").write_text("a")
    before = fingerprint(tmp_path, "shop")
    assert before.startswith("shop.inter:1:")
    (tmp_path / "shop.item").write_text("bb")
    assert fingerprint(tmp_path, "shop").startswith(before + " shop.item:2:")


def test_the_fingerprint_covers_the_feature_stores(tmp_path: Path) -> None:
    for folder in ("features", "elsewhere"):
        (tmp_path / folder / "text").mkdir(parents=True)
        (tmp_path / folder / "text" / f"{folder}.npy").write_text("1")
    assert fingerprint(tmp_path, "shop").startswith("features/text/features.npy:1:")
    assert fingerprint(tmp_path, "shop", tmp_path / "elsewhere").startswith("features/text/elsewhere.npy:1:")


def test_the_fingerprint_knows_no_hidden_files(tmp_path: Path) -> None:
    """The cache of ``prep embed``, or a store that is being written."""
    store = tmp_path / "features" / "text"
    store.mkdir(parents=True)
    (store / "table.npy").write_text("1")
    before = fingerprint(tmp_path, "shop")
    for hidden in ("features/.cache/text", "features/.text.tmp", "features/text/.part"):
        (tmp_path / hidden).mkdir(parents=True)
        (tmp_path / hidden / "table.npy").write_text("1")
    (store / ".table.npy.tmp").write_text("1")
    assert fingerprint(tmp_path, "shop") == before != ""
    hidden = tmp_path / ".stores"
    (tmp_path / "features").rename(hidden)
    assert fingerprint(tmp_path, "shop", hidden) == before  # of a folder that is named itself all but that counts


def test_the_fingerprint_is_of_the_files_that_are_read(tmp_path: Path) -> None:
    """Also for ml-100k, of which there are two."""
    write_shop(tmp_path, "ml-100k")
    config = Config("BPR", "ml-100k", config_dict={"data_path": str(tmp_path)})
    assert config["data_fingerprint"] == fingerprint(tmp_path / "ml-100k", "ml-100k") != ""


def test_a_download_in_one_process_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = recbole.data.dataset.dataset
    monkeypatch.setattr(module, "decide_download", lambda _: True)
    monkeypatch.setattr(module, "download_url", lambda _, folder: str(Path(folder) / "ml-1m.zip"))
    monkeypatch.setattr(module, "extract_zip", lambda path, _: Path(path).touch())
    monkeypatch.setattr(
        module, "rename_atomic_files", lambda folder, *_: write_shop(Path(folder).parent / "x", "ml-1m")
    )
    columns = {"data_path": str(tmp_path), "load_col": None}
    with pytest.raises(ValueError, match=r"ml-1m\.inter not exist"):  # the stand-in unpacks it elsewhere
        create_dataset(Config("BPR", "ml-1m", config_dict=columns))
    assert (tmp_path / "x" / "ml-1m" / "ml-1m.inter").is_file()
