"""Repairs that save memory and imports change nothing else."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.utils import create_samplers, data_preparation
from shop import python
from tiny_data import make_config, make_dataset, six_users
from torch.utils.data import RandomSampler

from recbole_mmm4rec.compat import loading
from recbole_mmm4rec.compat.caches import fingerprint
from recbole_mmm4rec.compat.loading import FrugalRandomSampler


@pytest.mark.parametrize("count", [1, 7, 40])
def test_the_frugal_sampler_keeps_pytorchs_orders(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(loading, "_PART", 3)
    orders = []
    for kind in (RandomSampler, FrugalRandomSampler):
        generator = torch.Generator().manual_seed(5)
        sampler = kind(range(count), generator=generator)
        orders.append([list(sampler) for _ in range(3)] + [generator.get_state().tolist()])
    assert orders[0] == orders[1]


def test_loaders_number_samples_and_shuffle_without_lists(tmp_path: Path) -> None:
    six_users(tmp_path)
    config = make_config(tmp_path, model="MMM4Rec", train_batch_size=4)
    train, valid, _ = data_preparation(config, make_dataset(tmp_path))
    assert vars(train)["dataset"] == range(len(train._dataset))  # the loader itself answers with RecBole's data set
    assert train.batch_sampler.sampler is train.sampler
    assert isinstance(train.sampler, FrugalRandomSampler)
    assert not isinstance(valid.sampler, RandomSampler)
    train.generator = train.sampler.generator = None
    assert isinstance(pickle.loads(pickle.dumps(train)).sampler, FrugalRandomSampler)


def test_samplers_share_an_empty_set(tmp_path: Path) -> None:
    six_users(tmp_path)
    config = make_config(tmp_path, model="MMM4Rec", eval_args={"mode": "uni3", "split": {"LS": "valid_and_test"}})
    dataset = make_dataset(tmp_path)
    _, valid, test = create_samplers(config, dataset, dataset.build())
    assert valid.used_ids.shape == (dataset.user_num,)
    assert len({id(used) for used in valid.used_ids}) == 1
    items = np.array([1, 2, 3])
    drawn = test.sample_by_user_ids(np.array([1, 1, 2]), items, 50).reshape(50, 3).numpy()
    assert not (drawn == items).any()


def test_scikit_learn_is_imported_when_a_metric_calls_it(tmp_path: Path) -> None:
    program = (
        "import sys, recbole_mmm4rec, numpy; from recbole.evaluator import metrics; "
        "assert 'sklearn' not in sys.modules; "
        "print(metrics.sk_auc(numpy.array([0, .5, 1]), numpy.array([0, 1, 1])), "
        "metrics.mean_squared_error([1, 2], [1, 4]), metrics.mean_absolute_error([1, 2], [1, 4]), "
        "'sklearn.linear_model' in sys.modules or 'sklearn.metrics' in sys.modules)"
    )
    run = python("-c", program, cwd=tmp_path)
    assert run.stdout.split() == ["0.75", "2.0", "1.0", "True"]


def test_files_of_a_set_whose_name_is_a_pattern_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "shop[1].inter").write_text("a")
    before = fingerprint(tmp_path, "shop[1]")
    (tmp_path / "shop[1].inter").write_text("ab")
    assert before
    assert fingerprint(tmp_path, "shop[1]") != before
